"""What the components of a grammar are worth: a linear model of the reward by their counts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actsearch.drivers.scores import normal_scores

PRIOR, NOISE = 0.05, 0.5
"""Variances of a component's worth and of a score about what the model says of it."""
BOLDNESS = 0.3
"""A draw's standard deviations are so many times those of the posterior."""

Floats = NDArray[np.float64]


class ComponentModel:
    """Bayesian linear regression of normal scores on how often each component occurs.

    Bishop, *Pattern Recognition and Machine Learning* (2006), equations 3.50 and 3.51.

    Args:
        components: how many a space has.
    """

    def __init__(self, components: int) -> None:
        self._products = np.zeros((components, components))
        self._rows: list[Floats] = []

    def add(self, walk: Sequence[int]) -> None:
        """Observe one more candidate, by the components that write it."""
        row = self._counts(walk)
        self._products += np.outer(row, row)  # whole numbers, so that their order changes nothing
        self._rows.append(row)

    def draw(self, rewards: Sequence[float | None], rng: random.Random) -> Floats:
        """What each component may be worth, drawn from the posterior (Thompson 1933).

        Args:
            rewards: of the candidates that were added, in that order.
            rng: source of the draw.
        """
        count = len(self._products)
        precision = self._products / NOISE + np.eye(count) / PRIOR
        factor = np.linalg.cholesky(precision)
        moments = np.stack(self._rows).T @ normal_scores(rewards) / NOISE
        normal = np.array([rng.gauss(0.0, BOLDNESS) for _ in range(count)])
        worth = np.linalg.solve(precision, moments) + np.linalg.solve(factor.T, normal)
        return np.asarray(worth, dtype=np.float64)

    def best(self, walks: Sequence[Sequence[int]], worth: Floats) -> int:
        """Which of some candidates has the highest sum of what its components are worth."""
        return int(np.argmax([self._counts(walk) @ worth for walk in walks]))

    def _counts(self, walk: Sequence[int]) -> Floats:
        return np.bincount(walk, minlength=len(self._products)).astype(np.float64)
