"""The store: what is written is there, stale results are refused, damage is left as it is."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from actsearch.studies.records import Trial
from actsearch.studies.run_directory import (
    DATABASE,
    DamagedStore,
    NotAStudy,
    StudyError,
    StudyIsRunning,
    WrongVersion,
    check,
    exclusive,
)
from actsearch.studies.store import Store
from actsearch.tasks import ChildResult

RESULT = ChildResult(0.75, 0.5, "done", None, ((1, 2.25), (20, 0.5)), 0.125, 11, 400)
CONFIG = {"seed": 3, "exclude": ["constant"], "units": None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path, CONFIG)


def fill(store: Store, trials: int = 3) -> list[Trial]:
    made = [Trial(number, 10**30 + number, f"x + {number}") for number in range(trials)]
    for trial in made:
        store.add_trial(trial, [11, 12])
        for training in trial.trainings:
            store.finish(training, store.claim(training, "w"), RESULT)
    return made


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file's digest and time of last change."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


def test_what_is_written_is_read_back(store: Store, tmp_path: Path) -> None:
    written = fill(store)
    reused = Trial(3, 5, "x", decision="reuse", source=written[1], certificate="proved: a = a")
    store.add_trial(reused)
    store.add_trial(Trial(4, 6, "1", decision="exclude", exclusion="constant on [-5, 5]"))
    store.set("stop_reason", "because")
    store.set("stop_reason", "otherwise")
    store.close()
    for writable in (False, True):
        again = Store.open(tmp_path, writable)
        assert again.config == CONFIG
        assert again.get("stop_reason") == "otherwise"
        assert again.get("nothing", 7) == 7
        assert again.trials() == [
            *written,
            reused,
            Trial(4, 6, "1", "exclude", exclusion="constant on [-5, 5]"),
        ]
        states = ["done", "done", "done", "reused", "excluded"]
        assert [trial.state for trial in again.trials()] == states
        assert [trial.reward for trial in again.trials()] == [0.75, 0.75, 0.75, 0.75, None]
        again.close()


def test_reward_is_the_mean_over_seeds_and_a_failure_fails_the_trial(store: Store) -> None:
    trial = Trial(0, 1, "x")
    store.add_trial(trial, [1, 2])
    first, second = trial.trainings
    assert (trial.state, trial.reward) == ("pending", None)
    lease = store.claim(first, "w")
    assert trial.state == "running"
    store.finish(first, lease, RESULT)
    assert (trial.state, trial.reward) == ("pending", None)
    half = ChildResult(0.25, 1.5, "done", None, (), 1.0, 2, 400)
    store.finish(second, store.claim(second, "w"), half)
    assert (trial.state, trial.reward, trial.loss) == ("done", 0.5, 1.0)
    failing = Trial(1, 2, "x")
    store.add_trial(failing, [1])
    failure = ChildResult(None, None, "failed", "loss is nan at step 3", (), 1.0, 1, 400)
    store.finish(failing.trainings[0], store.claim(failing.trainings[0], "w"), failure)
    assert (failing.state, failing.reward) == ("failed", None)
    assert failing.reason == "loss is nan at step 3"
    assert store.trials() == [trial, failing]


def test_late_results_of_a_lost_lease_are_refused(store: Store) -> None:
    trial = Trial(0, 1, "x")
    store.add_trial(trial, [1])
    training = trial.trainings[0]
    old = store.claim(training, "first")
    assert store.release(training, old, lost=True)
    new = store.claim(training, "second")
    assert new > old
    assert not store.finish(training, old, RESULT)
    assert not store.release(training, old)
    assert store.trials()[0].state == "running"
    assert store.finish(training, new, RESULT)
    assert store.trials()[0].trainings[0].worker == "second"
    assert store.trials()[0].trainings[0].losses == 1


def test_what_another_process_claimed_cannot_be_claimed(store: Store, tmp_path: Path) -> None:
    store.add_trial(Trial(0, 1, "x"), [1])
    other = Store.open(tmp_path)
    mine, theirs = store.trials()[0].trainings[0], other.trials()[0].trainings[0]
    other.claim(theirs, "other")
    with pytest.raises(StudyError, match="another holder"):
        store.claim(mine, "me")
    other.close()


def test_trainings_are_added_all_or_none(store: Store) -> None:
    with pytest.raises(StudyError):
        store.add_trainings("baseline", [("relu(x)", 1, "test", None), ("x", 2, "test", 99)])
    assert store.trainings("baseline") == []


def test_a_reader_beside_a_writer_sees_the_latest(store: Store, tmp_path: Path) -> None:
    reader = Store.open(tmp_path, writable=False)
    fill(store, 2)
    assert len(reader.trials()) == 2
    assert len(Store.open(tmp_path, writable=False).trials()) == 2


def test_a_reader_changes_nothing(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.close()
    before = contents(tmp_path)
    assert set(before) == {DATABASE}
    reader = Store.open(tmp_path, writable=False)
    reader.trials()
    with pytest.raises(StudyError, match="readonly"):
        reader.set("a", 1)
    reader.close()
    assert contents(tmp_path) == before


def test_commits_survive_a_kill(tmp_path: Path) -> None:
    """A process writes, says so and is killed: what it said is there."""
    program = f"""
import os, pathlib
from actsearch.studies.records import Trial
from actsearch.studies.store import Store
store = Store.create(pathlib.Path({str(tmp_path)!r}), {{}})
for number in range(5):
    store.add_trial(Trial(number, number, "x"), [1])
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path.cwd(), check=False)
    assert done.returncode == -9
    assert (tmp_path / f"{DATABASE}-wal").exists()
    store = Store.open(tmp_path)
    assert len(store.trials()) == 5
    store.close()


# what is refused


def refused(tmp_path: Path, error: type[StudyError], match: str) -> None:
    before = contents(tmp_path)
    for writable in (False, True):
        with pytest.raises(error, match=match):
            Store.open(tmp_path, writable)
    assert contents(tmp_path) == before


def test_an_empty_directory_is_no_study(tmp_path: Path) -> None:
    refused(tmp_path, NotAStudy, "holds no study")
    with pytest.raises(NotAStudy):
        Store.open(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 50, b"SQLite format 3\0"])
def test_files_that_are_no_databases(content: bytes, tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(content)
    refused(tmp_path, DamagedStore, "not a database")


def test_somebody_elses_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE trials (a)")
        connection.commit()
    refused(tmp_path, NotAStudy, "not one of ActSearch")


def test_another_version(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 9")
    refused(tmp_path, WrongVersion, "has format 9, and this ActSearch reads format 3")


def test_another_version_that_was_killed(store: Store, tmp_path: Path) -> None:
    """The version is in the file's header, not only in the log beside it."""
    fill(store)
    assert (tmp_path / f"{DATABASE}-wal").exists()
    header = bytearray((tmp_path / DATABASE).read_bytes())
    header[60:64] = (7).to_bytes(4, "big")
    (tmp_path / DATABASE).write_bytes(header)
    refused(tmp_path, WrongVersion, "has format 7")


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("damage", ["noise", "zeros", "cut"])
def test_damage_anywhere_is_noticed(
    damage: str, place: float, store: Store, tmp_path: Path
) -> None:
    fill(store, 60)
    store.close()
    path = tmp_path / DATABASE
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    if damage == "cut":
        del data[start:]
    else:
        length = min(8192, len(data) - start)
        noise = hashlib.shake_256(b"noise").digest(length)
        data[start : start + length] = noise if damage == "noise" else bytes(length)
    path.write_bytes(data)
    refused(tmp_path, DamagedStore, "nothing was changed|not as written")


@pytest.mark.parametrize(
    ("old", "new"), [(b"x + 41", b"x + 14"), (b"[[1, 2.25]", b"[[1, 2.75]"), (b"done", b"gone")]
)
def test_a_changed_value_is_noticed(old: bytes, new: bytes, store: Store, tmp_path: Path) -> None:
    """Damage within a row leaves the database's structure sound; its checksum tells."""
    fill(store, 60)
    store.close()
    path = tmp_path / DATABASE
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    refused(tmp_path, DamagedStore, "not as written")


def test_missing_proposals_are_noticed(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("DELETE FROM trials WHERE number = 1")
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
    refused(tmp_path, DamagedStore, "proposals are missing")


def test_check_names_the_file(store: Store, tmp_path: Path) -> None:
    store.close()
    assert check(tmp_path) == tmp_path / DATABASE


# who may write


def test_two_processes_cannot_hold_a_run(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys
from actsearch.studies.run_directory import exclusive
with exclusive(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StudyIsRunning, match="another process"), exclusive(tmp_path):
            pass
        os.kill(holder.pid, 9)  # the lock dies with its holder
        holder.wait()
        with exclusive(tmp_path):
            pass


def test_within_one_process_too(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(StudyIsRunning), exclusive(tmp_path):
        pass


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(StudyError, match="cannot write"), exclusive(missing):
        pass
