"""What sub-terms are: productions over classes of smaller terms, in tables of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from actsearch.equivalence.batches import Floats
from actsearch.equivalence.certificate import Certificate
from actsearch.grammar.expression import Expression
from actsearch.grammar.space_grammar import Production

Place = tuple[int, int]
"""A rule and a number of units."""
Term = tuple[int, tuple[int, ...]]
"""Number of a shape, and the classes of its children."""

LARGER, SMALLER = 1, 2
"""Bits of an order: the first function is ≥ the second, and ≤."""


class Side(NamedTuple):
    """One of two functions that are compared: a class of sub-terms, or its negative.

    Attributes:
        place: of its table.
        number: in it.
        mirrored: whether its negative is meant.
    """

    place: Place
    number: int
    mirrored: bool = False


@dataclass(frozen=True)
class Shape:
    """A production with the number of units of each child: what terms are made from."""

    production: Production
    sizes: tuple[int, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Rule and units of each child."""
        return tuple(zip(self.production.children, self.sizes, strict=True))


@dataclass(eq=False)
class TermTable:
    """The classes of the terms that a rule derives with a number of units.

    Attributes:
        place: the rule and the number of units.
        shapes: how the terms are made.
        numbers: for each shape an array, child class × child class …, of the terms' classes.
        firsts: for each class its first term: shape and child classes.
        counts: for each class how many sentences it has.
        links: what joins the terms of a class (term, term, certificate).
        values: for each class its values at the pool, longdouble.
        forms: for some classes the function in normal form; `TermBuilder.form_of` fills it.
    """

    place: Place
    shapes: tuple[Shape, ...]
    numbers: list[np.ndarray[Any, np.dtype[np.int64]]]
    firsts: list[tuple[int, tuple[int, ...]]]
    counts: list[int]
    links: list[tuple[Term, Term, Certificate]] = field(default_factory=list)
    values: Floats = field(default_factory=lambda: np.empty(0))
    forms: dict[int, Expression] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.firsts)
