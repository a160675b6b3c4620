"""The correction for selection, on simulated searches whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actsearch.analysis import kernel_cost
from actsearch.grammar import parse
from actsearch.report import write_report
from actsearch.report.material import Material
from actsearch.report.selection import LEAST, corrected
from tests.actsearch.fake_study import FakeStudy, row, trial


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("count", [100, 400])
def test_the_best_are_brought_down_to_what_they_are_worth(shape: str, count: int) -> None:
    """Over 100 searches, the mean error of the five best loses at least two thirds of its bias."""
    rng = np.random.default_rng(0)
    naive, mended = [], []
    for _ in range(100):
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


def test_the_front_is_what_nothing_beats() -> None:
    """Against the definition, pair by pair."""
    rng = np.random.default_rng(0)
    texts = ["x", "sin(x)", "x*x", "exp(x)*x", "tanh(x) + x", "erf(x)*x", "max(x, 0)", "x**3"]
    rewards = [float(value) for value in rng.integers(0, 5, size=len(texts)) / 10]
    trials = [trial(k, text, rewards[k]) for k, text in enumerate(texts)]
    costs = [kernel_cost(parse(text)) for text in texts]
    front = {row["number"] for row in Material(FakeStudy(trials=trials)).front}
    pairs = list(zip(costs, rewards, strict=True))
    beaten = {
        a
        for a, (cost, reward) in enumerate(pairs)
        for b, (other, better) in enumerate(pairs)
        if other <= cost and better >= reward and (other, better) != (cost, reward)
    }
    assert {pairs[k] for k in front} == {p for k, p in enumerate(pairs) if k not in beaten}
    assert len(front) == len({pairs[k] for k in front})


def test_the_report_shows_the_front_and_the_correction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [f"{name}(x)*{k}" for k in range(2, 12) for name in ("sin", "exp", "tanh")]
    trials = [trial(k, text, 0.5 + 0.02 * float(rng.normal())) for k, text in enumerate(texts)]
    baselines = [row("relu(x)", {s: 0.5 + 0.01 * s for s in range(4)}, split="validation")]
    study = FakeStudy(str(tmp_path), trials=trials, baselines=baselines)
    page = write_report(study, tmp_path / "r.html").read_text()
    assert "Reward against cost" in page
    assert "Corrected, %" in page
