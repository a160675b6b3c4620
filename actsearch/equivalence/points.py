"""Where two functions are compared: lines through the space of inputs and parameters, with the
points at which something switches.

Between two neighbouring switching points (roots of the arguments of |·|, of differences under max
and min, ends of domains, poles) an expression is analytic along a line. Agreement to many digits
inside every such piece is therefore agreement of the pieces, not of a few samples.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.grammar.expression import Apply, Expression, Input, Parameter
from actsearch.grammar.language import instantiate, parse_template
from actsearch.grammar.operators import COMPARISONS

Values = dict[str, Fraction]
Floats = NDArray[np.float64]
Window = tuple[float, float]
"""The least and the greatest t of a part of a line."""
WHOLE_LINE: Window = (-math.inf, math.inf)

SWITCHES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("abs", "relu", "sign", "sqrt", "cbrt", "log", "pow", "i0e", "i1e"), ("a",)),
    **dict.fromkeys(("max", "min", *sorted(COMPARISONS)), ("a - b",)),
    **dict.fromkeys(("asin", "acos", "atanh"), ("1 - a", "1 + a")),
    "acosh": ("a - 1",),
    "log1p": ("1 + a",),
    "div": ("b",),
    "tan": ("cos(a)",),
}
"""Operator -> expressions over its arguments at whose roots it is not analytic."""

_LINEAR = np.linspace(-12.0, 12.0, 769)
_TAILS = np.geomspace(12.5, 1e7, 64)
_GRID: Floats = np.concatenate([-_TAILS[::-1], _LINEAR, _TAILS])
_MAX_ROOTS = 24
_MAX_DIPS = 6
_REFINE = np.linspace(0.0, 1.0, 65)
_REFINEMENTS = 4

_SMALL, _MIDDLE, _LARGE = (0.1, 0.3), (0.5, 4.0), (6.0, 20.0)
_PARALLELS = (
    (0b00, _SMALL),
    (0b01, _MIDDLE),
    (0b10, _MIDDLE),
    (0b11, _LARGE),
    (0b00, _LARGE),
    (0b11, _SMALL),
)
"""For each line along an axis where it meets the others: signs of every other one, and how far."""

_BASE = tuple(
    Fraction(numerator, 1 << 14)
    for numerator in (3, 17, 1801, 5477, 11027, 18127, 29383, 46457, 83609, 153557)
) + (Fraction(61441, 1 << 10), Fraction(1000003, 1 << 9), Fraction(1234567891, 1 << 10))
"""Distances from 0 at which every line is looked at: from 2e-4 to 1.2e6."""
_SIMPLE = tuple(Fraction(n) for n in (1, -1, 2, -3))
"""Looked at first: when they tell two functions apart, people can check it in their heads."""


@dataclass(frozen=True)
class Line:
    """Points `start + t·direction`; a name's place in both is its place in `names`."""

    names: tuple[str, ...]
    start: tuple[Fraction, ...]
    direction: tuple[Fraction, ...]

    def at(self, t: Fraction) -> Values:
        """The exact values at t."""
        return {
            name: start + t * slope if slope else start
            for name, start, slope in zip(self.names, self.start, self.direction, strict=True)
        }

    def floats(self, t: Floats) -> dict[str, Floats]:
        """The values at many t."""
        return {
            name: float(start) + t * float(slope)
            for name, start, slope in zip(self.names, self.start, self.direction, strict=True)
        }


@lru_cache(maxsize=4096)
def lines(names: tuple[str, ...], seed: int = 0) -> tuple[Line, ...]:
    """Lines that together explore every direction: axes at generic places, and slanted ones.

    Args:
        names: inputs first, then parameters.
        seed: another seed, other places.
    """
    generator = random.Random(f"{seed} {len(names)}")

    def generic(least: float = 0.15, largest: float = 3.0) -> Fraction:
        magnitude = generator.uniform(least, largest)
        return Fraction(round(magnitude * 4096) * 2 + 1, 8192)

    def slanted() -> tuple[Fraction, ...]:
        return tuple(generic() * generator.choice((-1, 1)) for _ in names)

    found = []
    for place in range(len(names)):
        # The others at both signs and at several sizes: a domain or a branch of max may leave only
        # a quadrant in which two functions differ, and which of two powers is larger turns at 1.
        for negative, size in _PARALLELS if len(names) > 1 else _PARALLELS[:1]:
            start = [
                generic(*size) * (-1 if (negative >> (other % 2)) & 1 else 1)
                for other in range(len(names))
            ]
            direction = [Fraction(0)] * len(names)
            start[place], direction[place] = Fraction(0), Fraction(1)
            found.append(Line(names, tuple(start), tuple(direction)))
    for _ in range(2 if len(names) > 1 else 0):
        found.append(Line(names, slanted(), slanted()))
    return tuple(found)


def base_points(line: Line, seed: int = 0) -> Iterator[Fraction]:
    """The t of a line at which any expressions have to be compared, most telling first."""
    yield from _base_points(seed, thorough=len(line.names) == 1)
    yield Fraction(0)


def points_between_switches(
    expressions: Sequence[Expression], line: Line, window: Window = WHOLE_LINE
) -> Iterator[Fraction]:
    """The t of a window at which these expressions have to be compared, for they have pieces."""
    breaks = switching_points(expressions, line, window)
    if not breaks:
        return
    low, high = window
    ends = [
        max(low, breaks[0] - 1 - abs(breaks[0])),
        *breaks,
        min(high, breaks[-1] + 1 + abs(breaks[-1])),
    ]
    for left, right in itertools.pairwise(ends):
        middle = (left + right) / 2
        if left * right < 0 or min(abs(left), abs(right)) == 0 or right / left < 4:
            yield _dyadic(middle)
        else:  # between places of very different size, the geometric mean
            yield _dyadic(float(np.sign(middle)) * float(np.sqrt(left * right)))
    for place, root in enumerate(breaks):
        gaps = [
            abs(root - other) for other in breaks[max(0, place - 1) : place + 2] if other != root
        ]
        step = min([1e-4 * max(1e-3, abs(root)), *(gap / 4 for gap in gaps)])
        yield _dyadic(root - step)
        yield _dyadic(root + step)
        simple = Fraction(root).limit_denominator(1000)
        if abs(float(simple) - root) <= 1e-7 * max(1.0, abs(root)):
            yield simple


def _base_points(seed: int, thorough: bool) -> Iterator[Fraction]:
    if thorough:
        yield from _SIMPLE
    shift = Fraction(1 + (seed * 37) % 101, 1 << 12) if seed else Fraction(0)
    for place, distance in enumerate(_BASE):
        moved = distance * (1 + shift)
        if thorough or place % 2 == 0:
            yield moved
        if thorough or place % 2 == 1:
            yield -moved


def _dyadic(value: float) -> Fraction:
    return Fraction(float(value))


def switching_points(
    expressions: Iterable[Expression], line: Line, window: Window = WHOLE_LINE
) -> list[float]:
    """The t of a window, in order, at which a piece of one of the expressions ends on the line."""
    roots: set[float] = set()
    for expression in expressions:
        for switch in switches(expression):
            roots.update(_roots(switch, line, window))
    merged: list[float] = []
    for root in sorted(roots):
        if not merged or root - merged[-1] > 1e-7 * max(1e-3, abs(root)):
            merged.append(root)
    if len(merged) <= _MAX_ROOTS:
        return merged
    nearest = sorted(merged, key=abs)[: 2 * _MAX_ROOTS // 3]
    others = sorted(set(merged) - set(nearest))
    spread = others[:: max(1, len(others) * 3 // _MAX_ROOTS)]
    return sorted([*nearest, *spread])


@lru_cache(maxsize=20_000)
def switches(expression: Expression) -> tuple[Expression, ...]:
    """The expressions at whose roots this one may stop to be analytic."""
    found: dict[Expression, None] = {}
    for node in expression.postorder():
        if isinstance(node, Apply):
            for text in SWITCHES.get(node.operator.name, ()):
                found[instantiate(parse_template(text), node.arguments)] = None
    return tuple(
        switch
        for switch in found
        if any(isinstance(leaf, Input | Parameter) for leaf in switch.postorder())
    )


@lru_cache(maxsize=50_000)
def _roots(switch: Expression, line: Line, window: Window) -> tuple[float, ...]:
    """Roots in a window of a line, by sign changes on a dense grid, and by dips that reach zero."""
    if not any(
        line.direction[place] and name in _names(switch) for place, name in enumerate(line.names)
    ):
        return ()
    grid = _GRID[(window[0] <= _GRID) & (window[1] >= _GRID)]
    values = _evaluate(switch, line, grid)
    brackets = [_sign_changes(grid, values), *_inside_dips(switch, line, *_dips(grid, values))]
    left, right = map(np.concatenate, zip(*brackets, strict=True))
    return tuple(_refined(switch, line, left, right))


def _names(expression: Expression) -> frozenset[str]:
    return frozenset(
        node.name for node in expression.postorder() if isinstance(node, Input | Parameter)
    )


def _evaluate(switch: Expression, line: Line, t: Floats) -> Floats:
    values = line.floats(t)
    return np.asarray(evaluate_numpy(switch, values), dtype=np.float64)


def _sign_changes(t: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Brackets [left, right] of the sign changes, zeros, and ends of definedness along a row."""
    signs = np.where(np.isnan(values), 2.0, np.sign(values))
    where = np.flatnonzero(signs[1:] != signs[:-1])
    return t[where], t[where + 1]


def _refined(switch: Expression, line: Line, left: Floats, right: Floats) -> list[float]:
    """The brackets cut down to 6e-8 of their width; those nearest to 0 if there are many."""
    if len(left) > 4 * _MAX_ROOTS:
        near = np.argsort(np.abs(left))[: 4 * _MAX_ROOTS]
        left, right = left[near], right[near]
    if not len(left):
        return []
    rows = np.arange(len(left))
    for _ in range(_REFINEMENTS):
        t = left[:, None] + (right - left)[:, None] * _REFINE
        values = _evaluate(switch, line, t)
        signs = np.where(np.isnan(values), 2.0, np.sign(values))
        first = np.argmax(signs[:, 1:] != signs[:, :-1], axis=1)
        left, right = t[rows, first], t[rows, first + 1]
    # An exact zero of the grid ends one bracket and begins the next: keep the zero itself.
    at_left, at_right = _evaluate(switch, line, np.stack([left, right])) == 0
    roots = np.where(at_left, left, np.where(at_right, right, (left + right) / 2))
    return [float(root) for root in roots]


def _dips(t: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Brackets around places where |value| has a local minimum on the grid, without a change of
    sign.
    """
    size = np.abs(values)
    lowest = (size[1:-1] < size[:-2]) & (size[1:-1] < size[2:]) & (size[1:-1] > 0)
    same = (np.sign(values[1:-1]) == np.sign(values[:-2])) & (
        np.sign(values[1:-1]) == np.sign(values[2:])
    )
    where = np.flatnonzero(lowest & same) + 1
    where = where[np.argsort(size[where])][:_MAX_DIPS]
    return t[where - 1], t[where + 1]


def _inside_dips(
    switch: Expression, line: Line, left: Floats, right: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Brackets inside of dips: of both sides of a narrow crossing, or of the point touched."""
    for _ in range(_REFINEMENTS):
        if not len(left):
            break
        t = left[:, None] + (right - left)[:, None] * _REFINE
        values = _evaluate(switch, line, t)
        signs = np.where(np.isnan(values), 2.0, np.sign(values))
        changes = signs[:, 1:] != signs[:, :-1]
        rows, places = np.nonzero(changes)
        yield t[rows, places], t[rows, places + 1]
        rows = np.flatnonzero(~changes.any(axis=1))
        lowest = np.argmin(np.abs(values[rows]), axis=1)
        left = t[rows, np.maximum(lowest - 1, 0)]
        right = t[rows, np.minimum(lowest + 1, t.shape[1] - 1)]
