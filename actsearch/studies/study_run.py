"""The work on a study: baselines, search, re-test, each taken up where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsearch.cache import cache_folder
from actsearch.drivers import Asha, Driver
from actsearch.drivers import driver as make_driver
from actsearch.grammar import SearchSpace
from actsearch.studies import protocol, rungs
from actsearch.studies.evaluations import Library
from actsearch.studies.executors import Engine, executor
from actsearch.studies.interrupts import check_for_interrupt, interrupts_noted
from actsearch.studies.jobs import Limits, TaskSpec
from actsearch.studies.records import STAGES, Training, Trial
from actsearch.studies.run_directory import StudyError
from actsearch.studies.screening import EquivalenceIndex
from actsearch.studies.search_loop import SearchLoop
from actsearch.studies.shared_queue import SharedQueue
from actsearch.studies.store import Store
from actsearch.studies.tracking import Tracker
from actsearch.studies.training_queue import TrainingQueue

if TYPE_CHECKING:
    from actsearch.equivalence.proof_cache import ProofCache

Queue = TrainingQueue | SharedQueue


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        run: the run directory.
        stage: "baselines", "search" or "retest".
        done: trainings of this stage that are finished; with successive halving, in the search,
            what their steps come to in full trainings.
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
        trackers: told of each result.
    """

    def __init__(
        self,
        run: Path,
        store: Store,
        workers: int | None,
        progress: Callable[[Progress], None] | None,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self._folder = run
        self._store = store
        self._config = store.config
        self._workers = self._config["workers"] if workers is None else workers
        self._report = progress
        self._trackers = trackers
        self._task = task_spec(self._config).make()
        self._fidelities = rungs.fidelities(self._config, self._task)
        self._stage = "baselines"
        self._done = 0.0
        self._finished_ones = 0
        self._total = 0
        self._states: Counter[str] = Counter()
        self._best: tuple[str | None, float | None] = (None, None)

    def finish(self) -> None:
        """Baselines, search, re-test; each stage takes up what is recorded of it."""
        with interrupts_noted():
            self._finish()

    def _finish(self) -> None:
        self._store.hold()
        if self._config["executor"] == "shared":
            self._stages(SharedQueue(self._store, self._finished))
        else:
            self._release()
            chosen = engine_of(self._config, self._workers)
            with executor(
                task_spec(self._config), self._workers, engine=chosen, folder=self._folder
            ) as engine:
                try:
                    self._stages(TrainingQueue(self._store, engine, self._finished))
                except BaseException:
                    with suppress(StudyError):  # whoever resumes does the same
                        self._release()
                    raise
        self._store.set("status", "finished")

    def _stages(self, queue: Queue) -> None:
        self._train("baseline", "baselines", queue)
        with _index(self._config["level"]) as index:
            self._search(queue, index)
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
                protocol.baseline_trainings(self._config, self._baseline_seeds())
                if stage == "baseline"
                else protocol.retest_trainings(self._config, self._store.trials())
            )
            trainings = self._store.add_trainings(stage, wanted)
        count = sum(t.finished for t in trainings)
        self._begin(shown, count, len(trainings), count)
        queue.put(trainings)
        queue.wait_for(trainings)

    def _baseline_seeds(self) -> list[int]:
        """Those of the search and further ones, as far as there are so many."""
        count, columns = self._config["baseline_seeds"], rungs.seed_columns(self._task)
        count = count if columns is None else min(count, columns)
        return rungs.search_seeds(self._config["seed"], count, columns)

    def _driver(self, space: SearchSpace, baselines: Sequence[Training]) -> Driver:
        config = self._config
        named = config["driver"]
        driver = make_driver(named["name"], space, config["seed"], **named["options"])
        if config["rungs"] is None:
            return driver
        halving = Asha(driver, self._fidelities.rungs)
        metrics: dict[str, dict[int, float]] = {}
        for training in baselines:
            if training.metric is not None:
                metrics.setdefault(training.expression, {})[training.seed] = training.metric
        halving.calibrate(metrics)
        return halving

    def _search(self, queue: Queue, index: EquivalenceIndex | None) -> None:
        config = self._config
        space = _space(config)
        baselines = self._store.trainings("baseline")
        loop = SearchLoop(
            self._store,
            self._driver(space, baselines),
            space.expression,
            index,
            queue,
            trials=config["trials"],
            window=config["window"],
            fidelities=self._fidelities,
            library=Library(baselines if config["level"] else ()),
            warm=self._store.get("warm", []),
            exclude=config["exclude"],
            require=config["require"],
            proposed=self._proposed,
        )
        trials = self._store.trials()
        for trial in trials:
            self._count(trial)
        finished = [t for trial in trials for t in trial.trainings if t.finished and not t.copied]
        done = sum(map(self._fidelities.steps, finished)) / self._fidelities.full
        total = config["trials"] * self._fidelities.price // self._fidelities.full
        self._begin("search", done, total, len(finished))
        self._store.set("stop_reason", loop.run())

    # progress

    def _begin(self, stage: str, done: float, total: int, count: int) -> None:
        self._stage, self._done, self._total, self._finished_ones = stage, done, total, count
        self._tell()

    def _finished(self, training: Training) -> None:
        self._done += self._fidelities.steps(training) / self._fidelities.full
        if training.stage == "search":
            self._states["failed"] += training.state == "failed"
            self._compare(training.expression, training.metric)
        for tracker in self._trackers:
            tracker.trained(self._result(training))
        self._finished_ones += 1
        self._tell()

    def _result(self, training: Training) -> dict[str, Any]:
        hidden = ("id", "lease", "losses", "curve")
        facts = {name: value for name, value in vars(training).items() if name not in hidden}
        return {**facts, "step": self._finished_ones, "best": self._best[1]}

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
        check_for_interrupt()
        if self._report is not None:
            counts = (self._states[state] for state in ("failed", "reused", "excluded"))
            self._report(
                Progress(
                    self._folder,
                    self._stage,
                    int(self._done + 1e-9),
                    self._total,
                    *self._best,
                    *counts,
                )
            )


def _proofs() -> ProofCache:
    from actsearch.equivalence.proof_cache import NAME, ProofCache

    return ProofCache(cache_folder() / NAME)


@contextmanager
def _index(level: str | None) -> Iterator[EquivalenceIndex | None]:
    """The classes of what is proposed, or none where the configuration asks for none."""
    if level is None:
        yield None
        return
    from actsearch.equivalence import EquivalenceIndex as Index

    with closing(_proofs()) as proofs:
        # a reward at the finest level holds for the initial values that were trained, no others
        yield Index(level, declarations=level == "function", cache=proofs)


def _space(config: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace(**config["space"])


def engine_of(config: Mapping[str, Any], workers: int) -> Engine:
    """The executor of a study's configuration, with so many workers."""
    kind = config["executor"]
    if kind in ("inline", "local"):
        kind = "local" if workers else "inline"
    return Engine(
        kind,
        workers,
        Limits(config["time_limit"], config["memory_limit"]),
        config["gpus"],
        config["executor_options"],
    )


def task_spec(config: Mapping[str, Any]) -> TaskSpec:
    """The task of a study's configuration."""
    return TaskSpec(**config["task"], device=config["device"])
