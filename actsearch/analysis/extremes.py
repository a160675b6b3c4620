"""The largest and smallest values of a curve, its steepest slope, and where it overflows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from actsearch.analysis.curve import Curve, Point
from actsearch.analysis.pieces import Interval, Shape
from actsearch.equivalence.balls import is_value
from actsearch.equivalence.marks import UNDECIDED

LARGEST: Mapping[str, float] = {
    "float32": 3.4028234663852886e38,
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
}
"""The largest finite number of each type that activations are computed in."""
_ROUNDS_TO_INFINITY: Mapping[str, Fraction] = {
    "float32": Fraction(2**128 - 2**103),
    "float16": Fraction(65520),
    "bfloat16": Fraction(2**128 - 2**119),
}
"""Half a unit beyond the largest number: from here on, rounding gives infinity."""

_SAME = 1e-11
_GOLDEN = Fraction(987, 1597)
_STEPS = 40
_PEAKS = 2


@dataclass(frozen=True)
class Extremes:
    """The range of a curve, and where its ends are attained.

    Attributes:
        range: infimum and supremum, closed where attained.
        minimum: (value, x) where the infimum is attained, at the x nearest to 0; else None.
        maximum: the same for the supremum.
    """

    range: Interval
    minimum: tuple[float, float] | None
    maximum: tuple[float, float] | None


def extremes(shape: Shape) -> Extremes:
    """Infimum and supremum over the domain."""
    attained = [(value, float(x)) for x, value in _attained(shape)]
    approached = [*_approached(shape), *(value for value, _ in attained)]
    if not approached:
        return Extremes(Interval(math.nan, math.nan), None, None)
    low, high = min(approached), max(approached)
    minimum = _nearest(attained, low)
    maximum = _nearest(attained, high)
    interval = Interval(
        minimum[0] if minimum else low,
        maximum[0] if maximum else high,
        minimum is not None,
        maximum is not None,
    )
    return Extremes(interval, minimum, maximum)


def _attained(shape: Shape) -> Iterator[tuple[Point, float]]:
    """Values at turns, breaks and inside of constant pieces."""
    for x in (*shape.turns, *shape.curve.breaks):
        value = shape.curve.value(x)
        if value is None and x in shape.seams and shape.left(x) == shape.right(x):
            value = shape.left(x)  # a removable singularity, filled
        if value is None and not shape.curve.is_exact(x):
            value = next((v for v in (shape.left(x), shape.right(x)) if v is not None), None)
        if value is not None and math.isfinite(value):
            yield x, value
    for segment in shape.segments:
        if not shape.derivative.sign(segment.inner):
            place = Fraction(0) if Fraction(0) in segment else segment.inner
            value = shape.curve.value(place)
            if value is not None:
                yield place, value


def _approached(shape: Shape) -> Iterator[float]:
    """Limits at the ends of all segments, and what a curve without a limit reaches far out."""
    for segment in shape.segments:
        for end, side in ((segment.low, -1), (segment.high, 1)):
            if end is not None:
                limit = shape.right(end) if side < 0 else shape.left(end)
                yield from () if limit is None else (limit,)
                continue
            limit = shape.curve.end(side)
            if limit is not None:
                yield limit
                continue
            for value in shape.curve.far_extremes(side):
                if not math.isnan(value):
                    yield math.copysign(math.inf, value) if abs(value) > 1e6 else value


def _nearest(attained: list[tuple[float, float]], wanted: float) -> tuple[float, float] | None:
    close = [
        (value, x)
        for value, x in attained
        if math.isfinite(wanted) and abs(value - wanted) <= _SAME * max(1.0, abs(wanted))
    ]
    return min(close, key=lambda pair: (abs(pair[1]), pair[1])) if close else None


def lipschitz(shape: Shape) -> float:
    """The supremum of |slope|; inf with a jump, a pole, or a vertical tangent."""
    if shape.jumps or shape.poles or not shape.segments:
        return math.inf
    derivative = shape.derivative
    largest = 0.0
    for segment in shape.segments:
        for end, side in ((segment.low, 1), (segment.high, -1)):
            outside = -1 if side == 1 else 1
            slope = derivative.end(outside) if end is None else shape.curve.slope(end, side)
            if slope is None and end is None:
                far = [abs(v) for v in derivative.far_extremes(outside) if not math.isnan(v)]
                slope = math.inf if far and max(far) > 1e6 else max(far, default=0.0)
            largest = max(largest, abs(slope or 0.0))
        largest = max(largest, _steepest(derivative, list(shape.samples(segment))))
    return largest


def _steepest(derivative: Curve, points: list[Point]) -> float:
    """The largest |slope| at these points and around the highest of them."""
    sizes = [abs(derivative.value(x) or 0.0) for x in points]
    peaks = [
        place
        for place in range(1, len(points) - 1)
        if sizes[place - 1] < sizes[place] >= sizes[place + 1]
    ]
    peaks.sort(key=lambda place: -sizes[place])
    around = (_peak(derivative, points[p - 1], points[p + 1]) for p in peaks[:_PEAKS])
    return max(*sizes, 0.0, *around)


def _peak(curve: Curve, low: Point, high: Point) -> float:
    """The largest |value| between two points around a maximum, by golden sections."""

    def size(x: Point) -> float:
        return abs(curve.value(x) or 0.0)

    a, b = float(low), float(high)
    ratio = float(_GOLDEN)
    inner = [b - ratio * (b - a), a + ratio * (b - a)]
    sizes = [size(Fraction(x)) for x in inner]
    for _ in range(_STEPS):
        if sizes[0] > sizes[1]:
            b, inner[1], sizes[1] = inner[1], inner[0], sizes[0]
            inner[0] = b - ratio * (b - a)
            sizes[0] = size(Fraction(inner[0]))
        else:
            a, inner[0], sizes[0] = inner[0], inner[1], sizes[1]
            inner[1] = a + ratio * (b - a)
            sizes[1] = size(Fraction(inner[1]))
    return max(sizes)


def overflow(shape: Shape) -> dict[str, tuple[float | None, float | None]]:
    """Where the value of a finite input is beyond the largest number of a type.

    For each type the negative x nearest to 0, and the positive one, beyond which the correctly
    rounded value is infinite somewhere; None where there is none. Neighbourhoods of poles do not
    count. Half-precision types have float32's range of intermediate values, as generated modules
    compute in it.
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, bound in _ROUNDS_TO_INFINITY.items():
        sides = [_first_overflow(shape, side, bound, LARGEST[name]) for side in (-1, 1)]
        found[name] = (sides[0], sides[1])
    return found


def _first_overflow(shape: Shape, side: int, bound: Fraction, largest: float) -> float | None:
    curve = shape.curve

    def beyond(size: Fraction) -> bool:
        ball = curve.ball(side * size)
        if ball is UNDECIDED:
            return True  # beyond the exponents of balls
        return is_value(ball) and bool(abs(ball) >= float(bound))

    start = max((abs(x) for x in shape.poles), default=Fraction(0)) + Fraction(1, 1000)
    previous = start
    size = start
    while size <= largest:
        if beyond(size):
            return _boundary(beyond, previous, size) * side
        previous, size = size, Fraction(float(size) * 1.25)
    return (
        _boundary(beyond, previous, Fraction(largest)) * side if beyond(Fraction(largest)) else None
    )


def _boundary(beyond: Callable[[Fraction], bool], low: Fraction, high: Fraction) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return float(high)
