"""Evolution and both controllers find better functions than random search, with their defaults.

The reward is how close a function of the two-unit space comes to a hidden one. Twenty pairs of
runs, four seeds for each of five targets. What is compared is what a search is for: the ten best
candidates that it found, and the best of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from actsearch.drivers import driver
from actsearch.grammar import SearchSpace, parse, space
from actsearch.grammar.evaluate import evaluate_numpy

TARGETS = (
    "max(x, 0)*cos(x)",
    "tanh(x) - x*exp(-x**2)",
    "softplus(x) - sin(x)",
    "x**2*sigmoid(-x)",
    "erf(x) + 0.1*x**3",
)
SEEDS_PER_TARGET = 4
EVALUATIONS = 256
GAUSSIAN_GRID = special.ndtri((np.arange(64) + 0.5) / 64)


@cache
def swish() -> SearchSpace:
    return space("swish", units=2)


@cache
def values(index: int) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        found = evaluate_numpy(swish().expression(index), {"x": GAUSSIAN_GRID})
    return np.broadcast_to(found, GAUSSIAN_GRID.shape)


def reward(index: int, target: NDArray[np.float64]) -> float | None:
    """1/(1 + root mean square distance for x ~ N(0, 1)); None where it is not finite."""
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean((values(index) - target) ** 2)))
    return 1 / (1 + error) if np.isfinite(error) else None


@cache
def results(name: str) -> NDArray[np.float64]:
    """(20, 2): the mean of the ten best rewards of each run, and the best."""
    rows = []
    for number in range(len(TARGETS) * SEEDS_PER_TARGET):
        target = evaluate_numpy(parse(TARGETS[number // SEEDS_PER_TARGET]), {"x": GAUSSIAN_GRID})
        player = driver(name, swish(), seed=100 + number)
        found: dict[int, float] = {}
        for _ in range(EVALUATIONS):
            index = player.ask()
            value = reward(index, target)
            player.tell(index, value)
            if value is not None:
                found[index] = value
        best = sorted(found.values(), reverse=True)[:10]
        rows.append((np.mean(best), best[0]))
    return np.array(rows)


@pytest.mark.parametrize("name", ["evolution", "reinforce", "ppo"])
def test_learns(name: str) -> None:
    learned, drawn = results(name), results("random")
    ten_best = stats.ttest_rel(learned[:, 0], drawn[:, 0], alternative="greater")
    assert ten_best.pvalue < 1e-3
    assert np.sum(learned[:, 0] > drawn[:, 0]) >= 15
    assert learned[:, 1].mean() > drawn[:, 1].mean()
