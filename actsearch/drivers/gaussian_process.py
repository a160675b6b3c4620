"""Exact Gaussian-process regression over blocks of features, and expected improvement.

Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), algorithm 2.1, with a
Matérn kernel (ν = 5/2) over a distance in which each block of features has a weight of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_FITTED = 200
"""Observations whose likelihood chooses the weights; more would cost more than they tell."""

_PRIOR = np.array([0.0, math.log(0.2)])
"""Logarithms of signal and noise variance that are likely, for observations of variance 1."""
_JITTER = 1e-8


class GaussianProcess:
    """A posterior over the value of a function of blocks of features.

    Args:
        blocks: of the observed points: for each block (points, dimensions), of comparable scale.
        values: (points,), of mean 0 and variance 1 or so.
        weights: logarithms: of each block's weight, of the signal's and of the noise's variance;
            None to begin with a guess.
    """

    def __init__(
        self, blocks: Sequence[Floats], values: Floats, weights: Floats | None = None
    ) -> None:
        self._blocks = [np.ascontiguousarray(block) for block in blocks]
        self._values = values
        self.weights = (
            np.concatenate([np.zeros(len(blocks)), _PRIOR]) if weights is None else weights.copy()
        )

    def fit(self) -> None:
        """Choose the weights by their posterior density, with log-normal priors."""
        from scipy.optimize import minimize

        count = len(self._values)
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_FITTED)).astype(int))
        distances = [_distances(block[chosen], block[chosen]) for block in self._blocks]
        values = self._values[chosen]
        centre = np.concatenate([np.zeros(len(self._blocks)), _PRIOR])
        spread = np.concatenate([np.full(len(self._blocks), 1.5), [0.7, 1.0]])

        def cost(weights: Floats) -> float:
            kernel = _kernel(distances, weights)
            kernel[np.diag_indices_from(kernel)] += math.exp(weights[-1]) + _JITTER
            try:
                factor = np.linalg.cholesky(kernel)
            except np.linalg.LinAlgError:
                return 1e10
            half = _solve(factor, values)
            fit = 0.5 * float(half @ half) + float(np.log(np.diag(factor)).sum())
            return fit + 0.5 * float((((weights - centre) / spread) ** 2).sum())

        options = {"maxiter": 15}
        bounds = [(-6.0, 6.0)] * (len(centre) - 1) + [(math.log(1e-3), 2.0)]
        found = minimize(cost, self.weights, method="L-BFGS-B", bounds=bounds, options=options)
        self.weights = np.asarray(found.x, dtype=np.float64)

    def posterior(self, blocks: Sequence[Floats]) -> Posterior:
        """What is believed of other points, given the observations."""
        kernel = _kernel([_distances(b, b) for b in self._blocks], self.weights)
        noise = math.exp(self.weights[-1])
        kernel[np.diag_indices_from(kernel)] += noise + _JITTER
        factor = np.linalg.cholesky(kernel)
        pairs = zip(self._blocks, blocks, strict=True)
        cross = _kernel([_distances(mine, theirs) for mine, theirs in pairs], self.weights)
        half = _solve(factor, cross)
        means = half.T @ _solve(factor, self._values)
        variances = math.exp(self.weights[-2]) - np.einsum("ij,ij->j", half, half)
        observed = kernel - np.diag(np.full(len(kernel), noise + _JITTER))
        own = observed.T @ _solve(factor.T, _solve(factor, self._values), lower=False)
        return Posterior(blocks, self.weights, half, means, np.maximum(variances, 1e-12), own)


class Posterior:
    """Means and variances at some points, which shrink as further observations are imagined.

    Attributes:
        means, variances: (points,) of the function itself, without noise.
        best: the highest mean at a point that has been observed.
    """

    def __init__(
        self,
        blocks: Sequence[Floats],
        weights: Floats,
        half: Floats,
        means: Floats,
        variances: Floats,
        observed: Floats,
    ) -> None:
        self._blocks = blocks
        self._weights = weights
        self._half = half
        self.means = means
        self.variances = variances
        self.best = float(observed.max())

    def expected_improvement(self) -> Floats:
        """E max(f - best, 0) at each point (Močkus 1975)."""
        from scipy.special import ndtr

        deviations = np.sqrt(self.variances)
        z = (self.means - self.best) / deviations
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        improvement: Floats = deviations * (z * ndtr(z) + density)
        return improvement

    def imagine(self, place: int) -> None:
        """Take the value at a point to be observed, as its mean ("kriging believer")."""
        pairs = [(block[place : place + 1], block) for block in self._blocks]
        kernel = _kernel([_distances(a, b) for a, b in pairs], self._weights)[0]
        covariance = kernel - self._half[:, place] @ self._half
        row = covariance / math.sqrt(self.variances[place] + math.exp(self._weights[-1]))
        self._half = np.vstack([self._half, row])
        self.variances = np.maximum(self.variances - row**2, 1e-12)


def _distances(a: Floats, b: Floats) -> Floats:
    """(points of a, points of b): mean squared differences."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * (a @ b.T)
    return np.asarray(np.maximum(squares, 0.0) / max(1, a.shape[1]))


def _kernel(distances: Sequence[Floats], weights: Floats) -> Floats:
    """Matérn 5/2 of the weighted distance, times the signal's variance."""
    total = np.zeros_like(distances[0])
    for distance, weight in zip(distances, weights, strict=False):
        total += math.exp(weight) * distance
    scaled = np.sqrt(5.0 * total)
    kernel: Floats = math.exp(weights[-2]) * (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel


def _solve(factor: NDArray[Any], values: Floats, lower: bool = True) -> Floats:
    from scipy.linalg import solve_triangular

    found = solve_triangular(factor, values, lower=lower, check_finite=False)
    return np.asarray(found, dtype=np.float64)
