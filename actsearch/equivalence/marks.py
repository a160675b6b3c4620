"""What stands in for a ball that is no number."""

from __future__ import annotations

from typing import Final


class Mark:
    """A value that is no number."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


UNDEFINED: Final = Mark("UNDEFINED")
"""Mathematics defines no value."""
UNDECIDED: Final = Mark("UNDECIDED")
"""Balls are too wide to tell."""
