"""Equivalence: which expressions are the same function, with a certificate for each answer.

    equivalent("x*sigmoid(x)", "x/(1 + exp(-x))")      a Verdict: truthy, and it says why
    deduplicate(space("swish", units=1))               the classes of a space, and the links
    EquivalenceIndex().find_or_add("relu(x)")          the same, one expression at a time

A candidate is a partial function of its inputs and parameters over the reals, as mathematics
defines it. Two are equal when they have the same domain, up to isolated points, and the same values
there.
"""

from __future__ import annotations

from actsearch.equivalence.certificate import Certificate, Witness
from actsearch.equivalence.changes import LEVELS, Change
from actsearch.equivalence.classes import (
    EquivalenceClasses,
    NotEquivalent,
    Step,
    deduplicate,
)
from actsearch.equivalence.facts import is_constant, undefined_at
from actsearch.equivalence.index import Doubt, EquivalenceIndex, Link
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.verdict import Verdict, equivalent

__all__ = [
    "LEVELS",
    "Certificate",
    "Change",
    "Doubt",
    "EquivalenceClasses",
    "EquivalenceIndex",
    "Link",
    "NotEquivalent",
    "Step",
    "Verdict",
    "Witness",
    "deduplicate",
    "equivalent",
    "is_constant",
    "normal_form",
    "undefined_at",
]
