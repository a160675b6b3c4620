"""Model-based search: a Gaussian process over what functions look like, and expected improvement.

As Bingham and Miikkulainen search (2023, "Efficient activation function optimization through
surrogate modeling", arXiv 2301.05785), but by features that need no training and no data.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from actsearch.drivers.base import Driver, Space, SpaceExhausted
from actsearch.drivers.features import Features, features
from actsearch.drivers.gaussian_process import GaussianProcess
from actsearch.drivers.scores import normal_scores
from actsearch.grammar.errors import UsageError

WHOLE = 20_000
"""Spaces up to this size are scored completely; of larger ones a fresh pool each time."""
MUTANTS = 8
"""Share of a pool that descends from the best so far: one half, this many of each."""
MOST_OBSERVED = 800
"""Observations that the model is given: beyond, the best half of them and the latest."""
Floats = NDArray[np.float64]


class Surrogate(Driver):
    """Gaussian process and expected improvement over the deduplicated space.

    Args:
        initial: uniformly random candidates before the model is asked.
        batch: how many candidates are chosen at a time, each as if the values of those before it
            were what the model expects.
        pool: how many candidates of a large space are scored for a batch.

    Candidates with equal values, slopes and gradients of their parameters on the grid are one;
    those that are not finite there come last. Rewards enter by their ranks, so that only their
    order matters. Nothing is proposed twice.
    """

    name: ClassVar[str] = "surrogate"
    repeats = False

    def __init__(
        self, space: Space, seed: int, initial: int = 24, batch: int = 4, pool: int = 1000
    ) -> None:
        super().__init__(space, seed)
        for what, value in (("initial", initial), ("batch", batch), ("pool", pool)):
            if value < 1:
                raise UsageError(f"{what} is a whole number of at least 1, not {value}")
        self.initial = initial
        self.batch = batch
        self.pool = pool
        self._count = space.count()
        self._known: dict[int, Features] = {}
        self._whole: list[int] | None = None
        self._proposed: dict[int, None] = {}
        self._seen: set[bytes] = set()
        self._queue: list[int] = []
        self._told: list[tuple[int, float | None]] = []
        self._weights: list[float] | None = None
        self._fitted = 0

    # proposing

    def _propose(self) -> int:
        if len(self._proposed) == self._count:
            raise SpaceExhausted(self._count)
        rewards = sum(reward is not None for _, reward in self._told)
        if not self._queue:
            if len(self._proposed) < self.initial or rewards < 2:
                self._queue = [self._stranger()]
            else:
                self._queue = self._chosen() or [self._stranger()]
        index = self._queue.pop(0)
        self._proposed[index] = None
        self._seen.add(self._features(index).key)
        return index

    def _stranger(self) -> int:
        """A uniformly random candidate, if possible one that is finite and new as a function."""
        fallback: int | None = None
        for _ in range(200):
            index = self.random.randrange(self._count)
            if index in self._proposed:
                continue
            found = self._features(index)
            if found.finite and found.key not in self._seen:
                return index
            fallback = index if fallback is None else fallback
        if fallback is not None:
            return fallback
        start = self.random.randrange(self._count)
        free = (k % self._count for k in range(start, start + self._count))
        return next(index for index in free if index not in self._proposed)

    def _chosen(self) -> list[int]:
        """The next batch, by expected improvement; empty where the pool holds nothing new."""
        candidates = [
            index
            for index in self._candidates()
            if index not in self._proposed and self._features(index).key not in self._seen
        ]
        if not candidates:
            return []
        waiting = [index for index in self._pending if self._features(index).finite]
        pool = candidates + waiting
        observed = self._observed()
        scores = normal_scores([reward for _, reward in observed])
        scale = _Scale([self._features(index) for index, _ in observed])
        weights = None if self._weights is None else np.array(self._weights)
        process = GaussianProcess(
            scale.blocks([self._features(index) for index, _ in observed]), scores, weights
        )
        if len(self._told) >= 1.4 * self._fitted:
            process.fit()
            self._weights = process.weights.tolist()
            self._fitted = len(self._told)
        posterior = process.posterior(scale.blocks([self._features(index) for index in pool]))
        for place in range(len(candidates), len(candidates) + len(waiting)):
            posterior.imagine(place)
        free = np.arange(len(pool)) < len(candidates)
        chosen: list[int] = []
        for _ in range(min(self.batch, len(candidates))):
            place = int(np.argmax(np.where(free, posterior.expected_improvement(), -1.0)))
            chosen.append(pool[place])
            free[place] = False
            posterior.imagine(place)
        return chosen

    def _candidates(self) -> list[int]:
        """One of each function that is finite: of the whole space, or of a pool drawn for now."""
        if self._count <= WHOLE:
            if self._whole is None:
                self._whole = self._distinct(range(self._count))
            return self._whole
        best = sorted(
            ((reward, index) for index, reward in self._told if reward is not None), reverse=True
        )
        parents = [index for _, index in best[: max(1, self.pool // (2 * MUTANTS))]]
        drawn = [self.random.randrange(self._count) for _ in range(self.pool // 2)]
        for parent in parents:
            for _ in range(MUTANTS):
                drawn.append(self.space.mutate(parent, self.random))
        self._forget(set(drawn))
        return self._distinct(drawn)

    def _distinct(self, indices: Any) -> list[int]:
        first: dict[bytes, int] = {}
        for index in indices:
            found = self._features(index)
            if found.finite:
                first.setdefault(found.key, index)
        return list(first.values())

    def _features(self, index: int) -> Features:
        if index not in self._known:
            self._known[index] = features(self.space.expression(index))
        return self._known[index]

    def _forget(self, needed: set[int]) -> None:
        """Drop the features of earlier pools."""
        needed |= self._proposed.keys()
        self._known = {k: found for k, found in self._known.items() if k in needed}

    # learning

    def _learn(self, index: int, reward: float | None) -> None:
        self._told.append((index, reward))

    def _observe(self, index: int, reward: float | None) -> None:
        self._proposed[index] = None
        self._seen.add(self._features(index).key)
        self._told.append((index, reward))

    def _revise(self, index: int, reward: float | None) -> None:
        self._told = [(k, reward if k == index else before) for k, before in self._told]

    def _observed(self) -> list[tuple[int, float | None]]:
        told = [(index, reward) for index, reward in self._told if self._features(index).finite]
        if len(told) <= MOST_OBSERVED:
            return told
        half = MOST_OBSERVED // 2
        ranked = sorted(told, key=lambda pair: -math.inf if pair[1] is None else -pair[1])
        best = {index for index, reward in ranked[:half] if reward is not None}
        latest = {index for index, _ in told[-half:]}
        return [pair for pair in told if pair[0] in best or pair[0] in latest]

    def _state(self) -> dict[str, Any]:
        return {
            "proposed": list(self._proposed),
            "queue": list(self._queue),
            "told": [list(pair) for pair in self._told],
            "weights": self._weights,
            "fitted": self._fitted,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._proposed = dict.fromkeys(state["proposed"])
        self._seen = {self._features(index).key for index in self._proposed}
        self._queue = list(state["queue"])
        self._told = [(index, reward) for index, reward in state["told"]]
        self._weights = state["weights"]
        self._fitted = state["fitted"]


class _Scale:
    """Blocks of features, centred and scaled by what has been observed."""

    def __init__(self, observed: list[Features]) -> None:
        self._centres: list[Floats] = []
        self._scales: list[float] = []
        for block in _stacked(observed):
            self._centres.append(block.mean(0))
            self._scales.append(max(float(np.sqrt(block.var(0).mean())), 1e-6))

    def blocks(self, some: list[Features]) -> list[Floats]:
        """(points, dimensions) of each block."""
        return [
            (block - centre) / scale
            for block, centre, scale in zip(
                _stacked(some), self._centres, self._scales, strict=True
            )
        ]


def _stacked(some: list[Features]) -> list[Floats]:
    return [
        np.stack([getattr(found, name) for found in some])
        for name in ("values", "slopes", "freedom", "moments", "spectrum", "operators")
    ]
