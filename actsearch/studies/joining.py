"""A worker that joins a study by its database: claims, trains, records, until there is no more.

Its heart beats from a thread while it trains. A worker that finds that it has lost its lease (its
host slept, say) goes on training, since a result can no longer do harm: it will be refused.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from actsearch.studies.interrupts import check_for_interrupt, interrupts_noted
from actsearch.studies.jobs import Job, TaskSpec, run, warm_up
from actsearch.studies.leases import BEAT_SECONDS
from actsearch.studies.records import Training
from actsearch.studies.run_directory import StudyError
from actsearch.studies.store import Store

IDLE_SECONDS = 0.2
"""From one look for work to the next."""


def work(
    store: Store,
    heart: Store,
    name: str | None = None,
    trained: Callable[[Training], None] = lambda _: None,
    beat_seconds: float = BEAT_SECONDS,
) -> int:
    """Train for a study until it is finished.

    Args:
        store: of the study.
        heart: another connection to it, for the heartbeats.
        name: of this worker; host and process where it is None.
        trained: called with each training whose result was accepted.
        beat_seconds: from one heartbeat to the next.

    Returns:
        How many results were accepted.

    Raises:
        TaskError: the study's task cannot be used here.
    """
    config = store.config
    spec = TaskSpec(**config["task"], device=config["device"])
    task = spec.make()
    warm_up(task)
    worker = name or f"{socket.gethostname()}-{os.getpid()}"
    count = 0
    held: list[Training] = []
    try:
        with interrupts_noted():
            while True:
                check_for_interrupt()
                if not held:
                    held = store.claim_next(worker)
                if not held:
                    if store.get("status") == "finished":
                        return count
                    time.sleep(IDLE_SECONDS)
                    continue
                [training] = held
                job = Job.of(training)
                with _beating(heart, (job.id, job.lease), beat_seconds):
                    result = run(task, spec, job)
                # the next one is claimed as this one is recorded: one wait for the disk, not two
                [accepted], held = store.exchange([(training, job.lease, result)], worker)
                if accepted:
                    count += 1
                    trained(training)
    except BaseException:
        for training in held:
            with suppress(StudyError):
                store.release(training, training.lease)
        raise


@contextmanager
def _beating(heart: Store, held: tuple[int, int], seconds: float) -> Iterator[None]:
    """Heartbeats for one lease, from a thread."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(seconds):
            with suppress(StudyError):  # the database is away: the next beat may reach it
                heart.beat([held])

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
