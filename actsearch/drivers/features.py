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
from itertools import pairwise

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
_SCALES = (1.0, SPREAD)
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
        freedom: (POINTS,) asinh of the norm of ∂f/∂p over the parameters p: what training can
            change besides weights. 0 without parameters.
        moments: asinh of mean, standard deviation, third moment and mean squared slope, for
            x ~ N(0, 1) and x ~ N(0, SPREAD²), and the correlation with x.
        spectrum: logarithms of the eigenvalues of the Fisher information of a small untrained
            network, from the largest to the smallest; see `fisher_spectrum`.
        operators: log(1 + n) for the number n of each operator, and of the parameters.
        finite: whether f, f′ and ∂f/∂p are finite on the grid; the other features are 0 where not.
    """

    values: Floats
    slopes: Floats
    freedom: Floats
    moments: Floats
    spectrum: Floats
    operators: Floats
    finite: bool

    @cached_property
    def key(self) -> bytes:
        """Equal for candidates that are the same function on the grid, but for rounding."""
        rounded = np.round(np.concatenate([self.values, self.slopes, self.freedom]), 5) + 0.0
        return rounded.astype(np.float32).tobytes()


@lru_cache(maxsize=20_000)
def features(expression: Expression) -> Features:
    """The features of an expression, with its parameters at their initial values."""
    grid = _quantiles()
    with np.errstate(all="ignore"):
        points = np.concatenate([grid, *(scale * _NODES for scale in _SCALES)])
        values, slopes = _values_and_slopes(expression, points)
        freedom = _freedom(expression, grid)
        parts = zip(
            _SCALES,
            np.split(values[POINTS:], len(_SCALES)),
            np.split(slopes[POINTS:], len(_SCALES)),
            strict=True,
        )
        moments = np.concatenate([_moments(*part) for part in parts])
        spectrum = fisher_spectrum(expression)
    values, slopes = values[:POINTS], slopes[:POINTS]
    finite = all(bool(np.isfinite(found).all()) for found in (values, slopes, freedom))
    return Features(
        values=_squashed(values),
        slopes=_squashed(slopes),
        freedom=_squashed(freedom),
        moments=_squashed(moments),
        spectrum=spectrum,
        operators=_operators(expression),
        finite=finite,
    )


def _values_and_slopes(expression: Expression, x: Floats) -> tuple[Floats, Floats]:
    """f and f′ at points of any shape."""
    values, above, below = _at(expression, np.stack([x, x + STEP, x - STEP]))
    return values, (above - below) / (2 * STEP)


def _at(expression: Expression, x: Floats, **parameters: Floats) -> Floats:
    values: Floats = evaluate_numpy(expression, {"x": x, "gate": x[..., ::-1], **parameters})
    return values


def _freedom(expression: Expression, grid: Floats) -> Floats:
    total = np.zeros(len(grid))
    for parameter in expression.parameters:
        both = parameter.initial + np.array([[STEP], [-STEP]])
        above, below = _at(expression, grid, **{parameter.name: both})
        total += ((above - below) / (2 * STEP)) ** 2
    return np.sqrt(total)


def _squashed(values: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.where(np.isfinite(values), np.arcsinh(values), 0.0)


def _moments(scale: float, values: Floats, slopes: Floats) -> Floats:
    """Mean, deviation, third central moment, mean squared slope, correlation with x."""
    mean = float(_WEIGHTS @ values)
    centred = values - mean
    deviation = math.sqrt(max(float(_WEIGHTS @ centred**2), 0.0)) if np.isfinite(mean) else np.nan
    third = np.cbrt(_WEIGHTS @ centred**3)
    squared_slope = np.sqrt(_WEIGHTS @ slopes**2)
    correlation = (_WEIGHTS @ (_NODES * centred)) / deviation if deviation else 0.0
    return np.array([mean, deviation, third, squared_slope, correlation])


def _operators(expression: Expression) -> Floats:
    counts = Counter(n.operator.name for n in expression.postorder() if isinstance(n, Apply))
    found = [counts[name] for name in _NAMES]
    return np.log1p(np.array([*found, len(expression.parameters)], dtype=np.float64))


# the Fisher information of an untrained network

SAMPLES, INPUTS, HIDDEN, CLASSES = 16, 8, 16, 3
_FLOOR = 1e-12
"""What eigenvalues are at least: a network that cannot learn has none above."""


@cache
def _untrained() -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    """Inputs (SAMPLES, INPUTS) from N(0, 1), and the weights of two hidden layers and the last."""
    rng = np.random.default_rng(0)
    sizes = (INPUTS, HIDDEN, HIDDEN, CLASSES)
    x = rng.standard_normal((SAMPLES, INPUTS))
    first, second, last = (
        rng.standard_normal((wide, narrow)) / math.sqrt(wide) for wide, narrow in pairwise(sizes)
    )
    return x, (first, second, last)


def fisher_spectrum(expression: Expression) -> Floats:
    """Logarithms of the eigenvalues that the Fisher information of an untrained network can have.

    The network has two hidden layers with this activation and a softmax over CLASSES outputs.
    Its Fisher information is the mean over inputs x of Σₖ p(k|x) g gᵀ with g = ∇ log p(k|x), over
    weights and biases (Bingham and Miikkulainen 2023, arXiv 2301.05785, who use a whole network on
    real data). It shares its nonzero eigenvalues with the matrix of the products g·g′, which is
    small.

    Returns:
        (SAMPLES·(CLASSES - 1),) in descending order; zeros where they are not finite.
    """
    x, (first, second, last) = _untrained()
    inner, inner_slopes = _values_and_slopes(expression, x @ first)
    outer, outer_slopes = _values_and_slopes(expression, inner @ second)
    scores = outer @ last
    likely = np.exp(scores - scores.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    # ∂ log p(k|x)/∂ scores, of length √p(k|x), for all pairs (x, k)
    at_scores = (np.eye(CLASSES) - likely[:, None, :]) * np.sqrt(likely)[:, :, None]
    at_last = at_scores.reshape(-1, CLASSES)
    sample = np.repeat(np.arange(SAMPLES), CLASSES)
    at_second = (at_last @ last.T) * outer_slopes[sample]
    at_first = (at_second @ second.T) * inner_slopes[sample]
    products = np.zeros((len(sample), len(sample)))
    for error, activity in ((at_last, outer), (at_second, inner), (at_first, x)):
        products += (error @ error.T) * (activity @ activity.T + 1)[np.ix_(sample, sample)]
    count = SAMPLES * (CLASSES - 1)
    if not np.isfinite(products).all():
        return np.zeros(count)
    values = np.asarray(np.linalg.eigvalsh(products / SAMPLES)[::-1][:count], dtype=np.float64)
    return np.log(np.maximum(values, _FLOOR))
