"""Which of two sub-terms is the larger on a quadrant, for many classes at once.

On each cell of a quadrant a function f of |x| and |β| is enclosed twice: f itself, and its slope
f/|x|, which still tells functions apart where they touch at x = 0 or grow together. Both go up
from the leaves by interval arithmetic, a whole table at a time; what overlaps on some cell stays
open here (`orderings` looks closer, at one pair).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

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
    finite_ends,
    larger,
    meet,
    minus,
    plus,
    power,
    scaled,
    times,
)
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.quotients import QUOTIENTS
from actsearch.equivalence.term_tables import LARGER, SMALLER, Place, Side
from actsearch.grammar.expression import Apply, Expression, Input, Parameter
from actsearch.grammar.operators import OPERATORS

if TYPE_CHECKING:
    from actsearch.equivalence.terms import TermBuilder

_CHUNK = 64
_KEPT = 1_000  # classes whose bounds are kept, 86 kB each at most (`sizes` 200), 5 kB without β
_FEW = slice(3, -1, 8)
"""Cells of |x| that are looked at first: functions that cross differ on one of them, as a rule."""

Numbers = NDArray[Any]
UNKNOWN: Interval = (ALL[0][None], ALL[1][None])


@dataclass(frozen=True)
class Bounds:
    """Of a function on all cells.

    Attributes:
        value: of the function.
        slope: of the function divided by |x|.
        degree: on the first and the last cell of |x|, of d in |f| = t^d, t = 1/|x| and t = |x|.
    """

    value: Interval
    slope: Interval
    degree: Interval

    @property
    def all(self) -> tuple[Interval, ...]:
        """All that is bounded, in the order of the fields."""
        return self.value, self.slope, self.degree

    def rows(self, chosen: Numbers) -> Self:
        """Some of the rows."""
        return type(self)(*((low[chosen], high[chosen]) for low, high in self.all))


class Cells:
    """Bounds of the classes of sub-terms on a quadrant.

    Args:
        builder: has the tables.
        quadrant: signs of x and β.
    """

    @np.errstate(all="ignore")
    def __init__(self, builder: TermBuilder, quadrant: tuple[int, int]) -> None:
        self._builder = builder
        self._known: Memo[tuple[Place, int], Bounds] = Memo(_KEPT)
        one = np.full((1, 1, 1), float(quadrant[0]))
        x, beta = (
            (low[None], high[None]) if sign > 0 else (-high[None], -low[None])
            for sign, (low, high) in zip(
                quadrant, (enclosed(SIZE_OF_X), enclosed(SIZE_OF_BETA)), strict=True
            )
        )
        self._leaves: dict[Expression, Bounds] = {
            Input("x"): Bounds(x, (one, one), (_OF_X, _OF_X)),
            Parameter(SHARED_NAME): _plain(beta),
        }

    @np.errstate(all="ignore")
    def orders(self, small: Place, big: Place, chosen: Sequence[int]) -> NDArray[np.int8]:
        """How each class of a small table compares with some classes of another one.

        Returns:
            Bits (`LARGER`, `SMALLER`), of shape (classes of the small table, chosen ones).
        """
        firsts = [self.bounds(small, [n]) for n in range(len(self._builder.table(small)))]
        found = np.zeros((len(firsts), len(chosen)), dtype=np.int8)
        varying = np.array([self._builder.varies(big, number) for number in chosen], dtype=bool)
        for side in (varying, ~varying):  # without the parameter there are fewer cells
            places = np.flatnonzero(side)
            for start in range(0, len(places), _CHUNK):
                own = places[start : start + _CHUNK]
                seconds = self.bounds(big, [chosen[place] for place in own])
                others = mirrored(seconds)
                for number, first in enumerate(firsts):
                    above, below = _at_least(first, seconds), _at_least(mirrored(first), others)
                    found[number, own] = LARGER * above + SMALLER * below
        return found

    @np.errstate(all="ignore")
    def order(self, first: Side, second: Side) -> NDArray[np.int8]:
        """How two functions compare on each cell, as bits, of shape (|x|, |β|)."""
        a, b = self._side(first), self._side(second)
        above, below = on_each(a, b), on_each(mirrored(a), mirrored(b))
        return np.asarray(LARGER * above[0] + SMALLER * below[0])

    def _side(self, side: Side) -> Bounds:
        found = self._one(side.place, side.number)
        return mirrored(found) if side.mirrored else found

    def bounds(self, place: Place, chosen: Sequence[int]) -> Bounds:
        """The bounds of some classes of a table, each array of shape (chosen, |x|, |β|)."""
        if len(chosen) > 1 and len(self._builder.table(place)) > _KEPT:
            return self._computed(place, chosen)
        parts = [([row], self._one(place, number)) for row, number in enumerate(chosen)]
        return joined(len(chosen), parts) if len(parts) > 1 else parts[0][1]

    def _one(self, place: Place, number: int) -> Bounds:
        known = self._known.get((place, number))
        if known is None:
            self._known.make_room()
            known = self._known[place, number] = self._computed(place, [number])
        return known

    @np.errstate(all="ignore")
    def _computed(self, place: Place, chosen: Sequence[int]) -> Bounds:
        table = self._builder.table(place)
        terms = [table.firsts[number] for number in chosen]
        parts: list[tuple[list[int], Bounds]] = []
        for number, shape in enumerate(table.shapes):
            own = [row for row, term in enumerate(terms) if term[0] == number]
            if not own:
                continue
            memo = dict(self._leaves)
            for child, below in enumerate(shape.places):
                needed = [terms[row][1][child] for row in own]
                distinct, places = np.unique(needed, return_inverse=True)
                inner = self.bounds(below, distinct.tolist())
                memo[placeholder(child)] = inner.rows(places)
            parts.append((own, self._evaluated(self._builder.template(shape.production), memo)))
        return joined(len(terms), parts)

    def _evaluated(self, template: Expression, memo: dict[Expression, Bounds]) -> Bounds:
        for node in template.postorder():
            if node not in memo:
                memo[node] = node_bounds(node, memo)
        return memo[template]


def joined(count: int, parts: Sequence[tuple[list[int], Bounds]]) -> Bounds:
    """The bounds of all rows, from those of some rows each."""
    intervals = []
    kind = type(parts[0][1])
    for number in range(len(parts[0][1].all)):
        ends = []
        for side in range(2):
            arrays = [(own, bounds.all[number][side]) for own, bounds in parts]
            shape = np.broadcast_shapes(*(array.shape[1:] for _, array in arrays))
            joined = np.empty((count, *shape))
            for own, array in arrays:
                joined[own] = array
            ends.append(joined)
        intervals.append((ends[0], ends[1]))
    return kind(*intervals)


def _at_least(a: Bounds, b: Bounds) -> NDArray[np.bool_]:
    """For each row of b whether a ≥ b on all cells; a has one row."""
    found = np.asarray(_surely(a, b, _FEW).all(axis=(1, 2)))
    alive = np.flatnonzero(found)
    if len(alive):
        found[alive] = on_each(a, b.rows(alive)).all(axis=(1, 2))
    return found


def on_each(a: Bounds, b: Bounds) -> NDArray[np.bool_]:
    """For each row of b, and on each cell, whether a ≥ b."""
    surely = _surely(a, b, slice(None))
    first, second = _ends(a.value), _ends(b.value)
    larger = (first[0] >= 0) & (a.degree[0] >= b.degree[1])  # a = |a| ≥ |b|
    smaller = (second[1] <= 0) & (b.degree[0] >= a.degree[1])  # −b = |b| ≥ |a|
    at_ends = surely[:, [0, -1]] | larger | smaller
    shape = *surely.shape[:2], max(surely.shape[2], at_ends.shape[2])
    found = np.empty(shape, dtype=bool)
    found[:] = surely
    found[:, [0, -1]] = at_ends
    return found


def _surely(a: Bounds, b: Bounds, cells: slice) -> NDArray[np.bool_]:
    """Where a ≥ b by their values, or by their slopes."""
    value = _at(a.value[0], cells) >= _at(b.value[1], cells)
    return value | (_at(a.slope[0], cells) >= _at(b.slope[1], cells))


def _at(end: Floats, cells: slice) -> Floats:
    return end[:, cells] if end.shape[1] > 1 else end


def node_bounds(node: Expression, memo: Mapping[Expression, Bounds]) -> Bounds:
    if not isinstance(node, Apply):
        low, high = enclosed(node)
        return _plain((low[None], high[None]))
    operands = [memo[argument] for argument in node.arguments]
    name = node.operator.name
    if name == "pow":
        exponent = whole_exponent(node)
        if exponent is not None:
            return _raised(operands[0], exponent)
    elif name in _BINARY:
        return _BINARY[name](*operands)
    elif name in _UNARY:
        return _UNARY[name](operands[0])
    elif name in FUNCTIONS:
        return _applied(name, operands[0])
    return _plain(UNKNOWN)


@cache
def _inverse_x() -> Interval:
    low, high = power(enclosed(SIZE_OF_X), -1)
    return low[None], high[None]


def _plain(value: Interval, slope: Interval = UNKNOWN, degree: Interval = UNKNOWN) -> Bounds:
    """Bounds that are as good as any one of them makes the others."""
    degree = meet(degree, _degree_of(_ends(value)))
    return Bounds(value, meet(slope, times(value, _inverse_x())), degree)


# degrees: of t = 1/|x| ≥ 1e16 on the first cell, and of t = |x| ≥ 1e8 on the last one


_OF_X = np.array([[[-1.0], [1.0]]])
LOG_T = np.log([[[1e16], [1e8]]])
"""The least log t."""
_TWICE = math.log(2) / LOG_T * (1 + 1e-9)
"""The degree of 2 at the least t."""
_LEAST = 0.06  # t^p / log t rises for p ≥ 1/log t


def _ends(interval: Interval) -> Interval:
    """The first and the last cell of |x|."""
    low, high = (end[:, [0, -1]] for end in interval)
    return low, high


def _degree_of(value: Interval) -> Interval:
    """Of a function with these bounds."""
    least, most = FUNCTIONS["abs"](*value)
    high = np.where(most > 1, np.log(most) / LOG_T, np.where(most > 0, 0.0, -np.inf))
    low = np.where(least < 1, np.log(least) / LOG_T, 0.0)
    return _padded(low, high)


def _padded(low: Floats, high: Floats) -> Interval:
    """Room for rounding."""
    return finite_ends(low - 1e-9 * (1 + np.abs(low)), high + 1e-9 * (1 + np.abs(high)))


def _exponential(degree: Interval) -> Floats:
    """A lower bound of the degree of exp |u|: t^p / log t, where |u| ≥ t^p."""
    grown = np.exp(np.minimum(degree[0] * LOG_T, 600.0)) / LOG_T * (1 - 1e-9)
    return np.where(degree[0] >= _LEAST, grown, 0.0)


def _logarithmic(size: Floats) -> Floats:
    """An upper bound of the degree of P·log t: it falls where P·log t ≥ e."""
    return (np.log(np.maximum(size, 0.2)) + np.log(LOG_T)) / LOG_T + 1e-9


def _degree_of_sum(a: Bounds, b: Bounds) -> Interval:
    first, second = _ends(a.value), _ends(b.value)
    both = ((first[0] >= 0) & (second[0] >= 0)) | ((first[1] <= 0) & (second[1] <= 0))
    low = np.where(both, np.maximum(a.degree[0], b.degree[0]), -np.inf)
    for one, other in ((a, b), (b, a)):
        outweighs = one.degree[0] - other.degree[1] >= _TWICE
        low = np.maximum(low, np.where(outweighs, one.degree[0] - _TWICE, -np.inf))
    return _padded(low, np.maximum(a.degree[1], b.degree[1]) + _TWICE)


def _degree_of_larger(a: Bounds, b: Bounds) -> Interval:
    """|max(a, b)| is the smaller one of |a| and |b| where both are ≤ 0."""
    low, high = np.minimum(a.degree[0], b.degree[0]), np.maximum(a.degree[1], b.degree[1])
    first, second = _ends(a.value), _ends(b.value)
    for one, ends in ((a, first), (b, second)):
        low = np.where(ends[0] >= 0, np.maximum(low, one.degree[0]), low)
    below = (first[1] <= 0) & (second[1] <= 0)
    return low, np.where(below, np.minimum(a.degree[1], b.degree[1]), high)


# operators


def _add(a: Bounds, b: Bounds) -> Bounds:
    return _plain(plus(a.value, b.value), plus(a.slope, b.slope), _degree_of_sum(a, b))


def _sub(a: Bounds, b: Bounds) -> Bounds:
    return _add(a, mirrored(b))


def mirrored(a: Bounds) -> Bounds:
    return Bounds(minus(a.value), minus(a.slope), a.degree)


def _mul(a: Bounds, b: Bounds) -> Bounds:
    slope = meet(scaled(a.slope, b.value), scaled(a.value, b.slope))
    degree = _padded(a.degree[0] + b.degree[0], a.degree[1] + b.degree[1])
    return _plain(scaled(a.value, b.value), slope, degree)


def _div(a: Bounds, b: Bounds) -> Bounds:
    below = power(b.value, -1)
    degree = _padded(a.degree[0] - b.degree[1], a.degree[1] - b.degree[0])
    value = meet(scaled(a.value, below), scaled(a.slope, power(b.slope, -1)))
    return _plain(value, scaled(a.slope, below), degree)


def _max(a: Bounds, b: Bounds) -> Bounds:
    degree = _degree_of_larger(a, b)
    return _plain(larger(a.value, b.value), larger(a.slope, b.slope), degree)


def _min(a: Bounds, b: Bounds) -> Bounds:
    return mirrored(_max(mirrored(a), mirrored(b)))


def absolute(a: Bounds) -> Bounds:
    return Bounds(FUNCTIONS["abs"](*a.value), FUNCTIONS["abs"](*a.slope), a.degree)


def _raised(a: Bounds, k: int) -> Bounds:
    slope = scaled(a.slope, power(a.value, k - 1)) if k > 1 else UNKNOWN
    degree = _padded(a.degree[0] * k, a.degree[1] * k) if k > 0 else UNKNOWN
    return _plain(power(a.value, k), slope, degree)


def _sqrt(a: Bounds) -> Bounds:
    """√f/|x| is √(f/x²)."""
    slope = FUNCTIONS["sqrt"](*times(a.slope, _inverse_x()))
    degree = _padded(a.degree[0] / 2, a.degree[1] / 2)
    return _plain(FUNCTIONS["sqrt"](*a.value), slope, degree)


def _log(a: Bounds) -> Bounds:
    """log f ≤ 2√f, and |log f| ≤ P·log t where |f| lies between t^−P and t^P."""
    slope = UNKNOWN[0], np.nextafter(2 * _sqrt(a).slope[1], np.inf)
    size = np.maximum(np.abs(a.degree[0]), np.abs(a.degree[1]))
    degree = np.where(a.degree[0] * LOG_T >= 1, 0.0, -np.inf), _logarithmic(size)
    return _plain(FUNCTIONS["log"](*a.value), slope, degree)


def _exp(a: Bounds) -> Bounds:
    """exp t > t."""
    slope = a.slope[0], UNKNOWN[1]
    return _plain(FUNCTIONS["exp"](*a.value), slope, degree_of_exponential(a))


def degree_of_exponential(a: Bounds) -> Interval:
    low, high = _ends(a.value)
    grown = _exponential(a.degree)
    return np.where(low >= 0, grown, -np.inf), np.where(high <= 0, -grown, np.inf)


def _cosh(a: Bounds) -> Bounds:
    """cosh t > |t|."""
    slope = FUNCTIONS["abs"](*a.slope)[0], UNKNOWN[1]
    degree = _exponential(a.degree) - _TWICE, UNKNOWN[1]
    return _plain(_in_range("cosh", a), slope, degree)


def _sinh(a: Bounds) -> Bounds:
    """|sinh t| ≥ |t|, and ≥ exp|t|/4 for |t| ≥ 1."""
    low = np.maximum(a.degree[0], _exponential(a.degree) - 2 * _TWICE)
    low = np.where(a.degree[0] >= _LEAST, low, a.degree[0])
    found = _applied("sinh", a)
    return _plain(found.value, found.slope, (low, UNKNOWN[1]))


def _softplus(a: Bounds) -> Bounds:
    """log(1 + exp t), which rises, lies between t and max(t, 0) + log 2, and below exp t."""
    value = FUNCTIONS["softplus"](*a.value)
    low, high = _ends(a.value)
    least = np.where(low >= 0, a.degree[0], -np.inf)
    most = np.where(high <= 0, -_exponential(a.degree), np.maximum(a.degree[1], 0.0) + _TWICE)
    return _plain(value, (a.slope[0], UNKNOWN[1]), (least, most))


def _sigmoid(a: Bounds) -> Bounds:
    """sigmoid t < exp t."""
    degree = UNKNOWN[0], degree_of_exponential(a)[1]
    return _plain(_in_range("sigmoid", a), UNKNOWN, degree)


def _relu(a: Bounds) -> Bounds:
    zero = np.zeros((1, 1, 1))
    return _max(a, _plain((zero, zero)))


def _asinh(a: Bounds) -> Bounds:
    """|asinh t| ≤ log(3|t|) for |t| ≥ 1."""
    found = _bent("asinh", a)
    most = _logarithmic(np.maximum(a.degree[1], 0.0) + 2 * _TWICE)
    return _plain(found.value, found.slope, meet(found.degree, (UNKNOWN[0], most)))


def _bent(name: str, a: Bounds) -> Bounds:
    """A function with |f(t)| ≤ |t|, and ≥ |t|/2 for |t| ≤ 1."""
    found = _applied(name, a)
    low, high = _ends(a.value)
    small = (low >= -1) & (high <= 1)
    most = a.degree[1] if name != "erf" else a.degree[1] + _TWICE  # erf t ≤ 2t
    return _plain(found.value, found.slope, (np.where(small, a.degree[0] - _TWICE, -np.inf), most))


def _applied(name: str, a: Bounds) -> Bounds:
    """A function of `intervals`; f(t)/|x| is (t/|x|)·R(t) where f(t) = t·R(t)."""
    at_zero, degree, quotient = QUOTIENTS.get(name, (None, 0, None))
    slope = UNKNOWN
    if at_zero == 0 and degree == 1 and quotient is not None:
        slope = scaled(a.slope, quotient(*a.value))
    return _plain(_in_range(name, a), slope)


def _in_range(name: str, a: Bounds) -> Interval:
    return meet(FUNCTIONS[name](*a.value), range_of(OPERATORS[name]))


_UNARY: Mapping[str, Callable[[Bounds], Bounds]] = {
    "neg": mirrored,
    "abs": absolute,
    "relu": _relu,
    "sqrt": _sqrt,
    "log": _log,
    "exp": _exp,
    "cosh": _cosh,
    "sinh": _sinh,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "asinh": _asinh,
    **{name: partial(_bent, name) for name in ("tanh", "atan", "erf", "sin")},
}
_BINARY: Mapping[str, Callable[[Bounds, Bounds], Bounds]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "max": _max,
    "min": _min,
}
