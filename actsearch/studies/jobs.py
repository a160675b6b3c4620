"""A job: one training in a form that any engine can carry, and how it is run.

Jobs, task specifications and results are plain data, so that a worker may be this process, a child
process or another machine's.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from actsearch.grammar.errors import UsageError
from actsearch.studies.interrupts import check_for_interrupt
from actsearch.studies.records import Training
from actsearch.threads import one_thread

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult, Task


@dataclass(frozen=True)
class TaskSpec:
    """A task by name, as it is sent to workers and kept with a study.

    Attributes:
        name: of the registry, or "module:attribute" for a task of the user's own: the attribute is
            called with the options and returns an object with the `train` of `Task`.
        options: of the task.
        device: passed to `train`.
    """

    name: str
    options: Mapping[str, Any]
    device: str = "auto"

    def make(self) -> Task:
        """The task itself.

        Raises:
            TaskError: there is none of this name, or it does not take these options.
        """
        from actsearch.tasks import TaskError, task

        module, colon, attribute = self.name.partition(":")
        if not colon or module == "table":
            return task(self.name, **self.options)
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise TaskError(f"no task {self.name!r}: {error}") from None
        made: Task = factory(**self.options)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `TaskSpec(**data)` inverts it."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """One training under a lease.

    Attributes:
        id: of the training in the store.
        lease: under which its result is accepted.
        expression, seed, split: what is trained, from where, and what it is measured on.
        steps: of the optimiser; None for as many as the task's recipe says.
    """

    id: int
    lease: int
    expression: str
    seed: int
    split: str
    steps: int | None = None

    @classmethod
    def of(cls, training: Training) -> Job:
        """The job of a training, under its lease."""
        return cls(
            training.id,
            training.lease,
            training.expression,
            training.seed,
            training.split,
            training.budget,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `Job(**data)` inverts it."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """What one training may take; None for no limit.

    Attributes:
        seconds: of wall-clock time.
        memory: MB beyond what a worker holds before its first training (on Linux).
    """

    seconds: float | None = None
    memory: int | None = None

    def check(self) -> None:
        """UsageError for limits that make no sense or cannot be kept on this system."""
        for name, value in self.to_dict().items():
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"a limit on {name} is a number above 0, not {value}")
        if self.memory is not None and sys.platform != "linux":
            raise UsageError("a memory limit can be kept on Linux only")

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `Limits(**data)` inverts it."""
        return asdict(self)


NO_LIMITS = Limits()


def failed(job: Job, reason: str, seconds: float = 0.0) -> ChildResult:
    """The result of a job that produced none."""
    from actsearch.tasks import ChildResult

    return ChildResult(None, None, "failed", reason, (), seconds, job.seed, 0)


def warm_up(task: Task) -> None:
    """Load what every training needs: torch and the data, where the task loads data."""
    load = getattr(task, "load", None)
    if load is not None:
        import torch  # noqa: F401

        load()


def prepare(task: Task, spec: TaskSpec, jobs: Iterable[Job]) -> None:
    """Build what several trainings need in one go, where the task can. What fails here will fail,
    and say so, when it is trained.
    """
    build = getattr(task, "prepare", None)
    if build is not None:
        with suppress(Exception):
            build([job.expression for job in jobs], device=spec.device)


def run(task: Task, spec: TaskSpec, job: Job) -> ChildResult:
    """Train on one thread. What goes wrong in one child is its failure and nobody else's.

    Raises:
        TaskError: the task cannot be used at all.
    """
    from actsearch.tasks import TaskError

    start = time.perf_counter()
    fewer = {} if job.steps is None else {"steps": job.steps}
    try:
        with one_thread():
            return task.train(
                job.expression, seed=job.seed, split=job.split, device=spec.device, **fewer
            )
    except TaskError:
        raise
    except MemoryError:
        return failed(job, "not enough memory", time.perf_counter() - start)
    except Exception as error:
        check_for_interrupt()  # which may have become this error
        first_line = str(error).partition("\n")[0]
        reason = f"{type(error).__name__}: {first_line}"
        return failed(job, reason, time.perf_counter() - start)
