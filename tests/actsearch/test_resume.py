"""Studies that are killed: resume loses no finished trial, trains none twice, and ends the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actsearch.drivers import DRIVERS
from actsearch.studies.store import Store
from actsearch.studies.study import Progress, Study, search
from tests.actsearch.synthetic_study import begun, finished, settings
from tests.actsearch.synthetic_task import read_log
from tests.actsearch.test_executors import alive
from tests.actsearch.test_study import essence

KILLS = 20
CONTROLLERS = ("reinforce", "ppo", "pqt")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("undisturbed")
    return search("swish", **settings(folder / "run", folder / "log"))


PROGRAM = """
import sys
from pathlib import Path
from actsearch.studies.run_directory import DATABASE
from actsearch.studies.study import Study, search
from tests.actsearch.synthetic_study import settings
run, log, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if (run / DATABASE).exists():
    Study.resume(run, workers=workers)
else:
    options = {"log": str(log), "delay": 0.03}
    search("swish", **settings(run, log, task_options=options, workers=workers))
"""


@contextmanager
def study_process(run: Path, log: Path, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works on the study, in a group of its own."""
    command = [sys.executable, "-c", PROGRAM, str(run), str(log), str(workers)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_twenty_kills_at_random_moments(undisturbed: Study, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    rng = random.Random(20)
    kills = 0
    recorded: dict[tuple[str, ...], int] = {}
    while kills < KILLS:
        with study_process(run, log, workers=rng.choice([0, 0, 2])) as process:
            # let it come to work, then kill it somewhere within the next few trainings
            before = len(read_log(log))
            while len(read_log(log)) == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.12))
            ended = process.poll() is not None
            process.kill()
        workers = {pid for _, pid, _ in read_log(log)}
        while any(alive(pid) for pid in workers):
            time.sleep(0.005)
        counts = begun(log)
        for facts in finished(run):
            assert recorded.setdefault(facts, counts[facts]) == counts[facts]
        if ended:
            break
        kills += 1
    study = Study.resume(run, workers=0)
    assert kills == KILLS, "the search ended before it was killed often enough"
    assert begun(log).keys() >= recorded.keys()
    assert all(begun(log)[facts] == count for facts, count in recorded.items())
    assert essence(study) == essence(undisturbed)
    assert study.leaderboard() == undisturbed.leaderboard()
    assert study.stop_reason == undisturbed.stop_reason


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_kill_at_every_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each transaction in turn; each time the study is resumed to its end."""
    options = {"trials": 4, "retest": 1, "retest_seeds": 1, "baseline_seeds": 1, "window": 2}
    reference = search("swish", **settings(tmp_path / "run", tmp_path / "log", **options))
    original = Store._writing

    @contextmanager
    def fragile(self: Store) -> Iterator[Any]:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        with original(self) as connection:
            yield connection
        left -= 1
        if left == 0:
            raise Killed

    moment, survived = 0, False
    while not survived:
        moment += 1
        run, log = tmp_path / f"run{moment}", tmp_path / f"log{moment}"
        left = moment
        with monkeypatch.context() as patch:
            patch.setattr(Store, "_writing", fragile)
            patch.setattr(Store, "release", lambda *_: True)  # a dead process tidies nothing
            try:
                search("swish", **settings(run, log, **options))
                survived = True
            except Killed:
                recorded = finished(run)
        study = Study.resume(run)
        assert essence(study) == essence(reference)
        assert study.leaderboard() == reference.leaderboard()
        if not survived:
            assert all(begun(log)[facts] == 1 for facts in recorded)
            assert begun(log).total() <= begun(tmp_path / "log").total() + 1
    assert moment > 30


@pytest.mark.parametrize(
    "driver", [*sorted(DRIVERS.keys() - {"evolution"}), "evolution with asha", "pqt with asha"]
)
def test_every_driver_resumes_exactly(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted again and again, with and without a snapshot of its state to begin from."""
    driver, _, halved = driver.partition(" with ")
    small: dict[str, Any] = {"batch": 4, "hidden": 8} if driver in CONTROLLERS else {}
    small |= {"initial": 6, "batch": 2, "pool": 8} if driver == "surrogate" else {}
    options = {"driver": driver, "driver_options": small, "trials": 24, "units": 2}
    options |= {"asha": bool(halved)}
    reference = search("swish", **settings(tmp_path / "a", tmp_path / "log", **options))
    for every in (5, 1000):
        monkeypatch.setattr("actsearch.studies.search_loop.SNAPSHOT_EVERY", every)
        run, log = tmp_path / f"b{every}", tmp_path / f"log{every}"
        interrupted = 0

        def stop(progress: Progress) -> None:
            if progress.stage == "search" and progress.done % 5 == 4:
                raise KeyboardInterrupt

        try:
            study = search("swish", progress=stop, **settings(run, log, **options))
        except KeyboardInterrupt:
            while True:
                interrupted += 1
                skip = iter([None])  # the call that begins the stage repeats the last count

                def later(progress: Progress, skip: Iterator[None] = skip) -> None:
                    if progress.stage == "search" and next(skip, stop) is stop:
                        stop(progress)

                try:
                    study = Study.resume(run, progress=later)
                    break
                except KeyboardInterrupt:
                    continue
        assert interrupted >= 4
        assert essence(study) == essence(reference)
        assert study.leaderboard() == reference.leaderboard()
        assert set(begun(log).values()) == {1}


def test_ctrl_c_reaches_the_whole_group_and_loses_nothing(
    undisturbed: Study, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    with study_process(run, log, workers=2) as process:
        while len(read_log(log)) < 20 and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        assert process.returncode == -signal.SIGINT
    before, counts = finished(run), begun(log)
    study = Study.open(run)
    assert study.status == "running"
    assert study.counts["running"] == 0
    study = Study.resume(run)
    assert {facts: begun(log)[facts] for facts in before} == {f: counts[f] for f in before}
    assert essence(study) == essence(undisturbed)


def test_resuming_a_finished_study_does_nothing(undisturbed: Study) -> None:
    store = undisturbed.run / "study.db"
    before = store.stat().st_mtime_ns
    assert Study.resume(undisturbed.run).leaderboard() == undisturbed.leaderboard()
    assert store.stat().st_mtime_ns == before


def test_a_changed_driver_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that would propose otherwise does not mix its proposals with the recorded ones."""

    def stop(progress: Progress) -> None:
        if progress.stage == "search" and progress.done == 5:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        search("swish", progress=stop, **settings(run, tmp_path / "log"))
    monkeypatch.setattr("actsearch.drivers.evolution.Evolution._stranger", lambda self: 17)
    with pytest.raises(Exception, match=r"cannot go on: proposal 0 .* proposes 17"):
        Study.resume(run)
