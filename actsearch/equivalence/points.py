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

from actsearch.equivalence.roots import MAX_ROOTS, Bundle, roots
from actsearch.grammar.expression import Apply, Expression, Input, Parameter
from actsearch.grammar.language import instantiate, parse_template
from actsearch.grammar.operators import COMPARISONS

Values = dict[str, Fraction]
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


@lru_cache(maxsize=1024)
def bundled(lines: tuple[Line, ...], windows: tuple[Window, ...]) -> Bundle:
    """Lines of the same names, each with its window, in which to look for switching points."""
    starts, slopes = (
        np.array([[float(value) for value in getattr(line, part)] for line in lines])
        for part in ("start", "direction")
    )
    return Bundle(lines[0].names, starts, slopes, np.array(windows))


def points_between(breaks: Sequence[float], window: Window = WHOLE_LINE) -> Iterator[Fraction]:
    """The t of a window at which functions have to be compared whose pieces end at some others."""
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
    return switching_points_of(expressions, bundled((line,), (window,)))[0]


def switching_points_of(expressions: Iterable[Expression], bundle: Bundle) -> list[list[float]]:
    """`switching_points` of each line of a bundle."""
    found: list[set[float]] = [set() for _ in bundle.windows]
    for switch in dict.fromkeys(s for expression in expressions for s in switches(expression)):
        for own, more in zip(found, roots(switch, bundle), strict=True):
            own.update(more)
    return [_merged(own) for own in found]


def _merged(roots: Iterable[float]) -> list[float]:
    """In order, those next to each other as one; if there are many, those nearest to 0 and some."""
    merged: list[float] = []
    for root in sorted(roots):
        if not merged or root - merged[-1] > 1e-7 * max(1e-3, abs(root)):
            merged.append(root)
    if len(merged) <= MAX_ROOTS:
        return merged
    nearest = sorted(merged, key=abs)[: 2 * MAX_ROOTS // 3]
    others = sorted(set(merged) - set(nearest))
    spread = others[:: max(1, len(others) * 3 // MAX_ROOTS)]
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
