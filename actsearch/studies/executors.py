"""Executors: where trainings run. `inline` is this process, `local` a number of worker processes,
`ray` and `submitit` are clusters.

An executor has slots; what fills them is the caller's queue. It reports what came back of each
job: a result, or that the worker was lost. Nothing here knows of studies or stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsearch.grammar.errors import ActSearchError, UsageError, did_you_mean
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


EXECUTORS = ("inline", "local", "ray", "submitit", "shared")
"""By name; "shared" is none of those here: `actsearch worker` processes train."""


@dataclass(frozen=True)
class Engine:
    """Which executor, and what each training is given.

    Attributes:
        kind: of `EXECUTORS`.
        workers: trainings at a time; 0 for "inline" and "shared".
        limits: on one training; "local" keeps them.
        gpus: for one training. A fraction shares a GPU ("local", "ray").
        options: of the cluster's own client ("ray", "submitit").
    """

    kind: str
    workers: int
    limits: Limits = NO_LIMITS
    gpus: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def chosen(cls, kind: str | None, workers: int, **settings: Any) -> Engine:
        """The executor of that name; "local" or, without workers, "inline" where it is None."""
        return cls(kind or ("local" if workers else "inline"), workers, **settings)

    def check(self) -> None:
        """UsageError where this makes no sense or cannot be kept."""
        kind = self.kind
        if kind not in EXECUTORS:
            hint = did_you_mean(kind, EXECUTORS)
            raise UsageError(f"no executor {kind!r}; there are {', '.join(EXECUTORS)}{hint}")
        if self.workers < 0:
            raise UsageError(f"the number of workers is 0 or more, not {self.workers}")
        if kind != "shared" and (kind == "inline") != (self.workers == 0):
            raise UsageError(f"the executor {kind!r} and {self.workers} workers do not go together")
        self.limits.check()
        if self.limits != NO_LIMITS and kind != "local":
            raise UsageError("limits on time and memory need worker processes: --workers 1 or more")
        if not 0 <= self.gpus < float("inf") or (self.gpus > 1 and self.gpus % 1):
            raise UsageError(f"gpus is a fraction up to 1 or a whole number, not {self.gpus}")
        if self.gpus and kind not in ("local", "ray", "submitit"):
            raise UsageError(f"the executor {kind!r} shares out no GPUs: --executor local or ray")
        if self.gpus % 1 and kind == "submitit":
            raise UsageError("Slurm gives whole GPUs; fractions are shared by --executor ray")
        if self.options and kind not in ("ray", "submitit"):
            raise UsageError(f"the executor {kind!r} has no options")


def executor(
    spec: TaskSpec,
    workers: int,
    limits: Limits = NO_LIMITS,
    engine: Engine | None = None,
    folder: Path | None = None,
) -> Executor:
    """An executor for a task.

    Args:
        spec: the task.
        workers: trainings at a time: `inline` for 0, else `local`, unless `engine` says otherwise.
        limits: on each training.
        engine: which, in place of `workers` and `limits`.
        folder: where a cluster may keep its files.

    Raises:
        UsageError: a number that makes no sense, or limits that cannot be kept here.
        ExecutorError: what it needs is not installed or not there.
    """
    chosen = engine or Engine.chosen(None, workers, limits=limits)
    chosen.check()
    if chosen.kind == "local":
        from actsearch.studies.local import Local

        return Local(spec, chosen.workers, chosen.limits, chosen.gpus)
    if chosen.kind == "ray":
        from actsearch.studies.ray_cluster import RayCluster

        return RayCluster(spec, chosen.workers, chosen.gpus, chosen.options)
    if chosen.kind == "submitit":
        from actsearch.studies.slurm import Submitit

        place = (folder or Path.cwd()) / "submitit"
        return Submitit(spec, chosen.workers, chosen.gpus, chosen.options, place)
    return Inline(spec)
