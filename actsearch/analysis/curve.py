"""An activation as a curve: exact values by ball arithmetic, limits, one-sided slopes.

Parameters stand at given values, so that one variable is left. Everything is computed with as many
digits as it takes; floats appear only in the answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property

from flint import arb

from actsearch.equivalence.balls import Ball, ball_value, exact, is_value, precision
from actsearch.equivalence.marks import UNDECIDED, UNDEFINED
from actsearch.equivalence.points import Line, switches, switching_points
from actsearch.grammar.expression import Expression, Input, Number

Point = Fraction
LINE = Line(("x",), (Fraction(0),), (Fraction(1),))

_BITS = 192
_MAX_BITS = 6_000
_APPROACH = (20, 40, 80, 160, 320, 640)  # distances 2^-k from a point
_APPROACH_INEXACT = (20, 30, 40, 50, 60)  # from a point that is itself known to 2^-150 only
_FAR = (4, 6, 8, 16, 48, 144, 432, 1296, 3888)  # distances 2^k from 0
_MULTIPLES = tuple(Fraction(n, 1024) for n in (1024, 1301, 1733, 1187, 1451, 1949, 1093, 1607))
WINDOW = 12
"""A curve that breaks or turns for ever is followed from -WINDOW to WINDOW."""
_MAX_BREAKS = 24
_CLOSE = 1e-12
_ZERO = Fraction(1, 1 << 120)


class Curve:
    """The graph of an expression in x without parameters.

    Args:
        expression: with x as its only variable.
    """

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self._known: dict[Point, Ball] = {}

    def ball(self, x: Point, bits: int = _BITS) -> Ball:
        """The enclosure at x, with a relative error under 2^-80 where that can be had."""
        if bits != _BITS:
            return self._ball(x, bits)
        if x not in self._known:
            self._known[x] = self._ball(x, bits)
        return self._known[x]

    def _ball(self, x: Point, bits: int) -> Ball:
        while True:
            with precision(bits):
                ball = ball_value(self.expression, {"x": x})
                if ball is UNDEFINED:
                    return ball
                if is_value(ball) and (ball.rel_accuracy_bits() > 80 or _is_tiny(ball)):
                    return ball
            bits *= 4
            if bits > _MAX_BITS:
                return ball

    def value(self, x: Point) -> float | None:
        """The value at x; None where it is undefined, or not known (at an irrational break)."""
        ball = self.ball(x)
        known = is_value(ball) and (ball.rel_accuracy_bits() > 40 or _is_tiny(ball))
        return as_float(ball) if known else None

    def defined(self, x: Point) -> bool:
        """Whether the function is defined at x."""
        return self.ball(x) is not UNDEFINED

    def is_zero(self, x: Point) -> bool:
        """Whether the value is 0 to all digits that are computed."""
        ball = self.ball(x)
        return is_value(ball) and _is_tiny(ball)

    def sign(self, x: Point) -> int:
        """The sign of the value at x; 0 where it is 0 or undefined."""
        ball = self.ball(x)
        if not is_value(ball) or ball.contains(0):
            return 0
        return 1 if ball > 0 else -1

    @cached_property
    def breaks(self) -> tuple[Point, ...]:
        """Points, in order, at which the curve may be other than analytic.

        Rational where the root of what switches is a simple fraction, else within 2^-150 of it.
        """
        found: list[Point] = []
        for root in self._roots:
            if not self.complete and abs(root) > WINDOW:
                continue
            point = self._sharpened(root)
            if not found or point - found[-1] > Fraction(1, 1 << 40) * (1 + abs(point)):
                found.append(point)
        return tuple(found)

    @cached_property
    def _roots(self) -> list[float]:
        return switching_points((self.expression,), LINE)

    @property
    def complete(self) -> bool:
        """False where there are so many breaks that only those nearest to 0 were looked at."""
        return len(self._roots) < _MAX_BREAKS

    def _sharpened(self, root: float) -> Point:
        """The exact root of a switch near a float, if it is a simple fraction; else bisection."""
        simple = Fraction(root).limit_denominator(10_000)
        near = abs(simple - Fraction(root)) <= Fraction(1, 10**6) * (1 + abs(simple))
        curves = [Curve(switch) for switch in switches(self.expression)]
        if near and any(curve.is_zero(simple) or not curve.defined(simple) for curve in curves):
            return simple
        step = Fraction(float(max(abs(root), 1e-3)) * 1e-6)
        for curve in curves:
            low, high = Fraction(root) - step, Fraction(root) + step
            if curve.sign(low) * curve.sign(high) < 0:
                return bisect(curve.sign, low, high)
        return Fraction(root)

    def is_exact(self, x: Point) -> bool:
        """Whether a break is the root itself, not an approximation of it."""
        return x.denominator <= 10_000

    # limits

    def limit(self, x: Point, side: int) -> float | None:
        """The limit from the left (side -1) or the right (+1); ±inf; None if there is none."""
        steps = _APPROACH if self.is_exact(x) else _APPROACH_INEXACT
        rows = [[self.ball(x + side * Fraction(1, 1 << k), _BITS + 2 * k)] for k in steps]
        return settle(rows)

    def end(self, side: int) -> float | None:
        """The limit for x -> -inf (side -1) or +inf (+1); None if there is none."""
        return settle(self._far(side))

    def far_extremes(self, side: int) -> tuple[float, float]:
        """Smallest and largest of some values far out, for ends without a limit."""
        values = [as_float(ball) for row in self._far(side) for ball in row if is_value(ball)]
        return (min(values), max(values)) if values else (math.nan, math.nan)

    def _far(self, side: int) -> list[list[Ball]]:
        return [[self.ball(side * c * (1 << k), _BITS + 2 * k) for c in _MULTIPLES] for k in _FAR]

    def slope(self, x: Point, side: int) -> float | None:
        """The one-sided derivative at x, by difference quotients in many digits; ±inf; None."""
        steps = _APPROACH[1:] if self.is_exact(x) else _APPROACH_INEXACT[1:]
        return settle([[self._difference(x, side, k, 1)] for k in steps])

    def derivatives(self, x: Point, side: int, order: int) -> tuple[float | None, ...]:
        """One-sided derivatives of order 1 to `order`, None where a limit does not exist."""
        steps = (60, 90, 120) if self.is_exact(x) else (30, 36, 42)
        return tuple(
            settle([[self._difference(x, side, k, n)] for k in steps]) for n in range(1, order + 1)
        )

    def _difference(self, x: Point, side: int, k: int, order: int) -> Ball:
        """The difference quotient over x + side·h, …, x + (order + 1)·side·h for h = 2^-k."""
        step = side * Fraction(1, 1 << k)
        bits = _BITS + 2 * k * (order + 1)
        balls = [self.ball(x + place * step, bits) for place in range(1, order + 2)]
        if not all(is_value(ball) for ball in balls):
            return UNDEFINED if UNDEFINED in balls else UNDECIDED
        with precision(bits):
            total = arb(0)
            for place, ball in enumerate(balls):
                total += (-1) ** (order - place) * math.comb(order, place) * ball
            return total / exact(step**order)


def _is_tiny(ball: arb) -> bool:
    """Zero to all digits that are computed."""
    return bool(ball.contains(0) and ball.abs_upper() < exact(_ZERO))


def as_float(ball: arb) -> float:
    """The nearest float; ±inf beyond the largest one."""
    if ball.contains(0) and _is_tiny(ball):
        return 0.0
    return float(ball.mid())


def bisect(sign: Callable[[Point], int], low: Point, high: Point) -> Point:
    """The root between two points of different signs, to 2^-150 of their distance."""
    left = sign(low)
    for _ in range(150):
        middle = (low + high) / 2
        here = sign(middle)
        if here == 0:
            return middle
        low, high = (middle, high) if here == left else (low, middle)
    return (low + high) / 2


def settle(rows: Iterable[list[Ball]]) -> float | None:
    """The limit of a sequence whose terms are known at several places each.

    Finite where the terms close in on each other and on the next ones, ±inf where they only grow,
    None where the function is undefined in the end, or its values scatter.
    """
    means: list[float] = []
    sides: list[tuple[float, float]] = []
    ended = True
    for row in rows:
        if any(ball is UNDEFINED for ball in row):
            means, sides = [], []
            continue
        if any(not is_value(ball) for ball in row):
            ended = False  # beyond the exponents of balls: what came before tells
            break
        values = [as_float(ball) for ball in row]
        means.append(values[0])
        sides.append((min(values), max(values)))
    if len(means) < 2:
        return None
    if _grows(means, sides, ended):
        return math.copysign(math.inf, means[-1])
    if len(means) < 3 or any(map(math.isinf, sides[-1])):
        return None
    return _converged(means, sides[-1][1] - sides[-1][0])


def _converged(means: list[float], spread: float) -> float | None:
    last = means[-1]
    steps = [b - a for a, b in zip(means[-4:], means[-3:], strict=False)]
    if max(abs(steps[-1]), spread) <= _CLOSE * max(1.0, abs(last)):
        return _snapped(last)
    ratios = [b / a for a, b in itertools.pairwise(steps) if a]
    if ratios and all(0 < ratio < 0.9 for ratio in ratios) and spread <= abs(steps[-1]):
        return _snapped(last + steps[-1] * ratios[-1] / (1 - ratios[-1]))  # Aitken
    return None


def _grows(means: list[float], sides: list[tuple[float, float]], ended: bool) -> bool:
    """Whether the terms run away in one direction, with steps that do not shrink."""
    if not all(low > 0 for low, _ in sides[-3:]) and not all(high < 0 for _, high in sides[-3:]):
        return False
    sizes = [abs(value) for value in means[-3:]]
    if math.isinf(sizes[-1]):
        return True
    steps = [b - a for a, b in itertools.pairwise(sizes)]
    if not ended:  # the next term was beyond all exponents
        return steps[-1] > 0
    return len(steps) == 2 and steps[0] > 0 and steps[1] >= 0.9 * steps[0]


def _snapped(value: float) -> float:
    """Rounded to 12 digits where that is closer than the limit is known."""
    rounded = round(value, 11)
    return rounded + 0.0 if abs(rounded - value) <= 1e-13 * max(1.0, abs(value)) else value


def frozen(expression: Expression, values: dict[str, float]) -> Expression:
    """The expression with its parameters replaced by numbers."""
    return expression.substitute(
        {parameter: Number(values[parameter.name]) for parameter in expression.parameters}
    )


def is_univariate(expression: Expression) -> bool:
    """Whether x is its only input."""
    return all(node is Input("x") for node in expression.inputs)
