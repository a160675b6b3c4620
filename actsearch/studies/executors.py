"""Executors: where trainings run. `inline` is this process, `local` a number of worker processes.

An executor has slots; what fills them is the caller's queue. It reports what came back of each
job: a result, or that the worker was lost. Nothing here knows of studies or stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actsearch.grammar.errors import ActSearchError, UsageError
from actsearch.studies.jobs import NO_LIMITS, Job, Limits, TaskSpec, run, warm_up

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult, Task


class ExecutorError(ActSearchError):
    """No worker can be started, or the task cannot be used at all."""


@dataclass(frozen=True)
class Report:
    """What came of a job: its result, or None and the reason why its worker was lost.

    `blamed` tells the job that a lost worker was training from those that it had not begun.
    """

    job: Job
    result: ChildResult | None
    reason: str = ""
    blamed: bool = False


class Executor(ABC):
    """Runs jobs. Use it as a context manager, or `close` it."""

    @abstractmethod
    def free(self) -> list[str]:
        """The workers that can take a job now, in the order to give them one, as often as each
        can take one; empty while all are busy.
        """

    @abstractmethod
    def submit(self, job: Job, worker: str) -> None:
        """Give a job to a worker that is free."""

    @abstractmethod
    def wait(self) -> list[Report]:
        """Block until at least one submitted job has come back.

        Raises:
            ExecutorError: see there.
        """

    def close(self) -> None:  # noqa: B027
        """Stop at once; jobs that are not finished are dropped."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Inline(Executor):
    """Trains in this process, one job at a time, on one thread."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec
        self._task: Task | None = None
        self._job: Job | None = None

    def free(self) -> list[str]:
        return ["inline"] if self._job is None else []

    def submit(self, job: Job, worker: str) -> None:
        self._job = job

    def wait(self) -> list[Report]:
        from actsearch.tasks import TaskError

        job, self._job = self._job, None
        if job is None:
            return []
        try:
            if self._task is None:
                self._task = self._spec.make()
                warm_up(self._task)
            return [Report(job, run(self._task, self._spec, job))]
        except TaskError as error:
            raise ExecutorError(str(error)) from None


def executor(spec: TaskSpec, workers: int, limits: Limits = NO_LIMITS) -> Executor:
    """`inline` for 0 workers, else `local` with that many processes.

    Raises:
        UsageError: a number that makes no sense, or limits that cannot be kept here.
    """
    if workers < 0:
        raise UsageError(f"the number of workers is 0 or more, not {workers}")
    if workers:
        from actsearch.studies.local import Local

        return Local(spec, workers, limits)
    if limits != NO_LIMITS:
        raise UsageError("limits on time and memory need worker processes: --workers 1 or more")
    return Inline(spec)
