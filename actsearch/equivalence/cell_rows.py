"""What sub-terms and rows are on each cell of a quadrant: a maximum is one of its operands on most.

max(s, a) and max(s, b) are equal where a and b are, and where both are ≤ s. So two rows are equal
on a quadrant if on each cell they come down to the same production over the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.cells import Cells
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.term_tables import LARGER, SMALLER, Place, Shape, Side
from actsearch.grammar.expression import Apply, Expression

WHOLE = {"max": (LARGER, SMALLER), "min": (SMALLER, LARGER)}
"""Which order makes the first operand, and which the second, the value of the operator."""
_NEITHER = -1
_MEMO_SIZE = 4_000

Numbers = NDArray[np.int64]


def chooses(template: Expression) -> bool:
    """Whether a production is the larger, or the smaller, of its two operands."""
    return (
        isinstance(template, Apply)
        and template.operator.name in WHOLE
        and template.arguments == (placeholder(0), placeholder(1))
    )


class CellRows:
    """Numbers of the functions that sub-terms and rows are on each cell of a quadrant.

    Args:
        found: the partition.
        cells: bounds on the quadrant.
        function: the number of a class's function on the whole quadrant.
        applied: the number of a production over such functions; None where it has none.
    """

    def __init__(
        self,
        found: Partition,
        cells: Cells,
        function: Callable[[Place, int], int],
        applied: Callable[[Expression, Sequence[int]], int | None],
    ) -> None:
        self._found = found
        self._cells = cells
        self._function = function
        self._applied = applied
        self._local: dict[tuple[object, ...], int] = {}
        self._known: Memo[tuple[Place, int], Numbers] = Memo(_MEMO_SIZE)
        self._rows: Memo[int, Numbers] = Memo(_MEMO_SIZE)

    def equal(self, first: int, second: int) -> bool:
        """Whether two rows have the same values on each cell, wherever both are defined."""
        return bool(np.all(self._of_row(first) == self._of_row(second)))

    def _of_row(self, row: int) -> Numbers:
        known = self._rows.get(row)
        if known is None:
            self._rows.make_room()
            shape, children = self._found.term(row)
            known = self._rows[row] = self._made(self._found.shapes[shape], children)
        return known

    def _of_class(self, place: Place, number: int) -> Numbers:
        known = self._known.get((place, number))
        if known is None:
            self._known.make_room()
            whole = self._function(place, number)
            shape, children = self._found.builder.table(place).firsts[number]
            own = self._found.builder.table(place).shapes[shape]
            known = self._made(own, children, whole)
            self._known[place, number] = known
        return known

    def _made(self, shape: Shape, children: Sequence[int], whole: int | None = None) -> Numbers:
        """The function of a production over some classes on each cell.

        Args:
            shape: the production.
            children: the classes.
            whole: its number on the quadrant, which counts where no operand is another function.
        """
        template = self._found.builder.template(shape.production)
        if template is placeholder(0):
            return self._of_class(shape.places[0], children[0])
        parts = [self._of_class(p, c) for p, c in zip(shape.places, children, strict=True)]
        if not parts:
            assert whole is not None
            return np.full((1, 1), whole)
        chosen: Numbers | None = None
        if chooses(template):
            chosen = self._chosen(template, shape.places, children)
            parts.append(chosen)
        parts = list(np.broadcast_arrays(*parts))
        plain = [self._function(p, c) for p, c in zip(shape.places, children, strict=True)]
        columns, inverse = _distinct(np.stack([part.reshape(-1) for part in parts]))
        numbers = []
        for column in columns.T.tolist():
            which = column.pop() if chosen is not None else _NEITHER
            if which != _NEITHER:
                numbers.append(column[which])
            elif whole is not None and column == plain:
                numbers.append(whole)
            else:
                numbers.append(self._number(template, column))
        return np.array(numbers)[inverse].reshape(parts[0].shape)

    def _chosen(
        self, template: Expression, places: Sequence[Place], children: Sequence[int]
    ) -> Numbers:
        """Which operand a maximum or minimum is on each cell."""
        assert isinstance(template, Apply)
        orders = self._cells.order(*map(Side, places, children))
        own, other = WHOLE[template.operator.name]
        return np.where(orders & own, 0, np.where(orders & other, 1, _NEITHER))

    def _number(self, template: Expression, operands: Sequence[int]) -> int:
        """The number of a production over functions: negative if it is none of the quadrant."""
        if chooses(template):
            operands = sorted(operands)
        known = self._local.get((template, *operands))
        if known is None:
            if min(operands) >= 0 and not chooses(template):
                known = self._applied(template, operands)
            known = -1 - len(self._local) if known is None else known
            self._local[template, *operands] = known
        return known


def _distinct(columns: Numbers) -> tuple[Numbers, Numbers]:
    """The distinct columns of a table of moderate whole numbers, and which of them each one is."""
    packed = np.zeros(columns.shape[1], dtype=np.int64)
    for row in columns:
        low, high = int(row.min()), int(row.max())
        packed = packed * (high - low + 1) + (row - low)
    _, places, inverse = np.unique(packed, return_index=True, return_inverse=True)
    return columns[:, places], inverse
