"""The protocol: which seeds train what on which split, and how rows of a leaderboard are made.

All candidates of a study train from the same seeds, so their rewards are paired: what differs is
the function, not the luck of the draw. Baselines train by the same recipe, from those seeds and
more. The best candidates and the baselines are then trained again from seeds that the search never
used, and measured once on the test split.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actsearch.grammar import as_expression
from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import executor
from actsearch.studies.interrupts import check_for_interrupt, interrupts_noted
from actsearch.studies.jobs import TaskSpec
from actsearch.studies.records import Training, Trial, mean_of
from actsearch.studies.store import Store
from actsearch.studies.training_queue import TrainingQueue

BASELINES = ("relu(x)", "silu(x)", "gelu(x)", "mish(x)")
"""What a search is compared with unless told otherwise."""


def training_seeds(study_seed: int, purpose: str, count: int) -> list[int]:
    """Seeds of child networks, derived from a study's; no purpose shares them with another."""
    texts = (f"actsearch/{study_seed}/{purpose}/{number}" for number in range(count))
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return [int.from_bytes(digest[:4], "big") >> 1 for digest in digests]


def baseline_trainings(
    config: Mapping[str, Any], seeds: Sequence[int]
) -> list[tuple[str, int, str, int | None]]:
    """Every baseline from the seeds of the search and further ones, on the validation split."""
    return [(text, seed, "validation", None) for text in config["baselines"] for seed in seeds]


def retest_trainings(
    config: Mapping[str, Any], trials: Iterable[Trial]
) -> list[tuple[str, int, str, int | None]]:
    """The best candidates and all baselines from fresh seeds, on the test split.

    A candidate that is the same function as a baseline stands there as that.
    """
    seeds = training_seeds(config["seed"], "retest", config["retest_seeds"])
    others = [trial for trial in trials if trial.baseline is None]
    chosen: list[tuple[str, int | None]]
    chosen = [(trial.expression, trial.number) for trial in best_trials(others, config["retest"])]
    chosen += [(text, None) for text in config["baselines"]]
    return [(text, seed, "test", number) for text, number in chosen for seed in seeds]


def best_trials(trials: Iterable[Trial], count: int) -> list[Trial]:
    """The trials with the highest rewards, the earlier one first where they tie.

    With successive halving, those of a higher rung come first.
    """
    done = [
        (-t.rung, -reward, t.number, t) for t in trials if (reward := own_reward(t)) is not None
    ]
    return [trial for *_, trial in sorted(done, key=lambda item: item[:3])[:count]]


def own_reward(trial: Trial) -> float | None:
    """The reward of a trial that was trained itself."""
    return trial.reward if trial.decision == "train" else None


# rows of a leaderboard


def row(
    expression: str,
    trainings: Sequence[Training],
    trial: int | None = None,
    validation: float | None = None,
) -> dict[str, Any]:
    """What is known of one function after these trainings.

    Returns:
        expression; kind ("candidate" or "baseline"); mean metric over the seeds that succeeded and
        its standard error s/sqrt(n) (None below two); how many seeds succeeded and failed; metrics
        (by seed: children of equal seed are paired); split; validation (the metric that the search
        saw); trial (its number, None for a baseline).
    """
    metrics = [t.metric for t in trainings if t.metric is not None]
    return {
        "expression": expression,
        "kind": "baseline" if trial is None else "candidate",
        "mean": mean_of(trainings, "metric"),
        "stderr": standard_error(metrics),
        "seeds": len(metrics),
        "failed": sum(t.state == "failed" for t in trainings),
        "metrics": {str(t.seed): t.metric for t in trainings if t.metric is not None},
        "split": trainings[0].split,
        "validation": validation,
        "trial": trial,
    }


def standard_error(values: Sequence[float]) -> float | None:
    """Sample standard deviation over sqrt(n); None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def rows_of(
    trainings: Iterable[Training], validation: Mapping[tuple[int | None, str], float | None]
) -> list[dict[str, Any]]:
    """One row for each function among the trainings, in their order.

    Args:
        trainings: of one stage, all finished.
        validation: what the search saw of a function, by trial (None for a baseline) and text.
    """
    groups: dict[tuple[int | None, str], list[Training]] = {}
    for training in trainings:
        groups.setdefault((training.trial, training.expression), []).append(training)
    return ranked(row(key[1], group, key[0], validation.get(key)) for key, group in groups.items())


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their rank, best first; those that failed with some seed after all others."""

    def order(found: dict[str, Any]) -> tuple[bool, bool, float]:
        mean = found["mean"]
        return mean is None, found["failed"] > 0, 0.0 if mean is None else -mean

    ordered = sorted(rows, key=order)
    return [{"rank": rank, **found} for rank, found in enumerate(ordered, start=1)]


def compare(
    expressions: Sequence[str],
    task: str = "mnist1d-mlp",
    *,
    seeds: int = 5,
    workers: int = 0,
    seed: int = 0,
    split: str = "validation",
    task_options: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train several activations by the same recipe, from the same seeds.

    Args:
        expressions: in the language.
        task: name of a task, or "module:attribute" of one of your own.
        seeds: children for each expression.
        workers: worker processes; 0 trains in this one.
        seed: from which the children's seeds are derived.
        split: "validation" or "test".
        task_options: of the task.
        device: "auto" or a torch device.
        progress: called with how many children are done, and how many there are.

    Returns:
        Rows as `row` describes them, ranked.

    Raises:
        UsageError: an expression, the task or an option is wrong.
        ExecutorError: no worker can be started.
    """
    if seeds < 1:
        raise UsageError(f"an activation is trained from at least 1 seed, not {seeds}")
    for text in expressions:
        as_expression(text)
    spec = TaskSpec(task, dict(task_options or {}), device)
    spec.make()
    wanted = [
        (text, number, split, None)
        for text in dict.fromkeys(expressions)
        for number in training_seeds(seed, "search", seeds)
    ]
    done = 0

    def finished(_: Training) -> None:
        nonlocal done
        done += 1
        check_for_interrupt()
        if progress is not None:
            progress(done, len(wanted))

    with (
        interrupts_noted(),
        tempfile.TemporaryDirectory() as folder,
        executor(spec, workers) as engine,
    ):
        store = Store.create(Path(folder), {})
        try:
            trainings = store.add_trainings("baseline", wanted)
            queue = TrainingQueue(store, engine, finished)
            queue.put(trainings)
            queue.wait_for(trainings)
        finally:
            store.close()
    return ranked(rows_of(trainings, {}))
