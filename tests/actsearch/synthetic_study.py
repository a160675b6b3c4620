"""A small study of the synthetic task, and what its store and the task's log say of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from actsearch.studies.records import STAGES
from actsearch.studies.store import Store
from tests.actsearch.synthetic_task import NAME, read_log


def settings(run: Path, log: Path, **options: Any) -> dict[str, Any]:
    return {
        "task": NAME,
        "task_options": {"log": str(log)},
        "run": run,
        "driver": "evolution",
        "driver_options": {"population": 8, "tournament": 3},
        "trials": 40,
        "baselines": ("relu(x)",),
        "baseline_seeds": 2,
        "retest": 2,
        "retest_seeds": 2,
        "seed": 3,
        **options,
    }


def finished(run: Path) -> set[tuple[str, str, str]]:
    """(expression, seed, split) of the trainings whose results are recorded."""
    store = Store.open(run, writable=False)
    trainings = [t for stage in STAGES for t in store.trainings(stage) if t.finished]
    return {(t.expression, str(t.seed), t.split) for t in trainings}


def begun(log: Path) -> Counter[tuple[str, ...]]:
    return Counter(facts for what, _, facts in read_log(log) if what == "begin")
