"""Studies for the tests of reports: made up, but of the form of `actsearch.studies.Study`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

BASELINES = ("relu(x)", "silu(x)", "gelu(x)", "mish(x)")


def row(
    expression: str,
    metrics: dict[int, float],
    *,
    trial: int | None = None,
    failed: int = 0,
    split: str = "test",
    validation: float | None = 0.6,
) -> dict[str, Any]:
    """A row as `actsearch.studies.protocol.row` makes it."""
    values = list(metrics.values())
    return {
        "expression": expression,
        "kind": "baseline" if trial is None else "candidate",
        "mean": float(np.mean(values)) if values else None,
        "stderr": float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None,
        "seeds": len(values),
        "failed": failed,
        "metrics": metrics,
        "split": split,
        "validation": validation,
        "trial": trial,
    }


def trial(
    number: int,
    expression: str,
    reward: float | None = None,
    state: str = "done",
    reason: str | None = None,
    source: int | None = None,
) -> dict[str, Any]:
    """A trial as `Study.trials` lists it."""
    return {
        "number": number,
        "index": 10 * number,
        "expression": expression,
        "state": state,
        "reward": reward,
        "loss": None if reward is None else 1.25,
        "seconds": None if source is not None or state == "excluded" else 0.5,
        "reason": reason,
        "class": number,
        "source": source,
        "certificate": None,
        "baseline": None,
        "rung": 0,
        "trainings": [],
    }


class FakeStudy:
    """Holds what it is given, and derives what a study derives."""

    def __init__(
        self,
        run: str = "runs/swish-1",
        *,
        trials: list[dict[str, Any]] | None = None,
        retest: list[dict[str, Any]] | None = None,
        baselines: list[dict[str, Any]] | None = None,
        trainings: dict[str, list[dict[str, Any]]] | None = None,
        status: str = "finished",
        stop_reason: str | None = "3 trials are done",
        **config: Any,
    ) -> None:
        self.run = Path(run)
        self.status = status
        self.stop_reason = stop_reason
        self._trials = trials or []
        self._retest = retest or []
        self._baselines = baselines or []
        self._trainings = trainings or {}
        self.config = {
            "space": {"name": "swish", "text": 'start: "x" // <all>', "units": 1},
            "task": {"name": "mnist1d-mlp", "options": {}},
            "driver": {"name": "evolution", "options": {"population": 20}},
            "trials": 3,
            "workers": 2,
            "seed": 0,
            "seeds": 1,
            "window": 8,
            "baselines": list(BASELINES),
            "baseline_seeds": 5,
            "retest": 5,
            "retest_seeds": 5,
            "level": "function",
            "exclude": ["constant", "undefined"],
            "rungs": None,
            "warm_start": None,
            "device": "auto",
            "versions": {"actsearch": "0.1.0", "python": "3.11.7", "torch": "2.13.0"},
            "created": "2026-01-02T03:04:05+00:00",
            **config,
        }

    @property
    def counts(self) -> dict[str, int]:
        states = Counter(trial["state"] for trial in self._trials)
        names = ("done", "failed", "reused", "excluded", "pending", "running")
        return {
            "proposed": states.total(),
            "trained": states["done"] + states["failed"],
            **{name: states[name] for name in names},
        }

    def trials(self) -> list[dict[str, Any]]:
        return self._trials

    def trainings(self, stage: str) -> list[dict[str, Any]]:
        return self._trainings.get(stage, [])

    def baselines(self) -> list[dict[str, Any]]:
        return self._baselines

    def leaderboard(self) -> list[dict[str, Any]]:
        if self._retest:
            return [{"rank": i, **found} for i, found in enumerate(self._retest, start=1)]
        candidates = [
            row(t["expression"], {1: t["reward"]}, trial=t["number"], split="validation")
            for t in self._trials
            if t["state"] == "done" and t["source"] is None
        ]
        return [*candidates, *self._baselines]


def full_study(run: str = "runs/swish-1") -> FakeStudy:
    """A finished study with everything in it: duplicates, failures, exclusions, a re-test."""
    generator = np.random.default_rng(0)

    def metrics(mean: float, count: int = 5) -> dict[int, float]:
        return {seed: mean + 0.01 * float(generator.standard_normal()) for seed in range(count)}

    trials = [
        trial(0, "max(x, sin(x))", 0.66),
        trial(1, "x*sigmoid(beta*x)", 0.64),
        trial(2, "sin(x)/x", state="failed", reason="loss is nan at step 17"),
        trial(3, "max(sin(x), x)", 0.66, state="reused", source=0),
        trial(4, "exp(x)", state="failed", reason="loss is nan at step 3"),
        trial(5, "sqrt(x)", state="excluded", reason="undefined or infinite at x = -5"),
        trial(6, "where(x < 0, 0, x)", 0.12),
        trial(7, "x**3", 0.50),
    ]
    retest = [
        row("max(x, sin(x))", metrics(0.68), trial=0, validation=0.66),
        row("x*sigmoid(beta*x)", metrics(0.62), trial=1, validation=0.64),
        row("x**3", {}, trial=7, failed=5, validation=0.5),
        *(row(text, metrics(0.6 - 0.01 * i)) for i, text in enumerate(BASELINES)),
    ]
    baselines = [row(text, metrics(0.6), split="validation") for text in BASELINES]
    trainings = [
        {
            "trial": found["trial"],
            "expression": found["expression"],
            "split": "test",
            "seed": seed,
            "state": "done",
            "curve": [[20 * k, 2.0 / k + 0.01 * seed] for k in range(1, 21)],
            "seconds": 0.5,
        }
        for found in retest
        for seed in found["metrics"]
    ]
    return FakeStudy(
        run, trials=trials, retest=retest, baselines=baselines, trainings={"retest": trainings}
    )
