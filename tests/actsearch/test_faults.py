"""What goes wrong on real machines, and what comes of it each time."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from actsearch.cli import main
from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import executor
from actsearch.studies.jobs import Limits, TaskSpec
from actsearch.studies.run_directory import (
    DATABASE,
    DamagedStore,
    StudyError,
    exclusive,
    refuse_network,
)
from actsearch.studies.store import Store
from actsearch.studies.study import Progress, Study, search
from tests.actsearch.synthetic_study import finished, settings
from tests.actsearch.synthetic_task import NAME
from tests.actsearch.test_executors import JOBS, alive, run_all
from tests.actsearch.test_study import essence

SMALL = {"trials": 12, "retest": 1, "baseline_seeds": 1}


def test_a_storm_of_kills_changes_nothing(tmp_path: Path) -> None:
    """The small one; the command by itself is a thousand kills in ten thousand jobs."""
    storm = [sys.executable, "-m", "tests.actsearch.kill_storm", "--folder", str(tmp_path)]
    command = [*storm, "--jobs", "80", "--kills", "10", "--pace", "0.06"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["jobs"] == 80
    assert found["kills"] == 10


def test_a_full_disk_ends_the_search_and_room_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = search("swish", **settings(tmp_path / "a", tmp_path / "log", **SMALL))
    original = Store.open.__func__  # type: ignore[attr-defined]

    def on_a_small_disk(run: Path, writable: bool = True) -> Store:
        store: Store = original(Store, run, writable)
        if writable:
            with store._reading() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {int(pages or 0) + 1}")
        return store

    run = tmp_path / "b"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "open", on_a_small_disk)
        with pytest.raises(StudyError, match="disk is full; what was finished before is saved"):
            search("swish", **settings(run, tmp_path / "log-b", **SMALL))
    saved = finished(run)
    assert saved
    study = Study.resume(run)
    assert finished(run) >= saved
    assert essence(study) == essence(reference)
    assert study.leaderboard() == reference.leaderboard()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """No permission to write there; root, who may write everywhere, becomes nobody meanwhile."""
    user = os.geteuid()
    folder.chmod(0o555)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read; `tmp_path` is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_directory_is_refused_and_still_read(open_folder: Path) -> None:
    run = open_folder / "run"

    def stop(progress: Progress) -> None:
        if progress.stage == "search" and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search("swish", progress=stop, **settings(run, open_folder / "log", **SMALL))
    with read_only(run):
        with pytest.raises(StudyError, match="cannot"):
            Study.resume(run)
        assert Study.open(run).counts["trained"] >= 3
    assert Study.resume(run).status == "finished"


def test_a_new_study_in_a_read_only_directory_is_refused(open_folder: Path) -> None:
    run = open_folder / "run"
    run.mkdir()
    with read_only(run), pytest.raises(StudyError, match="cannot write"), exclusive(run):
        pass


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backwards or forwards by thirty years in the midst of the search."""
    reference = search("swish", **settings(tmp_path / "a", tmp_path / "log", **SMALL))
    true_time, offset = time.time, 0.0

    def set_clock(progress: Progress) -> None:
        nonlocal offset
        offset = jump if progress.done % 2 else 0.0

    monkeypatch.setattr(time, "time", lambda: true_time() + offset)
    study = search(
        "swish", progress=set_clock, **settings(tmp_path / "b", tmp_path / "log-b", **SMALL)
    )
    assert essence(study) == essence(reference)


def test_a_training_that_hangs_is_ended_and_counts_as_failed() -> None:
    """It is not tried again, and what its worker had waiting is trained by another."""
    spec = TaskSpec(NAME, {"hangs": "x + 3"})
    with executor(spec, 1, Limits(seconds=3)) as engine:
        reports = run_all(engine, JOBS)
    results = {report.job.id: report.result for report in reports}
    assert results[3] is not None
    assert (results[3].status, results[3].metric) == ("failed", None)
    assert results[3].reason == "took longer than the time limit of 3 s"
    others = [r for report in reports if (r := report.result) and report.job.id != 3]
    assert all(result.status == "done" for result in others)
    assert [r.job.id for r in reports if r.result is None and r.blamed] == []


def test_a_search_survives_candidates_that_hang(tmp_path: Path) -> None:
    options = SMALL | {"task_options": {"hangs": "sinc"}, "workers": 2, "time_limit": 2.0}
    study = search("swish", **settings(tmp_path / "run", tmp_path / "log", **options))
    failed = [trial for trial in study.trials() if trial["state"] == "failed"]
    assert failed
    assert study.status == "finished"
    assert all("time limit" in trial["reason"] for trial in failed if "sinc" in trial["expression"])
    assert study.counts["trained"] == 12


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_training_that_takes_too_much_memory_fails_alone() -> None:
    spec = TaskSpec(NAME, {"hoards": "x + 3"})
    with executor(spec, 1, Limits(memory=300)) as engine:
        reports = run_all(engine, JOBS)
    results = [report.result for report in reports]
    assert [r.status for r in results if r] == ["done"] * 3 + ["failed"] + ["done"] * 4
    assert results[3] is not None
    assert results[3].reason == "not enough memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_torch_is_refused_memory_too() -> None:
    """What it says of it differs from version to version; the worker lives on."""
    spec = TaskSpec("digits-mlp", {"steps": 2, "width": 20_000})
    with executor(spec, 1, Limits(memory=400)) as engine:
        (report,) = run_all(engine, JOBS[:1])
    assert report.result is not None
    assert report.result.status == "failed"
    assert re.search("memory", report.result.reason or "")


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"memory": 0}]
)
def test_limits_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="number above 0"):
        Limits(**wrong).check()


def test_limits_need_worker_processes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--workers"):
        search("swish", **settings(tmp_path / "run", tmp_path / "log", time_limit=1.0))
    with pytest.raises(UsageError, match="--workers"):
        executor(TaskSpec(NAME, {}), 0, Limits(seconds=1))


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("trainings", "metric = metric + 1e-9 WHERE id = 7"),
        ("trials", "expression = 'x' WHERE number = 3"),
        ("meta", "value = replace(value, '0', '1') WHERE key = 'config'"),
    ],
)
def test_a_corrupt_row_is_named_and_nothing_is_overwritten(
    table: str, damage: str, tmp_path: Path
) -> None:
    """A bit that flips in a value leaves the database's structure sound; the checksum tells."""
    run = tmp_path / "run"
    search("swish", **settings(run, tmp_path / "log", **SMALL))
    with closing(sqlite3.connect(run / DATABASE)) as connection:
        connection.execute(f"UPDATE {table} SET {damage}")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for read in (Study.open, Study.resume):
        with pytest.raises(DamagedStore, match=f"a row of {table} is not as written"):
            read(run)
    assert main(["resume", str(run)]) == 1


def test_network_file_systems_are_refused_with_advice(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    spaced = str(tmp_path / "a b").replace(" ", r"\040")
    lines = [
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
        f"40 22 0:40 / {tmp_path} rw shared:2 - nfs4 server:/export rw",
        f"41 40 0:41 / {tmp_path}/local rw - xfs /dev/vdb rw",
        f"42 40 0:42 / {spaced} rw - cifs //server/share rw",
        "a line that is none",
    ]
    mounts.write_text("\n".join(lines))
    with pytest.raises(StudyError, match=r"network file system \(nfs4\).*local disk.*PostgreSQL"):
        refuse_network(tmp_path / "run", mounts)
    with pytest.raises(StudyError, match="cifs"):
        refuse_network(tmp_path / "a b" / "run", mounts)
    refuse_network(tmp_path / "local" / "run", mounts)
    refuse_network(Path("/"), mounts)
    refuse_network(tmp_path, tmp_path / "no such file")


def test_a_worker_that_is_overdue_leaves_no_process_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = TaskSpec(NAME, {"hangs": "x", "log": str(log)})
    with executor(spec, 1, Limits(seconds=0.3)) as engine:
        run_all(engine, JOBS[:1])
        processes = {int(line.split("\t")[1]) for line in log.read_text().splitlines()}
        assert not any(alive(process) for process in processes)
