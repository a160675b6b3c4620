"""The training queue of a study whose workers come and go: other processes, on whatever hosts.

They claim from the study's database themselves (`actsearch worker`); this side only adds what is to
be trained, waits for results, and takes a training back when its worker's heart has stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from actsearch.studies.jobs import Job, failed
from actsearch.studies.leases import LeaseWatch
from actsearch.studies.records import Training
from actsearch.studies.store import Store
from actsearch.studies.training_queue import LOSSES

POLL_SECONDS = 0.005, 0.2
"""From one look at the database to the next: twice as long each time that nothing is new."""


class SharedQueue:
    """Waits for what others train; used as `TrainingQueue` is.

    Args:
        store: where trainings are claimed from, and results recorded.
        finished: called with each training once its result is known.
        watch: notices workers that are gone.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        store: Store,
        finished: Callable[[Training], None],
        watch: LeaseWatch | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._finished = finished
        self._watch = watch or LeaseWatch()
        self._sleep = sleep
        self._open: dict[int, Training] = {}

    def put(self, trainings: Iterable[Training]) -> None:
        """Wait for these trainings from now on; whoever claims them is welcome."""
        self._open |= {t.id: t for t in trainings if not t.finished}

    def wait_for(self, trainings: Iterable[Training]) -> None:
        """Block until these trainings, which have been put, are finished."""
        awaited = list(trainings)
        pause, longest = POLL_SECONDS
        while not all(training.finished for training in awaited):
            if self._look():
                pause = POLL_SECONDS[0]
            elif not all(training.finished for training in awaited):
                self._sleep(pause)
                pause = min(2 * pause, longest)

    def _look(self) -> bool:
        """Learn what has been finished, and whether anything has; take back what was lost."""
        self._store.refresh(self._open.values())
        news = [training for training in self._open.values() if training.finished]
        for training in news:
            del self._open[training.id]
            self._finished(training)
        running = self._store.running()
        by_id = {training.id: training for training, _ in running}
        for number in self._watch.expired((t.id, t.lease, beats) for t, beats in running):
            self._take_back(by_id[number])
        return bool(news)

    def _take_back(self, training: Training) -> None:
        if training.losses + 1 < LOSSES:
            self._store.release(training, training.lease, lost=True)
            return
        reason = f"the worker was lost (no heartbeat), {LOSSES} times"
        self._store.finish(training, training.lease, failed(Job.of(training), reason))
