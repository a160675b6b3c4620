"""Which of two sub-terms is the larger where cells are too wide to show it: cells cut into boxes.

A box is an interval of |x| and one of |β|. Both functions are enclosed on the boxes; those whose
bounds still overlap are cut again. What touches, or has a pole, comes to no end, and stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.enclosures import (
    SIZE_OF_BETA,
    SIZE_OF_X,
    enclosed,
    range_of,
    whole_exponent,
)
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.intervals import (
    ALL,
    FUNCTIONS,
    Floats,
    Interval,
    larger,
    meet,
    minus,
    plus,
    power,
    scaled,
)
from actsearch.equivalence.term_tables import Place, Side
from actsearch.grammar.expression import Apply, Expression, Input, Parameter
from actsearch.grammar.operators import OPERATORS

if TYPE_CHECKING:
    from actsearch.equivalence.terms import TermBuilder

_MOST = 600
"""Boxes that are looked at in a round."""
_ROUNDS = 5
_LEFT = 0.7
"""Share of the boxes of a round that may stay open, if there is to be another one."""
_ZERO = np.zeros((1, 1))


class Subdivision:
    """Orders of classes of sub-terms on a quadrant.

    Args:
        builder: has the tables.
        quadrant: signs of x and β.
    """

    def __init__(self, builder: TermBuilder, quadrant: tuple[int, int]) -> None:
        self._builder = builder
        self._quadrant = quadrant

    @np.errstate(all="ignore")
    def at_least(self, first: Side, second: Side, cells: NDArray[np.bool_]) -> bool:
        """Whether the first is proved to be ≥ the second on some cells.

        Args:
            first: a class, or its negative.
            second: another one.
            cells: on which, of shape (|x|, |β|), or (|x|, 1) if β is in neither of them.
        """
        boxes = [edges[:, own] for edges, own in zip(_EDGES, np.nonzero(cells), strict=True)]
        if cells.shape[1] == 1:
            boxes[1] = np.broadcast_to([[0.0], [np.inf]], boxes[0].shape)
        for _ in range(_ROUNDS):
            boxes = _cut(boxes)
            count = boxes[0].shape[1]
            if not 0 < count <= _MOST:
                break
            a, b = self._values(first, second, boxes)
            left = np.flatnonzero(np.broadcast_to(a[0] < b[1], (count, 1)))
            if not len(left):
                return True
            if len(left) > _LEFT * count or (a[1] < b[0]).any():
                break
            boxes = [side[:, left] for side in boxes]
        return False

    def _values(self, first: Side, second: Side, boxes: Sequence[Floats]) -> list[Interval]:
        leaves: dict[Expression, Interval] = {}
        for leaf, sign, (low, high) in zip(_LEAVES, self._quadrant, boxes, strict=True):
            ends = low[:, None], high[:, None]
            leaves[leaf] = ends if sign > 0 else minus(ends)
        memo: dict[tuple[Place, int], Interval] = {}
        found = [self._class_value(s.place, s.number, leaves, memo) for s in (first, second)]
        return [minus(v) if s.mirrored else v for s, v in zip((first, second), found, strict=True)]

    def _class_value(
        self,
        place: Place,
        number: int,
        leaves: Mapping[Expression, Interval],
        memo: dict[tuple[Place, int], Interval],
    ) -> Interval:
        known = memo.get((place, number))
        if known is None:
            table = self._builder.table(place)
            shape, children = table.firsts[number]
            own = table.shapes[shape]
            nodes = dict(leaves)
            for child, below in enumerate(zip(own.places, children, strict=True)):
                nodes[placeholder(child)] = self._class_value(*below, leaves, memo)
            template = self._builder.template(own.production)
            for node in template.postorder():
                if node not in nodes:
                    nodes[node] = _node_value(node, nodes)
            known = memo[place, number] = nodes[template]
        return known


_LEAVES = Input("x"), Parameter(SHARED_NAME)
_EDGES = [np.stack(enclosed(leaf)).reshape(2, -1) for leaf in (SIZE_OF_X, SIZE_OF_BETA)]


def _cut(boxes: Sequence[Floats]) -> list[Floats]:
    """Each box in four: along both sides, or along the one that lies within (0, ∞).

    None at all if one of them has no such side.
    """
    can = [(low > 0) & np.isfinite(high) for low, high in boxes]
    parts: list[list[Floats]] = []
    for counts in ((2, 2), (4, 1), (1, 4), (1, 1)):
        own = np.flatnonzero((can[0] == (counts[0] > 1)) & (can[1] == (counts[1] > 1)))
        if len(own) and counts == (1, 1):
            return [np.empty((2, 0))] * 2
        x, beta = (_pieces(side[:, own], n) for side, n in zip(boxes, counts, strict=True))
        both = np.broadcast_arrays(x[:, :, None], beta[:, None])
        parts.append([side.reshape(2, -1) for side in both])
    return [np.concatenate(sides, axis=1) for sides in zip(*parts, strict=True)]


def _pieces(ends: Floats, count: int) -> Floats:
    """Intervals in equal parts, or in equal ratios where they are wide; shape (2, parts, …)."""
    low, high = ends
    shares = np.linspace(0, 1, count + 1)[:, None]
    if count == 1:
        return ends[:, None]
    edges = np.where(high > 2 * low, low * (high / low) ** shares, low + (high - low) * shares)
    edges[0], edges[-1] = low, high
    return np.stack([edges[:-1], edges[1:]])


def _node_value(node: Expression, known: Mapping[Expression, Interval]) -> Interval:
    """Bounds of a node from those of its operands."""
    if not isinstance(node, Apply):
        return enclosed(node)
    operands = [known[argument] for argument in node.arguments]
    name = node.operator.name
    if name == "pow":
        exponent = whole_exponent(node)
        return ALL if exponent is None else power(operands[0], exponent)
    if name in _OPERATORS:
        return _OPERATORS[name](*operands)
    if name in FUNCTIONS:
        return meet(FUNCTIONS[name](*operands[0]), range_of(OPERATORS[name]))
    return range_of(OPERATORS[name])


_OPERATORS: Mapping[str, Callable[..., Interval]] = {
    "neg": minus,
    "add": plus,
    "sub": lambda a, b: plus(a, minus(b)),
    "mul": scaled,
    "div": lambda a, b: scaled(a, power(b, -1)),
    "max": larger,
    "min": lambda a, b: minus(larger(minus(a), minus(b))),
    "relu": lambda a: larger(a, (_ZERO, _ZERO)),
}
