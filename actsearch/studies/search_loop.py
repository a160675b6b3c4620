"""The search loop: ask, screen, train, tell, in an order that no clock and no worker can change.

Proposal n is asked for when exactly the rewards before a fixed window of unfinished ones have been
told, in the order of proposal. The proposals are therefore a function of the configuration and of
the rewards alone, whatever finished first and on however many workers. A resumed search runs this
same loop: the proposals of the driver are compared with the recorded ones, and what is recorded as
finished is not trained again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from actsearch.drivers import Driver, SpaceExhausted
from actsearch.grammar import Expression, parse
from actsearch.studies.constraints import violated
from actsearch.studies.evaluations import Evaluation, Fidelities, Library, needed, warm_trainings
from actsearch.studies.records import Trial
from actsearch.studies.run_directory import StudyError
from actsearch.studies.screening import EquivalenceIndex, exclusion
from actsearch.studies.shared_queue import SharedQueue
from actsearch.studies.store import Store
from actsearch.studies.training_queue import TrainingQueue

PATIENCE = 1000
"""Proposals in a row that need no training after which a driver that repeats itself is stopped."""

QUEUE_WINDOWS = 8
"""Untold proposals of any kind, in windows, before the oldest must be told."""

SNAPSHOT_EVERY = 100
"""Told rewards from one snapshot of the driver's state to the next."""


class SearchLoop:
    """One study's search.

    Args:
        store: holds what has been proposed and trained so far, and receives the rest.
        driver: freshly made from the study's seed.
        candidate: the expression at a position of the space.
        index: groups equivalent candidates; None to train duplicates too.
        queue: trains.
        trials: how many candidates are trained; with rungs, as many steps are spent as that takes.
        window: how many trials may be in training at a time.
        fidelities: how candidates are trained.
        library: trainings that equal candidates take over.
        warm: positions of the candidates that come first, each with what an earlier study knows.
        exclude: kinds of candidates that are not trained.
        require: constraints that a candidate must keep to be trained.
        proposed: called after each new proposal that needs no training.
    """

    def __init__(
        self,
        store: Store,
        driver: Driver,
        candidate: Callable[[int], Expression],
        index: EquivalenceIndex | None,
        queue: TrainingQueue | SharedQueue,
        trials: int,
        window: int,
        fidelities: Fidelities,
        library: Library,
        warm: Sequence[Mapping[str, Any]],
        exclude: Collection[str],
        require: Collection[str],
        proposed: Callable[[Trial], None],
    ) -> None:
        self._store = store
        self._driver = driver
        self._candidate = candidate
        self._index = index
        self._queue = queue
        self._trials = trials
        self._window = window
        self._fidelities = fidelities
        self._library = library
        self._warm = warm
        self._exclude = exclude
        self._require = require
        self._proposed = proposed

        self._recorded = store.trials()
        self._untold: deque[Evaluation] = deque()
        self._asked = 0
        self._told = 0
        self._spent = 0
        self._idle = 0
        self._by_index: dict[int, Trial] = {}
        self._by_class: dict[Any, Trial] = {}
        self._baselines: dict[Any, str] | None = None
        self._unindexed: list[Trial] = []

    def run(self) -> str:
        """Search until the end; returns why it ended.

        Raises:
            StudyError: the recorded proposals are not those of this driver.
        """
        self._restore()
        ended: str | None = None
        while True:
            while self._untold and not self._untold[0].costs:
                self._tell()
            ended = ended or self._end()
            if ended is None and not self._full():
                try:
                    self._ask()
                except SpaceExhausted as error:
                    if self._untold:
                        self._tell()  # then something may be promoted
                    else:
                        ended = str(error)
            elif self._untold:
                self._tell()
            elif ended is not None:
                self._snapshot()
                return ended

    def _end(self) -> str | None:
        if self._spent >= self._trials * self._fidelities.price:
            if len(self._fidelities.rungs) > 1:
                return f"the steps of {self._trials} trials are spent"
            return f"{self._trials} trials are done"
        if self._driver.repeats and self._idle >= PATIENCE:
            return f"stalled: the last {PATIENCE} proposals were known or excluded"
        return None

    def _full(self) -> bool:
        in_training = sum(evaluation.costs for evaluation in self._untold)
        return in_training >= self._window or len(self._untold) >= QUEUE_WINDOWS * self._window

    # asking

    def _ask(self) -> None:
        warm = self._asked < len(self._warm)
        index = self._warm[self._asked]["index"] if warm else self._driver.ask()
        rung = 0 if warm else self._driver.rung
        if rung:
            trial = self._by_index[index]
            self._promote(trial, rung)
        else:
            trial = self._proposal(index, self._warm[self._asked]["trainings"] if warm else ())
            self._remember(trial)
        evaluation = self._evaluation(trial, rung, warm)
        self._spent += sum(map(self._fidelities.steps, evaluation.own))
        self._idle = 0 if evaluation.costs else self._idle + 1
        self._untold.append(evaluation)
        self._queue.put(evaluation.own)

    def _proposal(self, index: int, known: Sequence[Mapping[str, Any]]) -> Trial:
        """The trial of a new proposal, recorded with its trainings."""
        number = self._asked
        if number < len(self._recorded):
            trial = self._recorded[number]
            if trial.index != index:
                raise StudyError(
                    f"cannot go on: proposal {number} of {self._store.label} is candidate "
                    f"{trial.index}, and this version of ActSearch proposes {index} there"
                )
            return trial
        trial = self._screen(number, index)
        trainings = []
        if trial.decision == "train":
            trainings = warm_trainings(trial, known)
            trainings = trainings or needed(self._library, self._fidelities, trial, 0)
        self._store.add_trials([(trial, trainings)])
        if trial.decision != "train":
            self._proposed(trial)
        return trial

    def _promote(self, trial: Trial, rung: int) -> None:
        trainings = needed(self._library, self._fidelities, trial, rung)
        if trainings:  # none where it is recorded already
            self._store.promote(trial, trainings)

    def _evaluation(self, trial: Trial, rung: int, warm: bool) -> Evaluation:
        return Evaluation(
            trial,
            rung,
            self._fidelities.counted(trial.source or trial, rung),
            [training for training in trial.trainings if training.rung == rung],
            warm,
        )

    def _screen(self, number: int, index: int) -> Trial:
        """What to do with a candidate that has not been recorded yet."""
        expression = self._candidate(index)
        trial = Trial(number, index, str(expression))
        if (known := self._by_index.get(index)) is not None:
            return self._reuse(trial, known, "the same candidate")
        reason = exclusion(expression, self._exclude) or violated(expression, self._require)
        if reason is not None:
            trial.decision, trial.exclusion = "exclude", reason
        elif self._index is not None:
            baselines = self._catch_up()
            class_, _, certificate = self._index.find_or_add(expression)
            source = self._by_class.setdefault(class_, trial)
            if source is not trial:
                return self._reuse(trial, source, str(certificate))
            if class_ in baselines:
                trial.baseline, trial.certificate = baselines[class_], str(certificate)
        return trial

    @staticmethod
    def _reuse(trial: Trial, source: Trial, certificate: str) -> Trial:
        trial.decision, trial.source, trial.certificate = "reuse", source, certificate
        return trial

    def _catch_up(self) -> Mapping[Any, str]:
        """Give the index what it has not seen, once one is to be found: baselines, then trials.

        Returns:
            The baselines by their class.
        """
        assert self._index is not None
        if self._baselines is None:
            self._baselines = {}
            for text in self._library.expressions:
                class_, _, _ = self._index.find_or_add(parse(text))
                self._baselines.setdefault(class_, text)
        for trial in self._unindexed:
            class_, _, _ = self._index.find_or_add(parse(trial.expression))
            self._by_class.setdefault(class_, trial)
        self._unindexed.clear()
        return self._baselines

    def _remember(self, trial: Trial) -> None:
        self._asked += 1
        if trial.decision != "exclude":
            self._by_index.setdefault(trial.index, trial.source or trial)
        if trial.decision == "train" and trial.number < len(self._recorded):
            self._unindexed.append(trial)

    # telling

    def _tell(self) -> None:
        evaluation = self._untold.popleft()
        self._queue.wait_for(evaluation.trainings)
        index, reward = evaluation.trial.index, evaluation.reward
        if evaluation.warm:
            known = self._fidelities.entry(len(evaluation.trainings))
            rung = None if evaluation.known else 0 if evaluation.costs else known
            self._driver.observe(index, reward, evaluation.metrics, rung)
        elif evaluation.known:
            self._driver.tell_known(index, reward)
        else:
            self._driver.tell(index, reward, evaluation.metrics)
        self._told += 1
        if self._told % SNAPSHOT_EVERY == 0:
            self._snapshot()

    # the driver's state at a position of the log

    def _snapshot(self) -> None:
        untold = [[e.trial.number, e.rung, e.warm] for e in self._untold]
        snapshot = {
            "asked": self._asked,
            "told": self._told,
            "spent": self._spent,
            "idle": self._idle,
            "untold": untold,
            "driver": self._driver.state_dict(),
        }
        self._store.set("snapshot", snapshot)

    def _restore(self) -> None:
        """Continue from the last snapshot; the proposals since then are asked for again."""
        snapshot: dict[str, Any] | None = self._store.get("snapshot")
        if snapshot is None:
            return
        self._driver.load_state_dict(snapshot["driver"])
        for trial in self._recorded[: snapshot["asked"]]:
            self._remember(trial)
        self._told = snapshot["told"]
        self._spent = snapshot["spent"]
        self._idle = snapshot["idle"]
        for number, rung, warm in snapshot["untold"]:
            evaluation = self._evaluation(self._recorded[number], rung, warm)
            self._untold.append(evaluation)
            self._queue.put(evaluation.own)
