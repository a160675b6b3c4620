"""A worker process: reads jobs as lines of JSON from stdin, writes results as lines to stdout.

It ignores Ctrl-C, which is for its parent to answer, and ends when its parent does: then its stdin
closes. Whatever a task prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO


def main() -> None:
    """Serve until stdin closes. The first line names the task and limits, each further is a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, lines), daemon=True).start()

    from actsearch.studies.jobs import Job, Limits, TaskSpec, prepare, run, warm_up
    from actsearch.tasks import TaskError

    try:
        setting = json.loads(lines.get())
        spec = TaskSpec(**setting["task"])
        task = spec.make()
        warm_up(task)
        limit_memory(Limits(**setting["limits"]).memory)
        _answer(answers, {"ready": os.getpid()})
        while True:
            jobs = [Job(**json.loads(line)) for line in _all(lines)]
            if len(jobs) > 1:
                prepare(task, spec, jobs)
                _answer(answers, {"ready": os.getpid()})
            for job in jobs:
                result = run(task, spec, job)
                _answer(answers, {"id": job.id, "lease": job.lease, "result": result.to_dict()})
    except TaskError as error:
        _answer(answers, {"error": str(error)})
    except BrokenPipeError:
        os._exit(1)


def limit_memory(megabytes: int | None) -> None:
    """Let this process allocate so many MB more (Linux); then malloc fails, and so does the child.

    What counts is private writable memory: unlike the address space, it does not include the
    libraries and reservations that torch maps without using them.
    """
    if megabytes is None:
        return
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    allowed = held * 1024 + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _read(stdin: BinaryIO, lines: SimpleQueue[bytes]) -> None:
    """Pass lines on; when there are no more, the parent is gone and nobody wants the results."""
    for line in stdin:
        lines.put(line)
    os._exit(0)


def _all(lines: SimpleQueue[bytes]) -> Iterator[bytes]:
    """What lies in the queue, or what comes first."""
    yield lines.get()
    while not lines.empty():
        yield lines.get()


def _answer(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
