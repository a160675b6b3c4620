"""The pieces of a curve: where it is defined, where it bends or jumps, where it rises and falls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from actsearch.analysis.curve import WINDOW, Curve, Point, bisect
from actsearch.codegen.gradients import gradient
from actsearch.grammar.expression import Number

_ORDERS = 8  # derivatives that must agree from both sides where a curve counts as smooth
_SAME = 1e-9
_MAX_FAR = 8  # turns beyond the window, from which on there seems to be no end of them

_DENSE = tuple(Fraction(n, 32) for n in range(-384, 385))
_TAIL = tuple(Fraction(round(1024 * 12.0 * 1.3**k), 1024) + Fraction(1, 7) for k in range(1, 54))
_GRID = (*(-t for t in reversed(_TAIL)), *_DENSE, *_TAIL)


@dataclass(frozen=True)
class Interval:
    """An interval of the real line; ends may be infinite, and then they are open."""

    low: float
    high: float
    low_closed: bool = False
    high_closed: bool = False

    def __str__(self) -> str:
        opening, closing = "[" if self.low_closed else "(", "]" if self.high_closed else ")"
        return f"{opening}{shown(self.low)}, {shown(self.high)}{closing}"

    def __contains__(self, x: float) -> bool:
        above = x > self.low or (self.low_closed and x == self.low)
        return above and (x < self.high or (self.high_closed and x == self.high))


@dataclass(frozen=True)
class Kink:
    """A point at which the one-sided slopes differ (one of them may be infinite)."""

    x: float
    left: float
    right: float


@dataclass(frozen=True)
class Jump:
    """A point at which the one-sided limits, or the value, differ."""

    x: float
    left: float
    right: float
    value: float | None


@dataclass(frozen=True)
class Piece:
    """A maximal interval on which the function rises, falls, or is constant."""

    interval: Interval
    trend: str


@dataclass(frozen=True)
class Segment:
    """An open interval of definedness between two neighbouring breaks; None stands for infinity."""

    low: Point | None
    high: Point | None

    @property
    def inner(self) -> Point:
        """A point inside."""
        if self.low is None and self.high is None:
            return Fraction(3, 7)
        if self.low is None:
            assert self.high is not None
            return self.high - 1 - abs(self.high) / 3
        if self.high is None:
            return self.low + 1 + abs(self.low) / 3
        return (self.low * 4 + self.high * 3) / 7

    def __contains__(self, x: Point) -> bool:
        return (self.low is None or x > self.low) and (self.high is None or x < self.high)


def shown(value: float) -> str:
    """A number for people: 12 digits at most, ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.12g}"


class Shape:
    """All that is known about the pieces of a curve, computed when it is asked for."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    # where it is defined

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The open intervals between breaks on which the curve is defined."""
        ends: list[Point | None] = [None, *self.curve.breaks, None]
        found = (Segment(a, b) for a, b in itertools.pairwise(ends))
        return tuple(segment for segment in found if self.curve.defined(segment.inner))

    @cached_property
    def poles(self) -> tuple[Point, ...]:
        """Points next to which the curve goes to infinity."""
        return tuple(
            x
            for x in self.curve.breaks
            if any(
                limit is not None and math.isinf(limit) for limit in (self.left(x), self.right(x))
            )
        )

    @cached_property
    def domain(self) -> tuple[Interval, ...]:
        """Where the curve is defined; removable singularities are filled, poles cut."""
        found: list[Interval] = []
        for segment in self.segments:
            low, high = segment.low, segment.high
            joined = (
                found and low is not None and found[-1].high == float(low) and low not in self.poles
            )
            if joined:
                first = found.pop()
                start, start_closed = first.low, first.low_closed
            else:
                start = -math.inf if low is None else float(low)
                start_closed = self._closed(low)
            end_closed = self._closed(high)
            end = math.inf if high is None else float(high)
            found.append(Interval(start, end, start_closed, end_closed))
        return tuple(found)

    def left(self, x: Point) -> float | None:
        """The limit from the left, if the curve is defined there."""
        return self._limits(x)[0]

    def right(self, x: Point) -> float | None:
        """The limit from the right, if the curve is defined there."""
        return self._limits(x)[1]

    def _limits(self, x: Point) -> tuple[float | None, float | None]:
        if x not in self._known_limits:
            inside_left = any(segment.high == x for segment in self.segments)
            inside_right = any(segment.low == x for segment in self.segments)
            self._known_limits[x] = (
                self.curve.limit(x, -1) if inside_left else None,
                self.curve.limit(x, 1) if inside_right else None,
            )
        return self._known_limits[x]

    @cached_property
    def _known_limits(self) -> dict[Point, tuple[float | None, float | None]]:
        return {}

    @cached_property
    def seams(self) -> tuple[Point, ...]:
        """Breaks with a piece of the curve on both sides."""
        lows = {segment.low for segment in self.segments}
        highs = {segment.high for segment in self.segments}
        return tuple(x for x in self.curve.breaks if x in lows and x in highs)

    # where it bends or jumps

    @cached_property
    def jumps(self) -> tuple[Jump, ...]:
        """Jumps, one-sided limits finite."""
        found = []
        for x in self.seams:
            left, right, value = self.left(x), self.right(x), self.curve.value(x)
            if left is None or right is None or math.isinf(left) or math.isinf(right):
                continue
            known = [left, right] if value is None else [left, right, value]
            if max(known) - min(known) > _SAME * max(1.0, *map(abs, known)):
                found.append(Jump(float(x), left, right, value))
        return tuple(found)

    @cached_property
    def _joints(self) -> tuple[Point, ...]:
        """Seams at which the curve is continuous."""
        torn = {jump.x for jump in self.jumps}
        return tuple(
            x
            for x in self.seams
            if x not in self.poles
            and float(x) not in torn
            and self.left(x) is not None
            and self.right(x) is not None
        )

    @cached_property
    def kinks(self) -> tuple[Kink, ...]:
        """Points where it is continuous, but its slope is not."""
        found = []
        for x in self._joints:
            left, right = self.curve.slope(x, -1), self.curve.slope(x, 1)
            if left is None or right is None or not _same(left, right):
                unknown = math.nan
                found.append(
                    Kink(
                        float(x),
                        unknown if left is None else left,
                        unknown if right is None else right,
                    )
                )
        return tuple(found)

    @cached_property
    def continuous(self) -> bool:
        """Continuous on its domain: no jump; a pole is outside of the domain."""
        return not self.jumps and len(self._joints) == len(
            [x for x in self.seams if x not in self.poles]
        )

    @cached_property
    def smooth(self) -> bool:
        """All derivatives (to order 8) exist and agree from both sides, everywhere inside."""
        if not self.continuous or self.kinks:
            return False
        return all(
            all(
                a is not None and b is not None and _same(a, b) and not math.isinf(a)
                for a, b in zip(
                    self.curve.derivatives(x, -1, _ORDERS),
                    self.curve.derivatives(x, 1, _ORDERS),
                    strict=True,
                )
            )
            for x in self._joints
        )

    # where it rises and falls

    @cached_property
    def derivative(self) -> Curve:
        """The derivative, away from breaks."""
        return Curve(gradient(self.curve.expression).get("x", Number(0)))

    @cached_property
    def turns(self) -> tuple[Point, ...]:
        """Points inside of segments at which the slope changes its sign."""
        return tuple(x for x in self._all_turns if self.complete or abs(x) <= WINDOW)

    @cached_property
    def _all_turns(self) -> tuple[Point, ...]:
        return tuple(sorted(x for segment in self.segments for x in self._turns(segment)))

    @cached_property
    def complete(self) -> bool:
        """False where turns or breaks go on outwards, as those of a periodic function do.

        What is known then is the part on [-12, 12].
        """
        far = [x for x in self._all_turns if abs(x) > WINDOW]
        return self.curve.complete and len(far) <= _MAX_FAR

    def _turns(self, segment: Segment) -> Iterator[Point]:
        previous: tuple[Point, int] | None = None
        for x in self.samples(segment):
            sign = self.derivative.sign(x)
            if sign == 0:
                continue
            if previous is not None and previous[1] != sign:
                yield bisect(self.derivative.sign, previous[0], x)
            previous = x, sign

    def samples(self, segment: Segment) -> Iterator[Point]:
        """The grid inside of a segment, and points close to its ends."""
        close = [Fraction(1, 1 << k) for k in (30, 14, 7)]
        if segment.low is not None:
            low = segment.low
            yield from (low + step for step in close if low + step in segment)
        inside = [x for x in _GRID if x in segment]
        yield from inside or [segment.inner]
        if segment.high is not None:
            high = segment.high
            yield from (high - step for step in reversed(close) if high - step in segment)

    @cached_property
    def monotone_pieces(self) -> tuple[Piece, ...]:
        """Maximal intervals on which it rises, falls or is constant, from left to right.

        Of a curve that turns for ever, those between turns that are known.
        """
        found: list[Piece] = []
        for low, high, trend in self._arcs:
            if not self.complete and (low is None or high is None):
                continue
            start, start_closed = _end(low, -1), self._reaches(low, 1)
            if found and low is not None and found[-1].interval.high == float(low):
                joined = trend == found[-1].trend and self._steps_along(low, trend)
                if joined:
                    first = found.pop().interval
                    start, start_closed = first.low, first.low_closed
            interval = Interval(start, _end(high, 1), start_closed, self._reaches(high, -1))
            found.append(Piece(interval, trend))
        return tuple(found)

    @cached_property
    def _arcs(self) -> tuple[tuple[Point | None, Point | None, str], ...]:
        """Ends and trends of the parts between breaks and turns."""
        found = []
        for segment in self.segments:
            cuts = [segment.low, *(x for x in self.turns if x in segment), segment.high]
            for low, high in itertools.pairwise(cuts):
                found.append((low, high, self._trend(Segment(low, high))))
        return tuple(found)

    def _trend(self, arc: Segment) -> str:
        """By the sign of the slope at a few places inside."""
        for x in [arc.inner, *self.samples(arc)]:
            sign = self.derivative.sign(x)
            if sign:
                return "increasing" if sign > 0 else "decreasing"
        return "constant"

    @cached_property
    def monotone(self) -> str:
        """The trend of the whole: "increasing", "decreasing", "constant" or "none".

        Constant parts, jumps in the same direction, and gaps in the domain are allowed.
        """
        trends = {trend for _, _, trend in self._arcs}
        for direction in ("constant", "increasing", "decreasing"):
            if (
                trends
                and trends <= {direction, "constant"}
                and all(
                    self._passes(left, right, direction)
                    for (_, left, _), (right, _, _) in zip(self._arcs, self._arcs[1:], strict=False)
                )
            ):
                return direction
        return "none"

    def _passes(self, left: Point | None, right: Point | None, trend: str) -> bool:
        """Whether from the end of one part to the beginning of the next the trend goes on."""
        assert left is not None
        assert right is not None
        if left == right:
            return left in self.turns or self._steps_along(left, trend)
        return _ordered([self.left(left), self.right(right)], trend)

    def _steps_along(self, x: Point, trend: str) -> bool:
        """Whether limit, value and limit at a break follow the trend."""
        value = self.curve.value(x)
        around = [self.left(x), self.right(x)]
        return _ordered(around if value is None else [around[0], value, around[1]], trend)

    def _reaches(self, x: Point | None, side: int) -> bool:
        """Whether the value at an end of a part is the limit from inside of the part."""
        if x is None or x in self.turns:
            return x is not None
        if not self._closed(x):
            return False
        value = self.curve.value(x)
        limit = self.right(x) if side > 0 else self.left(x)
        if not self.curve.is_exact(x):
            return True
        return value is not None and limit is not None and _same(value, limit)

    def _closed(self, x: Point | None) -> bool:
        """Whether the curve includes its end at x; a limit tells where x is irrational."""
        if x is None or self.curve.is_exact(x):
            return x is not None and self.curve.defined(x)
        return any(
            limit is not None and math.isfinite(limit) for limit in (self.left(x), self.right(x))
        )


def _end(x: Point | None, side: int) -> float:
    return side * math.inf if x is None else float(x)


def _ordered(values: list[float | None], trend: str) -> bool:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return False
    pairs = itertools.pairwise(known)
    if trend == "increasing":
        return all(a <= b or _same(a, b) for a, b in pairs)
    if trend == "decreasing":
        return all(a >= b or _same(a, b) for a, b in pairs)
    return all(_same(a, b) for a, b in pairs)


def _same(a: float, b: float) -> bool:
    if math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= _SAME * max(1.0, abs(a), abs(b))
