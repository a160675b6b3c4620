"""The work on a study: baselines, search, re-test, each taken up where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsearch.drivers import driver as make_driver
from actsearch.grammar import SearchSpace
from actsearch.studies import protocol
from actsearch.studies.executors import executor
from actsearch.studies.jobs import Limits, TaskSpec
from actsearch.studies.records import STAGES, Training, Trial
from actsearch.studies.run_directory import StudyError
from actsearch.studies.screening import EquivalenceIndex
from actsearch.studies.search_loop import SearchLoop
from actsearch.studies.shared_queue import SharedQueue
from actsearch.studies.store import Store
from actsearch.studies.training_queue import TrainingQueue

Queue = TrainingQueue | SharedQueue


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        run: the run directory.
        stage: "baselines", "search" or "retest".
        done: trainings of this stage that are finished (trials, in the search).
        total: how many there will be.
        best_expression, best_reward: of the best candidate so far.
        failed, reused, excluded: how many trials are in these states.
    """

    run: Path
    stage: str
    done: int
    total: int
    best_expression: str | None
    best_reward: float | None
    failed: int
    reused: int
    excluded: int


class StudyRun:
    """The work on a study, from wherever it stands to its end.

    Args:
        run: the run directory, which this process holds.
        store: its database, open for writing.
        workers: worker processes; as when the study was started where it is None.
        progress: called when a stage begins and with each result.
    """

    def __init__(
        self,
        run: Path,
        store: Store,
        workers: int | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._folder = run
        self._store = store
        self._config = store.config
        self._workers = self._config["workers"] if workers is None else workers
        self._report = progress
        self._stage = "baselines"
        self._done = 0
        self._total = 0
        self._states: Counter[str] = Counter()
        self._best: tuple[str | None, float | None] = (None, None)

    def finish(self) -> None:
        """Baselines, search, re-test; each stage takes up what is recorded of it."""
        self._store.hold()
        if self._config["executor"] == "shared":
            self._stages(SharedQueue(self._store, self._finished))
        else:
            self._release()
            limits = Limits(self._config["time_limit"], self._config["memory_limit"])
            with executor(task_spec(self._config), self._workers, limits) as engine:
                try:
                    self._stages(TrainingQueue(self._store, engine, self._finished))
                except BaseException:
                    with suppress(StudyError):  # whoever resumes does the same
                        self._release()
                    raise
        self._store.set("status", "finished")

    def _stages(self, queue: Queue) -> None:
        self._train("baseline", "baselines", queue)
        self._search(queue)
        if self._config["retest"]:
            self._train("retest", "retest", queue)

    def _release(self) -> None:
        """Nothing is in training when work begins, nor after it has been broken off."""
        for stage in STAGES:
            for training in self._store.trainings(stage):
                if training.state == "running":
                    self._store.release(training, training.lease)

    def _train(self, stage: str, shown: str, queue: Queue) -> None:
        """A stage whose trainings are known when it begins."""
        trainings = self._store.trainings(stage)
        if not trainings:
            wanted = (
                protocol.baseline_trainings(self._config)
                if stage == "baseline"
                else protocol.retest_trainings(self._config, self._store.trials())
            )
            trainings = self._store.add_trainings(stage, wanted)
        self._begin(shown, sum(t.finished for t in trainings), len(trainings))
        queue.put(trainings)
        queue.wait_for(trainings)

    def _search(self, queue: Queue) -> None:
        config = self._config
        space = _space(config)
        driver = config["driver"]
        loop = SearchLoop(
            self._store,
            make_driver(driver["name"], space, config["seed"], **driver["options"]),
            space.expression,
            _index() if config["deduplicate"] else None,
            queue,
            trials=config["trials"],
            window=config["window"],
            seeds=protocol.training_seeds(config["seed"], "search", config["seeds"]),
            exclude=config["exclude"],
            require=config["require"],
            proposed=self._proposed,
        )
        trials = self._store.trials()
        for trial in trials:
            self._count(trial)
        finished = sum(t.finished for trial in trials for t in trial.trainings)
        self._begin("search", finished, config["trials"] * config["seeds"])
        self._store.set("stop_reason", loop.run())

    # progress

    def _begin(self, stage: str, done: int, total: int) -> None:
        self._stage, self._done, self._total = stage, done, total
        self._tell()

    def _finished(self, training: Training) -> None:
        self._done += 1
        if training.stage == "search":
            self._states["failed"] += training.state == "failed"
            self._compare(training.expression, training.metric)
        self._tell()

    def _proposed(self, trial: Trial) -> None:
        self._count(trial)
        self._tell()

    def _count(self, trial: Trial) -> None:
        self._states[trial.state] += 1
        self._compare(trial.expression, protocol.own_reward(trial))

    def _compare(self, expression: str, reward: float | None) -> None:
        if reward is not None and (self._best[1] is None or reward > self._best[1]):
            self._best = expression, reward

    def _tell(self) -> None:
        if self._report is not None:
            counts = (self._states[state] for state in ("failed", "reused", "excluded"))
            self._report(
                Progress(self._folder, self._stage, self._done, self._total, *self._best, *counts)
            )


def _index() -> EquivalenceIndex:
    from actsearch.equivalence import EquivalenceIndex as Index

    return Index(declarations=True)  # a reward holds for the initial values that were trained


def _space(config: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace(**config["space"])


def task_spec(config: Mapping[str, Any]) -> TaskSpec:
    """The task of a study's configuration."""
    return TaskSpec(**config["task"], device=config["device"])
