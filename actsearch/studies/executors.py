"""Executors: where trainings run. `inline` is this process, `local` a number of worker processes.

An executor has slots; what fills them is the caller's queue. It reports what came back of each
job: a result, or that the worker was lost. Nothing here knows of studies or stores.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Queue
from typing import IO, TYPE_CHECKING, Any

from actsearch.grammar.errors import ActSearchError, UsageError
from actsearch.studies.jobs import Job, TaskSpec, run, warm_up

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult, Task

AHEAD = 2
"""Jobs that a worker process holds: one that it trains and one to go on with at once."""

STARTS = 3
"""Workers that may die one after the other before any has become ready."""


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
    def free(self) -> str | None:
        """The name of a worker that can take a job now, None while all are busy."""

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

    def free(self) -> str | None:
        return "inline" if self._job is None else None

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


@dataclass(eq=False)
class _Worker:
    """A worker process as its parent sees it."""

    name: str
    process: subprocess.Popen[bytes]
    listener: threading.Thread | None = None
    jobs: deque[Job] = field(default_factory=deque)
    ready: bool = False

    def send(self, message: dict[str, Any]) -> None:
        """Write a line to the worker. One that has died is reported by its reader instead."""
        stdin = self.process.stdin
        assert stdin is not None
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()


class Local(Executor):
    """Worker processes of one thread each, replaced when they die.

    Args:
        spec: the task.
        workers: how many processes, 1 or more.
    """

    def __init__(self, spec: TaskSpec, workers: int) -> None:
        self._spec = spec
        self._messages: Queue[tuple[_Worker, dict[str, Any] | None]] = Queue()
        self._failed_starts = 0
        self._workers = [self._start(f"local-{number}") for number in range(workers)]

    def free(self) -> str | None:
        idlest = min(self._workers, key=lambda worker: len(worker.jobs))
        return idlest.name if len(idlest.jobs) < AHEAD else None

    def submit(self, job: Job, worker: str) -> None:
        chosen = next(w for w in self._workers if w.name == worker)
        chosen.jobs.append(job)
        chosen.send(job.to_dict())

    def wait(self) -> list[Report]:
        reports: list[Report] = []
        while not reports or not self._messages.empty():
            worker, message = self._messages.get()
            if message is None:
                reports.extend(self._replace(worker))
            elif "error" in message:
                raise ExecutorError(message["error"])
            elif "ready" in message:
                worker.ready = True
                self._failed_starts = 0
            else:
                reports.append(_report(worker.jobs.popleft(), message))
        return reports

    def close(self) -> None:
        for worker in self._workers:
            _close(worker.process)
        for worker in self._workers:
            try:
                worker.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            if worker.listener is not None:
                worker.listener.join()

    def _start(self, name: str) -> _Worker:
        command = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
        command += "from actsearch.studies.worker import main; main()"
        with _interrupts_blocked():  # a Ctrl-C while Python starts would end the worker
            process = subprocess.Popen(
                [sys.executable, "-c", command, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
        worker = _Worker(name, process)
        worker.send(self._spec.to_dict())
        worker.listener = threading.Thread(
            target=self._listen, args=(worker, process.stdout), name=name, daemon=True
        )
        worker.listener.start()
        return worker

    def _listen(self, worker: _Worker, stdout: IO[bytes]) -> None:
        """Queue what a worker says; None when it has died. Half a line is not a message."""
        with stdout:
            for line in stdout:
                if line.endswith(b"\n"):
                    self._messages.put((worker, json.loads(line)))
        self._messages.put((worker, None))

    def _replace(self, dead: _Worker) -> Iterator[Report]:
        """Start another worker in the place of a dead one; report the jobs that it held."""
        code = dead.process.wait()
        _close(dead.process)
        if not dead.ready:
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise ExecutorError(
                    f"{STARTS} worker processes died before they were ready ({_ending(code)}); "
                    "their own messages stand above"
                )
        self._workers[self._workers.index(dead)] = self._start(dead.name)
        for place, job in enumerate(dead.jobs):
            reason = f"the worker process died ({_ending(code)})"
            yield Report(job, None, reason, blamed=place == 0 and dead.ready)


def _report(job: Job, message: dict[str, Any]) -> Report:
    from actsearch.tasks import ChildResult

    if (message["id"], message["lease"]) != (job.id, job.lease):
        raise ExecutorError(f"a worker answered training {message['id']} instead of {job.id}")
    return Report(job, ChildResult.from_dict(message["result"]))


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close a worker's stdin, upon which it ends."""
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back; a process that is started meanwhile inherits that it is held back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def executor(spec: TaskSpec, workers: int) -> Executor:
    """`inline` for 0 workers, else `local` with that many processes."""
    if workers < 0:
        raise UsageError(f"the number of workers is 0 or more, not {workers}")
    return Local(spec, workers) if workers else Inline(spec)
