"""Which of two sub-terms is the larger on a quadrant: samples refute, bounds prove.

Cells are looked at for whole tables (`cells`). Pairs that these leave open, and that samples show
in one order, are looked at more closely: by sizes (`sizes`), then in boxes (`subdivision`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.cells import Bounds, Cells
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

    def closer(
        self, small: Place, large: Place, asked: Mapping[int, Sequence[int]]
    ) -> dict[int, NDArray[np.int8]]:
        """The orders of classes of two tables that cells leave open, looked at closely.

        Args:
            small: a table.
            large: another one.
            asked: for each number in the first the numbers in the second that it is compared with.

        Returns:
            Bits, for each number in the first an array of shape (numbers in the second,).
        """
        refuted = {
            own: self._samples.refuted(Side(small, own), large, others)
            for own, others in asked.items()
        }
        found = {own: np.zeros_like(bits) for own, bits in refuted.items()}
        open_: dict[int, list[tuple[int, int]]] = defaultdict(list)  # where it is, by its number
        for own, others in asked.items():
            for place in np.flatnonzero(refuted[own] != _BOTH).tolist():
                open_[others[place]].append((own, place))
        for varying in (True, False):
            numbers = [n for n in open_ if self._builder.varies(large, n) == varying]
            for start in range(0, len(numbers), _CHUNK):
                chunk = numbers[start : start + _CHUNK]
                bounds = self._sizes.bounds(large, chunk)
                rows: dict[int, list[int]] = defaultdict(list)
                places: dict[int, list[int]] = defaultdict(list)
                for row, number in enumerate(chunk):
                    for own, place in open_[number]:
                        rows[own].append(row)
                        places[own].append(place)
                for own in rows:
                    seconds = [Side(large, chunk[row]) for row in rows[own]]
                    inside = bounds.rows(np.array(rows[own]))
                    above = refuted[own][places[own]] & LARGER == 0
                    found[own][places[own]] = self._proved(Side(small, own), seconds, inside, above)
        return found

    def _proved(
        self, first: Side, seconds: Sequence[Side], bounds: Bounds, above: NDArray[np.bool_]
    ) -> list[int]:
        """Bits of the orders of a class and others, within these bounds, that may be so (`above`)
        or the other way round.
        """
        shown = self._sizes.ordered(first, bounds, above)
        found = []
        for second, way, cells in zip(seconds, above.tolist(), shown, strict=True):
            ordered = (first, second) if way else (second, first)
            holds = cells.all() or self._boxes.at_least(*ordered, ~cells)
            found.append((LARGER if way else SMALLER) if holds else 0)
        return found
