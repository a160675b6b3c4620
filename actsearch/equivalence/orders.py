"""Which of two sub-terms is the larger on a quadrant: samples refute, bounds prove.

Cells are looked at for whole tables (`cells`). Pairs that these leave open, and that samples show
in one order, are looked at more closely: by sizes (`sizes`), then in boxes (`subdivision`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.cells import Cells
from actsearch.equivalence.class_samples import ClassSamples
from actsearch.equivalence.sizes import SizedCells
from actsearch.equivalence.subdivision import Subdivision
from actsearch.equivalence.term_tables import LARGER, SMALLER, Place, Side

if TYPE_CHECKING:
    from actsearch.equivalence.terms import TermBuilder

_CHUNK = 64
_BOTH = LARGER | SMALLER


class Orders:
    """Orders of classes of sub-terms on a quadrant.

    Args:
        builder: has the tables.
        quadrant: signs of x and β.
        cells: bounds on the quadrant.
    """

    def __init__(self, builder: TermBuilder, quadrant: tuple[int, int], cells: Cells) -> None:
        self._builder = builder
        self._cells = cells
        self._samples = ClassSamples(builder, quadrant)
        self._sizes = SizedCells(builder, quadrant)
        self._boxes = Subdivision(builder, quadrant)

    def of(self, first: Side, second: Side) -> int:
        """The orders of two classes, as bits."""
        refuted = self._samples.refuted_of(first, second)
        if refuted == _BOTH:
            return 0
        shown = self._cells.order(first, second)
        found = 0
        for bit, sides in ((LARGER, (first, second)), (SMALLER, (second, first))):
            if not refuted & bit:
                open_ = shown & bit == 0
                if not open_.any() or (refuted and self._boxes.at_least(*sides, open_)):
                    found |= bit
        return found

    def closer(self, first: Side, place: Place, chosen: Sequence[int]) -> NDArray[np.int8]:
        """The orders of a class and some of a table that cells leave open, looked at closely.

        Returns:
            Bits, of shape (chosen,).
        """
        found = np.zeros(len(chosen), dtype=np.int8)
        refuted = self._samples.refuted(first, place, chosen)
        varying = np.array([self._builder.varies(place, number) for number in chosen], dtype=bool)
        for side in (varying, ~varying):
            rows = np.flatnonzero(side & (refuted != _BOTH))
            for start in range(0, len(rows), _CHUNK):
                own = rows[start : start + _CHUNK]
                above = refuted[own] & LARGER == 0
                numbers = [chosen[row] for row in own]
                shown = self._sizes.ordered(first, place, numbers, above)
                for row, way, cells in zip(own.tolist(), above.tolist(), shown, strict=True):
                    pair = first, Side(place, chosen[row])
                    ordered = pair if way else pair[::-1]
                    if cells.all() or self._boxes.at_least(*ordered, ~cells):
                        found[row] = LARGER if way else SMALLER
        return found
