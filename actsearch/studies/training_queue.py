"""The training queue: what is to be trained, in order, handed to an executor under leases.

Claims and results are on disk before anything depends on them, so that a process that is killed
here loses no finished training and repeats none. What becomes free or finished together is recorded
in one transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from actsearch.studies.executors import Executor, Report
from actsearch.studies.jobs import Job, failed
from actsearch.studies.records import Training
from actsearch.studies.store import Store

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult

    Result = tuple[Training, int, ChildResult]

LOSSES = 3
"""Workers that may die on one training before it counts as failed."""


class TrainingQueue:
    """Trains what is put into it, in that order, as an executor's slots become free.

    Args:
        store: where claims and results are recorded.
        executor: what trains.
        finished: called with each training after its result has been recorded.
    """

    def __init__(
        self, store: Store, executor: Executor, finished: Callable[[Training], None]
    ) -> None:
        self._store = store
        self._executor = executor
        self._finished = finished
        self._waiting: deque[Training] = deque()
        self._running: dict[int, Training] = {}

    def put(self, trainings: Iterable[Training]) -> None:
        """Add the trainings that are not finished, and start what can be started."""
        self._waiting.extend(training for training in trainings if not training.finished)
        self._start()

    def wait_for(self, trainings: Iterable[Training]) -> None:
        """Block until these trainings, which have been put, are finished."""
        for training in trainings:
            while not training.finished:
                self._start()
                self._record(self._executor.wait())

    def _start(self, results: Sequence[Result] = ()) -> None:
        """Record results, and fill what is free, in one transaction."""
        workers = self._executor.free()[: len(self._waiting)]
        claims = [(self._waiting.popleft(), worker) for worker in workers]
        if not results and not claims:
            return
        accepted = self._store.finish_and_claim(results, claims)
        for training, worker in claims:
            self._running[training.id] = training
            self._executor.submit(Job.of(training), worker)
        for (training, _, _), held in zip(results, accepted, strict=True):
            if held:
                self._finished(training)

    def _record(self, reports: Iterable[Report]) -> None:
        results: list[Result] = []
        for report in reports:
            job, result = report.job, report.result
            training = self._running.pop(job.id)
            if result is None and report.blamed and training.losses + 1 >= LOSSES:
                result = failed(job, f"{report.reason}, {LOSSES} times")
            if result is None:
                self._store.release(training, job.lease, lost=report.blamed)
                self._waiting.appendleft(training)
            else:
                results.append((training, job.lease, result))
        self._start(results)
