"""How large functions are on the cells of a quadrant, and how far from 1: a closer look at orders.

Where functions grow together, vanish together or tend to 1 together, their values say nothing (tanh
x and 1 − exp(−x) far out), but log|f| and log|1 − f| do. These are bounded in three units: as they
are, by |x|, which tells exponentials apart on the last cell, and on the first and the last one by
log t with t = 1/|x| or |x|, which tells powers apart. That costs more than `cells`: it is for pairs
that these leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.cells import (
    LOG_T,
    UNKNOWN,
    Bounds,
    Cells,
    absolute,
    degree_of_exponential,
    mirrored,
    node_bounds,
)
from actsearch.equivalence.enclosures import SIZE_OF_X, enclosed, whole_exponent
from actsearch.equivalence.intervals import FUNCTIONS, Floats, Interval, added, finite_ends, meet
from actsearch.equivalence.term_tables import Side
from actsearch.grammar.expression import Apply, Expression

if TYPE_CHECKING:
    from actsearch.equivalence.terms import TermBuilder

_LOW, _HIGH = (end[None] for end in enclosed(SIZE_OF_X))
_CELLS = _LOW.shape[1]
_PARTS = _CELLS, _CELLS, 2
_LEAST = np.concatenate([np.ones_like(_LOW), _LOW, LOG_T], axis=1)
_MOST = np.concatenate([np.ones_like(_HIGH), _HIGH, np.full_like(LOG_T, np.inf)], axis=1)
"""The units on each cell: 1, |x| and, at the ends, log t."""
with np.errstate(divide="ignore"):
    _TWO = math.log(2) / _LEAST * (1 + 1e-9)
"""The most that log 2 is in these units."""
_ONE = np.ones(())
_INFINITE = -np.inf, np.inf
_SHARE = LOG_T[:, 1:] / _LOW[:, -1:] * (1 + 1e-9)
"""The most that log t is by |x| on the last cell."""


@dataclass(frozen=True)
class Sizes(Bounds):
    """Bounds of a function on all cells, and those of its size.

    Attributes:
        size: of log|f|, in units of 1 and of |x| on all cells, and of log t on the first and last.
        gap: of log|1 − f|, in the same units.
    """

    size: Interval
    gap: Interval

    @property
    def all(self) -> tuple[Interval, ...]:
        """All that is bounded, in the order of the fields."""
        return self.value, self.slope, self.degree, self.size, self.gap


class SizedCells(Cells):
    """Bounds of classes of sub-terms on a quadrant, and those of their sizes.

    Args:
        builder: has the tables.
        quadrant: signs of x and β.
    """

    @np.errstate(all="ignore")
    def __init__(self, builder: TermBuilder, quadrant: tuple[int, int]) -> None:
        super().__init__(builder, quadrant)
        self._leaves = {leaf: _tight(bounds) for leaf, bounds in self._leaves.items()}

    @np.errstate(all="ignore")
    def ordered(self, first: Side, others: Bounds, above: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where a class is proved to be ≥ (if `above`), or ≤, others that have these bounds.

        Returns:
            On each cell, of shape (others, |x|, |β|).
        """
        own = self.bounds(first.place, [first.number])
        assert isinstance(own, Sizes)
        assert isinstance(others, Sizes)
        own = _mirrored(own) if first.mirrored else own
        parts = [
            (side, at_least(own, others.rows(side)) if way else at_least(others.rows(side), own))
            for way, side in ((True, np.flatnonzero(above)), (False, np.flatnonzero(~above)))
            if len(side)
        ]
        width = max(part.shape[2] for _, part in parts)
        found = np.empty((len(above), _CELLS, width), dtype=bool)
        for side, part in parts:
            found[side] = part
        return found

    def _evaluated(self, template: Expression, memo: dict[Expression, Bounds]) -> Bounds:
        for node in template.postorder():
            if node not in memo:
                memo[node] = _sized(node, memo)
        return memo[template]


def at_least(a: Sizes, b: Sizes) -> NDArray[np.bool_]:
    """For each row, and on each cell, whether a ≥ b."""
    by_size = (
        (_spread(a.value[0] >= 0) & (a.size[0] >= b.size[1]))  # a = |a| ≥ |b|
        | (_spread(b.value[1] <= 0) & (b.size[0] >= a.size[1]))  # −b = |b| ≥ |a|
        | (_spread(b.value[1] <= 1) & (b.gap[0] >= a.gap[1]))  # 1 − b ≥ |1 − a|
        | (_spread(a.value[0] >= 1) & (a.gap[0] >= b.gap[1]))  # a − 1 ≥ |1 − b|
    )
    plain, share, ends = _split(by_size)
    found = plain | share
    found[:, [0, -1]] |= ends
    return np.asarray(found | (a.value[0] >= b.value[1]) | (a.slope[0] >= b.slope[1]))


# units


def _spread(values: NDArray[Any]) -> NDArray[Any]:
    """Something of each cell, next to each of the units that it has."""
    whole = np.broadcast_to(values, (values.shape[0], _CELLS, values.shape[2]))
    return np.concatenate([whole, whole, whole[:, [0, -1]]], axis=1)


def _split(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Parts by units."""
    return np.split(values, [_CELLS, 2 * _CELLS], axis=1)


def _joined(parts: Sequence[Interval]) -> Interval:
    """The parts by units as one."""
    rows, width = (max(low.shape[axis] for low, _ in parts) for axis in (0, 2))
    low, high = (
        np.concatenate(
            [
                np.broadcast_to(end, (rows, count, width))
                for end, count in zip(ends, _PARTS, strict=True)
            ],
            axis=1,
        )
        for ends in zip(*parts, strict=True)
    )
    return low, high


def _in_units(logarithm: Interval) -> Interval:
    """A logarithm that is bounded on each cell, in all units."""
    low, high = (_spread(end) for end in logarithm)
    low = np.where(low < 0, low / _LEAST, low / _MOST)
    high = np.where(high > 0, high / _LEAST, np.where(np.isneginf(high), high, high / _MOST))
    return finite_ends(low, high)


def _logarithm(value: Interval) -> Interval:
    """Of |f|, from bounds of f."""
    low, high = FUNCTIONS["abs"](*value)
    return _padded((np.log(low), np.log(high)))


def _itself(a: Bounds) -> Interval:
    """A function in all units; by log t, from its degree, where its sign is known."""
    return _joined([a.value, a.slope, degree_of_exponential(a)])


def _padded(interval: Interval) -> Interval:
    """Room for rounding."""
    low, high = interval
    return finite_ends(low - 1e-9 * (1 + np.abs(low)), high + 1e-9 * (1 + np.abs(high)))


def _linked(size: Interval, degree: Interval) -> Interval:
    """A logarithm's bounds, made as good as those in other units make them."""
    (low, share_low, least), (high, share_high, most) = map(_split, size)
    least, most = meet((least, most), degree)
    final = np.where(least < 0, least * _SHARE, 0.0), np.where(most > 0, most * _SHARE, 0.0)
    share_low[:, -1] = np.fmax(share_low[:, -1], final[0][:, -1])
    share_high[:, -1] = np.fmin(share_high[:, -1], final[1][:, -1])
    low = np.fmax(low, share_low * np.where(share_low < 0, _HIGH, _LOW))
    high = np.fmin(high, share_high * np.where(share_high <= 0, _LOW, _HIGH))
    near = LOG_T * (1 - 1e-9)
    ends = np.where(least > 0, least * near, -np.inf), np.where(most < 0, most * near, np.inf)
    low[:, [0, -1]] = np.fmax(low[:, [0, -1]], ends[0])
    high[:, [0, -1]] = np.fmin(high[:, [0, -1]], ends[1])
    return _joined([(low, high), (share_low, share_high), (least, most)])


def _tight(bounds: Bounds, size: Interval = UNKNOWN, gap: Interval = UNKNOWN) -> Sizes:
    """Bounds and sizes, each made as good as the others make it."""
    size = meet(_in_units(_logarithm(bounds.value)), _padded(size))
    rest = added(_ONE, -bounds.value[1], -np.inf), added(_ONE, -bounds.value[0], np.inf)
    gap = meet(_in_units(_logarithm(finite_ends(*rest))), _padded(gap))
    size, gap = _linked(size, bounds.degree), _linked(gap, UNKNOWN)
    low, high = bounds.value
    least = np.exp(np.minimum(_split(size[0])[0], 709.0)) * (1 - 1e-12)
    most = np.exp(_split(size[1])[0]) * (1 + 1e-12) + 1e-300
    low = np.where(low >= 0, np.maximum(low, least), np.maximum(low, -most))
    high = np.where(high <= 0, np.minimum(high, -least), np.minimum(high, most))
    slope = meet(bounds.slope, _far_slope(size, low[:, -1:] >= 0, high[:, -1:] <= 0))
    return Sizes((low, high), slope, (_split(size[0])[2], _split(size[1])[2]), size, gap)


def _far_slope(size: Interval, above: NDArray[np.bool_], below: NDArray[np.bool_]) -> Interval:
    """Of what grows or falls at least like exp(s·|x|), on the last cell; else nothing."""
    shares = [_split(end)[1][:, -1:] for end in size]
    start = _LOW[:, -1:]
    least, most = (np.exp(np.minimum(share * start - LOG_T[:, 1:], 700.0)) for share in shares)
    least = np.where(shares[0] * start >= 1, least * (1 - 1e-6), 0.0)
    most = np.where(shares[1] < 0, most * (1 + 1e-6) + 1e-300, np.inf)
    low, high = (np.full((*size[0].shape[:1], _CELLS, size[0].shape[2]), v) for v in _INFINITE)
    low[:, -1:] = np.where(above, least, -most)
    high[:, -1:] = np.where(below, -least, most)
    return low, high


# operators


def _sized(node: Expression, memo: Mapping[Expression, Bounds]) -> Sizes:
    bounds = node_bounds(node, memo)
    if not isinstance(node, Apply):
        return _tight(bounds)
    operands = [memo[argument] for argument in node.arguments]
    name = node.operator.name
    if name == "pow":
        exponent = whole_exponent(node)
        if exponent is None:
            return _tight(bounds)
        return _tight(bounds, _times(_of(operands[0]).size, exponent))
    rule = _RULES.get(name)
    if rule is None:
        return _tight(bounds)
    return rule(bounds, *map(_of, operands))


def _of(bounds: Bounds) -> Sizes:
    assert isinstance(bounds, Sizes)
    return bounds


def _times(a: Interval, factor: float) -> Interval:
    low, high = a[0] * factor, a[1] * factor
    return (low, high) if factor > 0 else (high, low)


def _plus(a: Interval, b: Interval) -> Interval:
    return finite_ends(a[0] + b[0], a[1] + b[1])


def _minus(a: Interval, b: Interval) -> Interval:
    return finite_ends(a[0] - b[1], a[1] - b[0])


def _if(condition: NDArray[np.bool_], low: Floats) -> Floats:
    """A lower bound where a condition holds on a cell."""
    return np.where(_spread(condition), low, -np.inf)


def _unless(condition: NDArray[np.bool_], high: Floats) -> Floats:
    """An upper bound where a condition holds on a cell."""
    return np.where(_spread(condition), high, np.inf)


def _small(a: Bounds) -> NDArray[np.bool_]:
    return np.asarray((a.value[0] >= -1) & (a.value[1] <= 1))


def _same(bounds: Bounds, a: Sizes) -> Sizes:
    return _tight(bounds, a.size)


def _abs(bounds: Bounds, a: Sizes) -> Sizes:
    above = a.value[0] >= 0
    return _tight(bounds, a.size, (_if(above, a.gap[0]), _unless(above, a.gap[1])))


def _add(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    """|a + b| ≤ 2·max, and ≥ both where signs agree; 1 − (a + b) is (1 − a) − b."""
    alike = ((a.value[0] >= 0) & (b.value[0] >= 0)) | ((a.value[1] <= 0) & (b.value[1] <= 0))
    low = _if(alike, np.maximum(a.size[0], b.size[0]))
    high = np.maximum(a.size[1], b.size[1]) + _TWO
    near, far = np.full((1, 1, 1), -np.inf), np.full((1, 1, 1), np.inf)
    for one, other in ((a, b), (b, a)):
        low = np.maximum(low, _outweighing(one.size, other.size))
        both = (one.value[1] <= 1) & (other.value[1] <= 0)
        near = np.maximum(near, _if(both, np.maximum(one.gap[0], other.size[0])))
        near = np.maximum(near, _outweighing(one.gap, other.size))
        far = np.minimum(far, np.maximum(one.gap[1], other.size[1]) + _TWO)
    return _tight(bounds, finite_ends(low, high), finite_ends(near, far))


def _outweighing(a: Interval, b: Interval) -> Floats:
    """A lower bound of log|f − g| ≥ log|f| − log 2 where |f| ≥ 2·|g|."""
    return np.where(a[0] - b[1] >= _TWO, a[0] - _TWO, -np.inf)


def _sub(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    return _add(bounds, a, _mirrored(b))


def _mirrored(a: Sizes) -> Sizes:
    return _tight(mirrored(a), a.size)


def _mul(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    """1 − a·b is (1 − a) + a·(1 − b); both of one sign where a and b lie on one side of 1."""
    inside = _within(a) & _within(b)
    beyond = (a.value[0] >= 1) & (b.value[0] >= 1)
    low = _if(inside | beyond, np.maximum(a.gap[0], b.gap[0]))
    high = np.full((1, 1, 1), np.inf)
    for one, other in ((a, b), (b, a)):
        rest = _plus(one.size, other.gap)[1]
        high = np.minimum(high, np.maximum(one.gap[1], rest) + _TWO)
    return _tight(bounds, _plus(a.size, b.size), finite_ends(low, high))


def _within(a: Bounds) -> NDArray[np.bool_]:
    return np.asarray((a.value[0] >= 0) & (a.value[1] <= 1))


def _div(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    return _tight(bounds, _minus(a.size, b.size))


def _max(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    """Size and gap are those of one operand.

    The larger size if ≥ 0, the smaller one if both are ≤ 0, the smaller gap if ≤ 1.
    """
    low = np.minimum(a.size[0], b.size[0])
    high = np.maximum(a.size[1], b.size[1])
    under = _spread((a.value[1] <= 0) & (b.value[1] <= 0))
    high = np.where(under, np.minimum(a.size[1], b.size[1]), high)
    for one in (a, b):
        low = np.where(_spread(one.value[0] >= 0), np.maximum(low, one.size[0]), low)
    below = (a.value[1] <= 1) & (b.value[1] <= 1)
    near = np.minimum(a.gap[0], b.gap[0])
    far = np.where(_spread(below), np.minimum(a.gap[1], b.gap[1]), np.maximum(a.gap[1], b.gap[1]))
    return _tight(bounds, (low, high), (near, far))


def _min(bounds: Bounds, a: Sizes, b: Sizes) -> Sizes:
    low = np.minimum(a.size[0], b.size[0])
    high = np.maximum(a.size[1], b.size[1])
    over = _spread((a.value[0] >= 0) & (b.value[0] >= 0))
    high = np.where(over, np.minimum(a.size[1], b.size[1]), high)
    for one in (a, b):
        low = np.where(_spread(one.value[1] <= 0), np.maximum(low, one.size[0]), low)
    below = (a.value[1] <= 1) & (b.value[1] <= 1)
    near = np.where(_spread(below), np.maximum(a.gap[0], b.gap[0]), np.minimum(a.gap[0], b.gap[0]))
    return _tight(bounds, (low, high), (near, np.maximum(a.gap[1], b.gap[1])))


def _sqrt(bounds: Bounds, a: Sizes) -> Sizes:
    """1 − √a is (1 − a)/(1 + √a)."""
    low = _if(a.value[1] <= 1, a.gap[0] - _TWO)
    return _tight(bounds, _times(a.size, 0.5), (low, a.gap[1]))


def _log(bounds: Bounds, a: Sizes) -> Sizes:
    """log f is log|f|."""
    plain, share = _first_two(a.size)
    return _tight(Bounds(meet(bounds.value, plain), meet(bounds.slope, share), bounds.degree))


def _first_two(size: Interval) -> tuple[Interval, Interval]:
    low, high = _split(size[0]), _split(size[1])
    return (low[0], high[0]), (low[1], high[1])


def _exp(bounds: Bounds, a: Sizes) -> Sizes:
    """1 − exp t lies between −t/2 and −t for −1 ≤ t ≤ 0, exp t − 1 between t and 2t up to 1."""
    low = np.maximum(_if(a.value[0] >= 0, a.size[0]), _if(_small(a), a.size[0] - _TWO))
    high = np.minimum(_unless(a.value[1] <= 0, a.size[1]), _unless(_small(a), a.size[1] + _TWO))
    own = _itself(a)
    over = _if(a.value[0] >= 0, a.size[0] + (1 - 1e-9) / _MOST)  # exp t ≥ e·t
    return _tight(bounds, (np.maximum(own[0], over), own[1]), (low, high))


def _cosh(bounds: Bounds, a: Sizes) -> Sizes:
    """exp|t|/2 ≤ cosh t ≤ exp|t|, 1.5·|t| ≤ cosh t; t²/2 ≤ cosh t − 1, and ≤ t² for |t| ≤ 1."""
    low, high = _itself(_magnitude(a))
    low = np.maximum(low - _TWO, a.size[0] + math.log(1.5) * (1 - 1e-9) / _MOST)
    near, far = 2 * a.size[0] - _TWO, _unless(_small(a), 2 * a.size[1])
    return _tight(bounds, (low, high), (near, far))


def _magnitude(a: Sizes) -> Bounds:
    """|f|, whose bounds know that it is large next to a pole."""
    found = absolute(a)
    least = _split(a.size[0])[0]
    low = np.maximum(found.value[0], np.exp(np.minimum(least, 709.0)) * (1 - 1e-12))
    return Bounds((low, np.maximum(found.value[1], low)), found.slope, found.degree)


def _sinh(bounds: Bounds, a: Sizes) -> Sizes:
    """|t| ≤ |sinh t| ≤ exp|t|, and ≤ 2|t| for |t| ≤ 1; ≥ exp|t|/4 for |t| ≥ 1."""
    magnitude = _magnitude(a)
    low, high = _itself(magnitude)
    large = _if(magnitude.value[0] >= 1, low - 2 * _TWO)
    high = np.minimum(high, _unless(_small(a), a.size[1] + _TWO))
    return _tight(bounds, (np.maximum(a.size[0], large), high))


def _bent(bounds: Bounds, a: Sizes, gap: Interval = UNKNOWN) -> Sizes:
    """|f(t)| ≤ |t|, and ≥ |t|/2 for |t| ≤ 1."""
    return _tight(bounds, (_if(_small(a), a.size[0] - _TWO), a.size[1]), gap)


def _tanh(bounds: Bounds, a: Sizes) -> Sizes:
    """1 − tanh t ≤ 2·exp(−2t), and ≥ exp(−2t) for t ≥ 0."""
    low, high = _itself(a)
    return _bent(bounds, a, (_if(a.value[0] >= 0, -2 * high), _TWO - 2 * low))


def _erf(bounds: Bounds, a: Sizes) -> Sizes:
    """erf t ≤ 2t; exp(−t²)/(4·max(t, 1)) ≤ 1 − erf t ≤ exp(−t²) for t ≥ 0."""
    own = _itself(a)
    above = a.value[0] >= 0
    low, high = (end * _spread(factor) for end, factor in zip(own, a.value, strict=True))
    near = -high - np.maximum(a.size[1], 0.0) - 2 * _TWO
    gap = finite_ends(_if(above, near), _unless(above, -low))
    return _tight(bounds, (_if(_small(a), a.size[0] - _TWO), a.size[1] + _TWO), gap)


def _sigmoid(bounds: Bounds, a: Sizes) -> Sizes:
    """min(exp t, 1)/2 ≤ sigmoid t ≤ min(exp t, 1); 1 − sigmoid t is sigmoid(−t)."""
    low, high = _itself(a)
    size = np.minimum(low, 0.0) - _TWO, np.minimum(high, 0.0)
    gap = np.minimum(-high, 0.0) - _TWO, np.minimum(-low, 0.0)
    return _tight(bounds, size, gap)


def _softplus(bounds: Bounds, a: Sizes) -> Sizes:
    """min(exp t, 1)/2 ≤ log(1 + exp t) ≤ exp t."""
    low, high = _itself(a)
    return _tight(bounds, (np.minimum(low, 0.0) - _TWO, high))


def _cos(bounds: Bounds, a: Sizes) -> Sizes:
    """1 − cos t ≤ t², and ≥ t²/4 for |t| ≤ 1."""
    return _tight(bounds, UNKNOWN, (_if(_small(a), 2 * a.size[0] - 2 * _TWO), 2 * a.size[1]))


def _sinc(bounds: Bounds, a: Sizes) -> Sizes:
    """|sinc t| ≤ 1/|t|; 1 − sinc t ≤ t², and ≥ t²/8 for |t| ≤ 1."""
    gap = _if(_small(a), 2 * a.size[0] - 3 * _TWO), 2 * a.size[1]
    return _tight(bounds, (UNKNOWN[0], -a.size[0]), gap)


_RULES: Mapping[str, Callable[..., Sizes]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "max": _max,
    "min": _min,
    "neg": _same,
    "abs": _abs,
    "sqrt": _sqrt,
    "log": _log,
    "exp": _exp,
    "cosh": _cosh,
    "sinh": _sinh,
    "tanh": _tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "cos": _cos,
    "sinc": _sinc,
    **dict.fromkeys(("atan", "asinh", "sin"), _bent),
}
