"""What an activation is like: its properties and the name that people know it by."""

from __future__ import annotations

from actsearch.analysis.cost import kernel_cost, saved_bytes, training_cost
from actsearch.analysis.names import known_name
from actsearch.analysis.pieces import Interval, Jump, Kink, Piece
from actsearch.analysis.properties import Properties, properties

__all__ = [
    "Interval",
    "Jump",
    "Kink",
    "Piece",
    "Properties",
    "kernel_cost",
    "known_name",
    "properties",
    "saved_bytes",
    "training_cost",
]
