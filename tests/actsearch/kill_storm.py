"""A search that is killed all the time: `python -m tests.actsearch.kill_storm`.

One driver and two workers share a study's database. This process forks them, kills one of them
with SIGKILL every now and then, and forks another in its place, until all jobs are done and the
wanted number of kills has been dealt. The study must then be the same, bit for bit, as one that
nobody disturbed: proposals, rewards, the driver's state; no result lost, none recorded twice.

The full storm is 10,000 jobs and 1,000 kills; the tests run a small one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actsearch.studies import leases, search_loop, shared_queue, training_queue
from actsearch.studies.joining import work
from actsearch.studies.store import Store
from actsearch.studies.study import Study, search
from tests.actsearch.synthetic_task import NAME, read_log

WORKERS = 2


def settings(run: Path, jobs: int, **options: Any) -> dict[str, Any]:
    return {
        "task": NAME,
        "run": run,
        "units": 2,
        "driver": "evolution",
        "trials": jobs,
        "window": 64,
        "baselines": (),
        "retest": 0,
        "level": None,
        "exclude": (),
        "seed": 7,
        **options,
    }


class Begun(BaseException):
    """The study's database is there; nothing has been trained."""


def begin(run: Path, jobs: int, log: Path) -> None:
    """Leave a shared study that has not begun to search."""

    def stop(_: Any) -> None:
        raise Begun

    options = {"executor": "shared", "task_options": {"log": str(log)}, "progress": stop}
    try:
        search("swish", **settings(run, jobs, **options))
    except Begun:
        return


def forked(job: Callable[[], object]) -> int:
    """The process id of a child that does this and nothing else."""
    process = os.fork()
    if process:
        return process
    try:
        job()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


def drive(run: Path) -> None:
    Study.resume(run)


def train(run: Path) -> None:
    work(Store.open(run), Store.open(run), beat_seconds=0.02)


def storm(run: Path, kills: int, driver_share: float, pace: float, rng: random.Random) -> int:
    """Deal this many kills while the study runs to its end; how many of them hit the driver."""
    jobs = [lambda: drive(run), *[lambda: train(run)] * WORKERS]
    processes = [forked(job) for job in jobs]
    at_driver = dealt = 0
    while dealt < kills:
        time.sleep(rng.uniform(0, 2 * pace))
        place = 0 if rng.random() < driver_share else rng.randrange(1, len(jobs))
        os.kill(processes[place], signal.SIGKILL)
        _, status = os.waitpid(processes[place], 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"it ended by itself after {dealt} of {kills} kills")
        dealt += 1
        at_driver += place == 0
        processes[place] = forked(jobs[place])
    for process in processes:
        _, status = os.waitpid(process, 0)
        if status:
            raise SystemExit("a process failed")
    return at_driver


def compared(run: Path, quiet: Path, log: Path, jobs: int) -> dict[str, Any]:
    """What the storm did to the study; SystemExit where it did harm."""
    store, reference = Store.open(run, writable=False), Store.open(quiet, writable=False)
    trials, expected = store.trials(), reference.trials()
    told = [(t.number, t.index, t.expression, t.state, t.reward) for t in trials]
    wanted = [(t.number, t.index, t.expression, t.state, t.reward) for t in expected]
    if told != wanted:
        raise SystemExit("other proposals or rewards than undisturbed")
    if store.get("snapshot") != reference.get("snapshot"):
        raise SystemExit("another state of the driver than undisturbed")
    trainings = store.trainings("search")
    lost = sum(training.losses for training in trainings)
    if len(trainings) != jobs or any(not t.finished for t in trainings):
        raise SystemExit("a job was lost or doubled")
    if sum(training.lease for training in trainings) != jobs + lost:
        raise SystemExit("a job was claimed again without having been lost")
    begun = sum(what == "begin" for what, _, _ in read_log(log))
    if not jobs - 1 <= begun <= jobs + lost:  # a worker may be killed before its first line
        raise SystemExit(f"{begun} trainings begun for {jobs} jobs and {lost} losses")
    return {"jobs": jobs, "leases lost": lost, "trainings begun": begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--driver-share", type=float, default=0.25)
    parser.add_argument("--pace", type=float, default=0.35, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    leases.EXPIRY_SECONDS = 0.3
    shared_queue.LeaseWatch.__init__.__defaults__ = (0.3, time.monotonic)  # type: ignore[misc]
    shared_queue.LOSSES = training_queue.LOSSES = 10**9  # nobody here dies of a bad candidate
    search_loop.SNAPSHOT_EVERY = 50
    folder = Path(tempfile.mkdtemp(prefix="storm-", dir=arguments.folder))
    start = time.monotonic()
    try:
        search("swish", **settings(folder / "quiet", arguments.jobs))
        quiet = time.monotonic() - start
        begin(folder / "run", arguments.jobs, folder / "log")
        rng = random.Random(arguments.seed)
        at_driver = storm(
            folder / "run", arguments.kills, arguments.driver_share, arguments.pace, rng
        )
        found = compared(folder / "run", folder / "quiet", folder / "log", arguments.jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found |= {"kills": arguments.kills, "at the driver": at_driver}
    seconds = {"quiet": round(quiet, 1), "total": round(time.monotonic() - start, 1)}
    print(json.dumps(found | {"seconds": seconds}))


if __name__ == "__main__":
    main()
