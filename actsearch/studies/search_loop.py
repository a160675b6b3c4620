"""The search loop: ask, screen, train, tell, in an order that no clock and no worker can change.

Trial n is proposed when exactly the rewards before a fixed window of unfinished trials have been
told, in the order of proposal. The proposals are therefore a function of the configuration and of
the rewards alone, whatever finished first and on however many workers. A resumed search runs this
same loop: the proposals of the driver are compared with the recorded ones, and what is recorded as
finished is not trained again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from actsearch.drivers import Driver, SpaceExhausted
from actsearch.grammar import Expression, parse
from actsearch.studies.constraints import violated
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
        trials: how many candidates are trained.
        window: how many trials may be in training at a time.
        seeds: of the trainings of every trial.
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
        seeds: Sequence[int],
        exclude: Collection[str],
        require: Collection[str],
        proposed: Callable[[Trial], None],
    ) -> None:
        self._store = store
        self._driver = driver
        self._candidate = candidate
        self._index = index
        self._queue = queue
        self._budget = trials
        self._window = window
        self._seeds = seeds
        self._exclude = exclude
        self._require = require
        self._proposed = proposed

        self._recorded = store.trials()
        self._untold: deque[Trial] = deque()
        self._asked = 0
        self._told = 0
        self._spent = 0
        self._idle = 0
        self._by_index: dict[int, Trial] = {}
        self._by_class: dict[Any, Trial] = {}
        self._unindexed: list[Trial] = []

    def run(self) -> str:
        """Search until the end; returns why it ended.

        Raises:
            StudyError: the recorded proposals are not those of this driver.
        """
        self._restore()
        ended: str | None = None
        while True:
            while self._untold and not self._untold[0].trainings:
                self._tell()
            ended = ended or self._end()
            if ended is None and not self._full():
                try:
                    self._ask()
                except SpaceExhausted as error:
                    ended = str(error)
            elif self._untold:
                self._tell()
            elif ended is not None:
                self._snapshot()
                return ended

    def _end(self) -> str | None:
        if self._spent >= self._budget:
            return f"{self._budget} trials are done"
        if self._driver.repeats and self._idle >= PATIENCE:
            return f"stalled: the last {PATIENCE} proposals were known or excluded"
        return None

    def _full(self) -> bool:
        in_training = sum(1 for trial in self._untold if trial.decision == "train")
        return in_training >= self._window or len(self._untold) >= QUEUE_WINDOWS * self._window

    # asking

    def _ask(self) -> None:
        index = self._driver.ask()
        number = self._asked
        if number < len(self._recorded):
            trial = self._recorded[number]
            if trial.index != index:
                raise StudyError(
                    f"cannot go on: proposal {number} of {self._store.label} is candidate "
                    f"{trial.index}, and this version of ActSearch proposes {index} there"
                )
        else:
            trial = self._screen(number, index)
            self._store.add_trial(trial, self._seeds if trial.decision == "train" else ())
            if trial.decision != "train":
                self._proposed(trial)
        self._remember(trial)
        self._untold.append(trial)
        self._queue.put(trial.trainings)

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
            self._catch_up()
            class_, _, certificate = self._index.find_or_add(expression)
            source = self._by_class.setdefault(class_, trial)
            if source is not trial:
                return self._reuse(trial, source, str(certificate))
        return trial

    @staticmethod
    def _reuse(trial: Trial, source: Trial, certificate: str) -> Trial:
        trial.decision, trial.source, trial.certificate = "reuse", source, certificate
        return trial

    def _catch_up(self) -> None:
        """Give the index the recorded candidates that it has not seen, once one is to be found."""
        assert self._index is not None
        for trial in self._unindexed:
            class_, _, _ = self._index.find_or_add(parse(trial.expression))
            self._by_class.setdefault(class_, trial)
        self._unindexed.clear()

    def _remember(self, trial: Trial) -> None:
        self._asked += 1
        self._idle = 0 if trial.decision == "train" else self._idle + 1
        self._spent += trial.decision == "train"
        if trial.decision != "exclude":
            self._by_index.setdefault(trial.index, trial.source or trial)
        if trial.decision == "train" and trial.number < len(self._recorded):
            self._unindexed.append(trial)

    # telling

    def _tell(self) -> None:
        trial = self._untold.popleft()
        self._queue.wait_for(trial.trainings)
        self._driver.tell(trial.index, trial.reward)
        self._told += 1
        if self._told % SNAPSHOT_EVERY == 0:
            self._snapshot()

    # the driver's state at a position of the log

    def _snapshot(self) -> None:
        snapshot = {"asked": self._asked, "told": self._told, "driver": self._driver.state_dict()}
        self._store.set("snapshot", snapshot)

    def _restore(self) -> None:
        """Continue from the last snapshot; the proposals since then are asked for again."""
        snapshot: dict[str, Any] | None = self._store.get("snapshot")
        if snapshot is None:
            return
        self._driver.load_state_dict(snapshot["driver"])
        for trial in self._recorded[: snapshot["asked"]]:
            self._remember(trial)
        self._untold.extend(self._recorded[snapshot["told"] : snapshot["asked"]])
        self._told = snapshot["told"]
        for trial in self._untold:
            self._queue.put(trial.trainings)
