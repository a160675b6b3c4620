"""The `local` executor: worker processes of one thread each, replaced when they die."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import IO, Any

from actsearch.studies.executors import Executor, ExecutorError, Report
from actsearch.studies.jobs import Job, Limits, TaskSpec, failed

AHEAD = 2
"""Jobs that a worker process holds at least: one that it trains and one to go on with at once."""

MOST_AHEAD = 8
"""Jobs that it holds where they are short, so that it can build what they need in one go."""

SHORT = 2.0
"""Seconds that all the jobs of a worker may take together for it to be given more than `AHEAD`."""

_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

STARTS = 3
"""Workers that may die one after the other before any has become ready."""


@dataclass(eq=False)
class _Worker:
    """A worker process as its parent sees it.

    `began` is when it took up the first of its jobs, by the monotonic clock, which nobody can set.
    """

    name: str
    process: subprocess.Popen[bytes]
    listener: threading.Thread | None = None
    jobs: deque[Job] = field(default_factory=deque)
    ready: bool = False
    began: float = math.inf
    overdue: bool = False

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
        limits: on time and memory of each training. A worker that takes too long is killed, and
            its training counts as failed; so does one that is refused memory.
        gpus: that each worker sees; with a fraction, several see the same one.

    Raises:
        ExecutorError: there are not so many GPUs.
    """

    def __init__(self, spec: TaskSpec, workers: int, limits: Limits, gpus: float = 0.0) -> None:
        limits.check()
        self._spec = spec
        self._limits = limits
        devices = shared_out(visible_gpus(), workers, gpus) if gpus else [None] * workers
        self._devices = {f"local-{number}": seen for number, seen in enumerate(devices)}
        self._messages: Queue[tuple[_Worker, dict[str, Any] | None]] = Queue()
        self._failed_starts = 0
        self._seconds = SHORT  # of a training, lately
        self._workers = [self._start(f"local-{number}") for number in range(workers)]

    def free(self) -> list[str]:
        ahead = max(AHEAD, min(MOST_AHEAD, int(SHORT / max(self._seconds, 1e-3))))
        slots = [(n, k) for k, w in enumerate(self._workers) for n in range(len(w.jobs), ahead)]
        return [self._workers[k].name for _, k in sorted(slots)]

    def submit(self, job: Job, worker: str) -> None:
        chosen = next(w for w in self._workers if w.name == worker)
        if chosen.ready and not chosen.jobs:
            chosen.began = time.monotonic()
        chosen.jobs.append(job)
        chosen.send(job.to_dict())

    def wait(self) -> list[Report]:
        reports: list[Report] = []
        while not reports or not self._messages.empty():
            try:
                worker, message = self._messages.get(timeout=self._patience())
            except Empty:
                self._end_overdue()
                continue
            if message is None:
                reports.extend(self._replace(worker))
            elif "error" in message:
                raise ExecutorError(message["error"])
            elif "ready" in message:
                worker.ready = True
                worker.began = time.monotonic()
                self._failed_starts = 0
            else:
                reports.append(_report(worker.jobs.popleft(), message))
                self._seconds = (self._seconds + message["result"]["seconds"]) / 2
                worker.began = time.monotonic()
        return reports

    def _patience(self) -> float | None:
        """Seconds until the next training is overdue; None where there is no limit."""
        if self._limits.seconds is None:
            return None
        began = [worker.began for worker in self._workers if worker.jobs and not worker.overdue]
        left = min(began, default=math.inf) + self._limits.seconds - time.monotonic()
        return None if left == math.inf else max(0.0, left)

    def _end_overdue(self) -> None:
        """Kill the workers whose training takes too long; their end is then reported."""
        assert self._limits.seconds is not None
        latest = time.monotonic() - self._limits.seconds
        for worker in self._workers:
            if worker.jobs and worker.began <= latest and not worker.overdue:
                worker.overdue = True
                worker.process.kill()

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
                env=os.environ | _THREADS | self._seen(name),
            )
        worker = _Worker(name, process)
        worker.send({"task": self._spec.to_dict(), "limits": self._limits.to_dict()})
        worker.listener = threading.Thread(
            target=self._listen, args=(worker, process.stdout), name=name, daemon=True
        )
        worker.listener.start()
        return worker

    def _seen(self, name: str) -> dict[str, str]:
        devices = self._devices[name]
        return {} if devices is None else {"CUDA_VISIBLE_DEVICES": ",".join(devices)}

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
            if place == 0 and dead.overdue:
                seconds = self._limits.seconds or 0.0
                reason = f"took longer than the time limit of {seconds:g} s"
                yield Report(job, failed(job, reason, seconds))
                continue
            reason = f"the worker process died ({_ending(code)})"
            yield Report(job, None, reason, blamed=place == 0 and dead.ready)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def shared_out(devices: list[str], workers: int, gpus: float) -> list[list[str]]:
    """The GPUs of each worker: `gpus` of them for one, or so large a part of one.

    Raises:
        ExecutorError: there are not so many.
    """
    if gpus < 1:
        each = max(1, math.floor(1 / gpus + 1e-9))
        taken = [[number // each] for number in range(workers)]
    else:
        whole = int(gpus)
        taken = [list(range(whole * n, whole * (n + 1))) for n in range(workers)]
    needed = 1 + max(places[-1] for places in taken)
    if needed > len(devices):
        raise ExecutorError(
            f"{workers} workers with {gpus:g} GPUs each need {needed}, and there are {len(devices)}"
        )
    return [[devices[place] for place in places] for places in taken]


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
