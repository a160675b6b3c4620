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
        found = {own: np.zeros(len(others), dtype=np.int8) for own, others in asked.items()}
        refuted = {
            own: self._samples.refuted(Side(small, own), large, others)
            for own, others in asked.items()
        }
        open_: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for own, others in asked.items():
            for place in np.flatnonzero(refuted[own] != _BOTH).tolist():
                open_[others[place]].append((own, place))
        for varying in (True, False):
            numbers = [n for n in open_ if self._builder.varies(large, n) == varying]
            for start in range(0, len(numbers), _CHUNK):
                chunk = numbers[start : start + _CHUNK]
                bounds = self._sizes.bounds(large, chunk)
                rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
                for row, number in enumerate(chunk):
                    for own, place in open_[number]:
                        rows[own].append((row, place))
                for own, pairs in rows.items():
                    first, places = Side(small, own), [place for _, place in pairs]
                    above = refuted[own][places] & LARGER == 0
                    chosen = bounds.rows(np.array([row for row, _ in pairs]))
                    shown = self._sizes.ordered(first, chosen, above)
                    for place, way, cells in zip(places, above.tolist(), shown, strict=True):
                        pair = first, Side(large, asked[own][place])
                        ordered = pair if way else pair[::-1]
                        if cells.all() or self._boxes.at_least(*ordered, ~cells):
                            found[own][place] = LARGER if way else SMALLER
        return found
