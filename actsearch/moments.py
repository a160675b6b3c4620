"""Moments of an activation under z ~ N(0, 1), and the gain that keeps the variance.

The integrals are cut at kinks, jumps and poles. Each piece is a row of Gauss-Legendre panels that
shrink geometrically towards its ends, so that integrable singularities (log|x|, √|x|) converge; an
integral whose panels do not fade towards an end is infinite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from actsearch.analysis.curve import Curve, frozen, is_univariate
from actsearch.codegen.gradients import gradient
from actsearch.equivalence.balls import is_value
from actsearch.equivalence.marks import UNDEFINED
from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.grammar.expression import Expression, Number
from actsearch.grammar.language import as_expression

Floats = NDArray[np.float64]

_REACH = 38.0  # exp(-z²/2) is below 1e-313 beyond
_WIDTH = 0.5
_LEVELS = 36  # halvings towards the end of a piece
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_FADING = 0.97
_NEGLIGIBLE = 1e-14


@dataclass(frozen=True)
class Moments:
    """Expectations over z ~ N(0, 1), with parameters at their initial values.

    Attributes:
        mean: E f(z).
        second: E f(z)²; inf where it diverges, nan where f is undefined on part of the line.
        gradient_second: E f′(z)², jumps left out.
        gain: 1/√(E f(z)²): the factor on the weights' standard deviation 1/√fan_in for which the
            second moment of the pre-activations stays 1 from layer to layer.
    """

    mean: float
    second: float
    gradient_second: float
    gain: float


def gain(expression: str | Expression, parameters: Mapping[str, float] | None = None) -> float:
    """1/√(E f(z)²) for z ~ N(0, 1): √2 for ReLU (He et al. 2015).

    Args:
        expression: an activation of the one input x.
        parameters: values for some of its parameters; the others have their initial values.

    Returns:
        The gain; inf for the zero function, 0 where E f² diverges, nan where f is undefined on part
        of the line.

    Raises:
        ExpressionError: the text is no expression.
        ValueError: a gated activation, or an unknown parameter.

    Example:
        >>> round(gain("relu(x)"), 4)
        1.4142
    """
    return _gain(_second(_Integrand(_univariate(expression, parameters))))


def moments(expression: str | Expression, parameters: Mapping[str, float] | None = None) -> Moments:
    """E f, E f², E f′² and the gain, for z ~ N(0, 1).

    Args:
        expression: an activation of the one input x.
        parameters: values for some of its parameters; the others have their initial values.

    Raises:
        ExpressionError: the text is no expression.
        ValueError: a gated activation, or an unknown parameter.
    """
    single = _univariate(expression, parameters)
    function = _Integrand(single)
    slope = _Integrand(gradient(single).get("x", Number(0)), function.cuts)
    second = _second(function)
    return Moments(
        mean=math.nan if function.has_gaps else _integral(function, 1),
        second=second,
        gradient_second=math.nan if function.has_gaps else _second(slope),
        gain=_gain(second),
    )


def _gain(second: float) -> float:
    return math.inf if second == 0 else 1 / math.sqrt(second)


def _univariate(expression: str | Expression, parameters: Mapping[str, float] | None) -> Expression:
    expression = as_expression(expression)
    if not is_univariate(expression):
        raise ValueError(f"{expression} has two inputs; its moments are not those of one variable")
    values = {parameter.name: parameter.initial for parameter in expression.parameters}
    for name, value in (parameters or {}).items():
        if name not in values:
            raise ValueError(f"{expression} has no parameter {name!r}")
        values[name] = float(value)
    return frozen(expression, values)


class _Integrand:
    """A function whose powers are integrated against the normal density."""

    def __init__(self, expression: Expression, cuts: tuple[float, ...] = ()) -> None:
        self.expression = expression
        self.curve = Curve(expression)
        own = tuple(float(x) for x in self.curve.breaks if abs(x) < _REACH)
        self.cuts = tuple(sorted({*own, *cuts}))

    @property
    def has_gaps(self) -> bool:
        """Whether the function is undefined on a part of the line that matters."""
        return any(
            self.curve.ball(Fraction((low * 4 + high * 3) / 7)) is UNDEFINED
            for low, high in self.pieces()
        )

    def pieces(self) -> Iterator[tuple[float, float]]:
        """The intervals between cuts."""
        ends = [-_REACH, *self.cuts, _REACH]
        yield from itertools.pairwise(ends)

    def weighted(self, z: Floats, power: int) -> Floats:
        """f(z)^power times the density; where floats fail, by balls and logarithms."""
        values = evaluate_numpy(self.expression, {"x": z})
        density = -z * z / 2 - _HALF_LOG_TAU
        with np.errstate(over="ignore", invalid="ignore"):
            size = power * np.log(np.abs(values), where=values != 0, out=np.full_like(z, -np.inf))
            result = np.copysign(np.exp(size + density), values**power)
        for place in np.argwhere(~np.isfinite(values)):
            index = tuple(int(i) for i in place)
            result[index] = self._by_balls(float(z[index]), power, float(density[index]))
        return np.asarray(result)

    def _by_balls(self, z: float, power: int, density: float) -> float:
        ball = self.curve.ball(Fraction(z))
        if not is_value(ball):
            return math.inf if ball is not UNDEFINED else 0.0
        if ball.contains(0):
            return 0.0
        exponent = power * float(abs(ball).log().mid()) + density
        size = math.exp(exponent) if exponent < 700 else math.inf
        return size if power % 2 == 0 or ball > 0 else -size


def _second(function: _Integrand) -> float:
    return math.nan if function.has_gaps else _integral(function, 2)


def _integral(function: _Integrand, power: int) -> float:
    """The integral of f^power times the density over the line; ±inf where it diverges."""
    total = 0.0
    for low, high in function.pieces():
        middle = (low + high) / 2
        for start, end in ((low, middle), (high, middle)):
            total += _towards(function, power, start, end, open_end=abs(start) >= _REACH)
    return total


def _towards(function: _Integrand, power: int, end: float, middle: float, open_end: bool) -> float:
    """The integral between `end` and `middle`, with panels that shrink towards `end`.

    Where the panels do not fade the integral diverges: towards the far end of the line, when the
    last of them still counts.
    """
    if open_end:
        count = max(1, math.ceil(abs(middle - end) / _WIDTH))
        edges = np.linspace(end, middle, count + 1)
    else:
        levels = np.arange(_LEVELS, -1, -1, dtype=np.float64)
        halvings = end + (middle - end) * np.exp2(-levels)
        edges = np.concatenate([[end], _divided(halvings)])
    parts = _panels(function, power, edges)
    total = float(np.sum(parts))
    if not math.isfinite(total):
        return math.inf if power % 2 == 0 or total > 0 else -math.inf
    if open_end:
        diverges = abs(parts[0]) > 1e-6 * max(abs(total), 1e-300) and abs(parts[0]) > 1e-12
    else:
        inner = np.abs(parts[1:6])
        diverges = bool(np.all(inner[:-1] >= _FADING * inner[1:])) and inner[0] > _NEGLIGIBLE * max(
            1.0, abs(total)
        )
    if diverges:
        return math.copysign(math.inf, total)
    return total


def _divided(edges: Floats) -> Floats:
    """The edges with panels wider than `_WIDTH` cut into narrower ones."""
    pieces = [
        np.linspace(a, b, max(1, math.ceil(abs(b - a) / _WIDTH)) + 1)[:-1]
        for a, b in itertools.pairwise(edges)
    ]
    return np.concatenate([*pieces, edges[-1:]])


def _panels(function: _Integrand, power: int, edges: Floats) -> Floats:
    """The integral over each panel."""
    left, right = edges[:-1, None], edges[1:, None]
    z = (left + right) / 2 + (right - left) / 2 * _NODES
    values = function.weighted(z, power)
    with np.errstate(invalid="ignore"):
        return np.asarray(values @ _WEIGHTS * np.abs(edges[1:] - edges[:-1]) / 2)
