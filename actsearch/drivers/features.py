"""What a function looks like before it is trained: features in blocks, for surrogate models.

Candidates that are the same function have the same features, up to rounding, except for the
counts of operators. Values are passed through asinh, which is linear near 0 and logarithmic far
away, so that x³ and exp(x) do not outshout all others.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar import OPERATORS, Apply, Expression
from actsearch.grammar.evaluate import evaluate_numpy

Floats = NDArray[np.float64]

POINTS = 48
SPREAD = 2.0
"""Standard deviation of the grid: pre-activations of a network in training reach beyond ±1."""
STEP = 1e-4

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_NAMES = tuple(OPERATORS)


@cache
def _quantiles() -> Floats:
    from scipy.special import ndtri

    grid: Floats = SPREAD * ndtri((np.arange(POINTS) + 0.5) / POINTS)
    return grid


@dataclass(frozen=True)
class Features:
    """The features of one function.

    Attributes:
        values: (POINTS,) asinh f at the quantiles of N(0, SPREAD²).
        slopes: (POINTS,) asinh f′ there, by central differences.
        moments: asinh of mean, standard deviation, third moment and mean squared slope, for
            x ~ N(0, 1) and x ~ N(0, SPREAD²), and the correlation with x.
        operators: log(1 + n) for the number n of each operator, and of the parameters.
        finite: whether f and f′ are finite on the grid; the other features are 0 where not.
    """

    values: Floats
    slopes: Floats
    moments: Floats
    operators: Floats
    finite: bool

    @cached_property
    def key(self) -> bytes:
        """Equal for candidates that are the same function on the grid, but for rounding."""
        rounded = np.round(np.concatenate([self.values, self.slopes]), 5) + 0.0
        return rounded.astype(np.float32).tobytes()


@lru_cache(maxsize=20_000)
def features(expression: Expression) -> Features:
    """The features of an expression, with its parameters at their initial values."""
    grid = _quantiles()
    with np.errstate(all="ignore"):
        values = _at(expression, grid)
        slopes = (_at(expression, grid + STEP) - _at(expression, grid - STEP)) / (2 * STEP)
        moments = np.concatenate([_moments(expression, scale) for scale in (1.0, SPREAD)])
    finite = bool(np.isfinite(values).all() and np.isfinite(slopes).all())
    return Features(
        values=_squashed(values),
        slopes=_squashed(slopes),
        moments=_squashed(moments),
        operators=_operators(expression),
        finite=finite,
    )


def _at(expression: Expression, x: Floats) -> Floats:
    found = evaluate_numpy(expression, {"x": x, "gate": x[::-1]})
    return np.broadcast_to(np.asarray(found, dtype=np.float64), x.shape)


def _squashed(values: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(values), np.arcsinh(values), 0.0)


def _moments(expression: Expression, scale: float) -> Floats:
    """Mean, deviation, third central moment, mean squared slope, correlation with x."""
    x = scale * _NODES
    values = _at(expression, x)
    slopes = (_at(expression, x + STEP) - _at(expression, x - STEP)) / (2 * STEP)
    mean = float(_WEIGHTS @ values)
    centred = values - mean
    deviation = math.sqrt(max(float(_WEIGHTS @ centred**2), 0.0)) if np.isfinite(mean) else np.nan
    third = np.cbrt(_WEIGHTS @ centred**3)
    squared_slope = np.sqrt(_WEIGHTS @ slopes**2)
    correlation = (_WEIGHTS @ (x * centred)) / (scale * deviation) if deviation else 0.0
    return np.array([mean, deviation, third, squared_slope, correlation])


def _operators(expression: Expression) -> Floats:
    counts = Counter(n.operator.name for n in expression.postorder() if isinstance(n, Apply))
    found = [counts[name] for name in _NAMES]
    return np.log1p(np.array([*found, len(expression.parameters)], dtype=np.float64))
