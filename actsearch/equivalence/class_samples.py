"""Float values of classes of sub-terms on a quadrant: an order that a sample refutes is not sought.

Nothing rests on these values, as in `samples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence import samples
from actsearch.equivalence.batches import Points
from actsearch.equivalence.term_tables import LARGER, SMALLER, Place, Side

if TYPE_CHECKING:
    from actsearch.equivalence.terms import TermBuilder


class ClassSamples:
    """Samples of the classes of sub-terms on a quadrant.

    Args:
        builder: has the tables.
        quadrant: signs of x and β.
    """

    def __init__(self, builder: TermBuilder, quadrant: tuple[int, int]) -> None:
        self._builder = builder
        x, beta = (
            tuple(sign * Fraction(float(size)) for size in sizes)
            for sign, sizes in zip(quadrant, samples.SIZES, strict=True)
        )
        self._pool = Points(x, beta)
        self._values: dict[Place, samples.Floats] = {}

    @np.errstate(all="ignore")
    def refuted(self, first: Side, place: Place, numbers: Sequence[int]) -> NDArray[np.int8]:
        """The orders (bits) of a class and some classes of a table that samples refute."""
        own = self._at(first.place)[first.number]
        return self._bits(-own if first.mirrored else own, self._at(place)[list(numbers)])

    @np.errstate(all="ignore")
    def refuted_of(self, first: Side, second: Side) -> int:
        """The orders (bits) of two classes that samples refute."""
        a, b = (self._at(side.place)[side.number] for side in (first, second))
        bits = self._bits(-a if first.mirrored else a, -b if second.mirrored else b)
        return int(bits)

    def _bits(self, first: samples.Floats, second: samples.Floats) -> NDArray[np.int8]:
        gap = first - second
        near = samples.ROUNDING * (np.abs(first) + np.abs(second)) + 1e-290
        above, below = (gap > near).any(axis=-1), (gap < -near).any(axis=-1)
        return np.asarray(SMALLER * above + LARGER * below, dtype=np.int8)

    def _at(self, place: Place) -> samples.Floats:
        known = self._values.get(place)
        if known is None:
            known = self._builder.values_at(self._builder.table(place), self._pool)
            known[np.isinf(known)] = np.nan
            self._values[place] = known
        return known
