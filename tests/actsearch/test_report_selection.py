"""The correction for selection, on simulated searches whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from actsearch.report.selection import LEAST, corrected


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("count", [100, 400])
def test_the_best_are_brought_down_to_what_they_are_worth(shape: str, count: int) -> None:
    """Over 300 searches, the mean error of the five best loses at least two thirds of its bias."""
    rng = np.random.default_rng(0)
    naive, mended = [], []
    for _ in range(300):
        if shape == "normal":
            truth = 0.6 + 0.02 * rng.normal(size=count)
        else:  # many poor functions, and a shoulder of good ones
            truth = 0.65 - 0.05 * rng.gamma(2.0, 1.0, size=count)
        rewards = truth + 0.0125 * rng.normal(size=count)
        best = np.argsort(-rewards)[:5]
        found = corrected(rewards.tolist(), 0.0125)
        assert found is not None
        naive.append(np.mean(rewards[best] - truth[best]))
        mended.append(np.mean(np.array(found)[best] - truth[best]))
    assert np.mean(naive) > 0.005, "there is a curse to be lifted"
    assert abs(np.mean(mended)) < np.mean(naive) / 3


def test_without_noise_nothing_moves() -> None:
    rewards = np.random.default_rng(0).random(100).tolist()
    assert corrected(rewards, 1e-9) == pytest.approx(rewards, abs=1e-7)


def test_too_little_is_known() -> None:
    assert corrected([0.5] * (LEAST - 1), 0.01) is None
    assert corrected([0.5] * LEAST, 0.0) is None
    assert corrected([0.5] * LEAST, float("nan")) is None
    equal = corrected([0.5] * LEAST, 0.01)
    assert equal == pytest.approx([0.5] * LEAST)
