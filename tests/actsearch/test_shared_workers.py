"""Workers that join a study by its database: same results, and a dead one costs only its trial."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actsearch.studies.joining import work
from actsearch.studies.leases import LeaseWatch
from actsearch.studies.records import Training
from actsearch.studies.shared_queue import SharedQueue
from actsearch.studies.store import Store
from actsearch.studies.study import Study, search
from tests.actsearch.postgres_server import postgres_url
from tests.actsearch.synthetic_study import begun, settings
from tests.actsearch.synthetic_task import NAME, read_log
from tests.actsearch.test_study import essence

CONFIG = {"task": {"name": NAME, "options": {}}, "device": "auto"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
    else:
        with postgres_url() as found:
            yield found


def test_a_shared_study_ends_as_any_other(url: str | None, tmp_path: Path) -> None:
    """Two worker processes, one of which is killed at work; the driver is a third."""
    options = {"trials": 12, "retest": 1}
    alone = search("swish", **settings(tmp_path / "alone", tmp_path / "log-alone", **options))
    run, log = tmp_path / "shared", tmp_path / "log"
    task = {"log": str(log), "delay": 0.05}
    shared = options | {"executor": "shared", "store": url, "task_options": task}
    found: list[Study] = []
    driver = threading.Thread(
        target=lambda: found.append(search("swish", **settings(run, log, **shared)))
    )
    where = [str(run)] if url is None else ["shared", "--store", url]
    command = [sys.executable, "-m", "actsearch", "worker", *where]
    driver.start()
    while not (run / "store.json").exists() and not (run / "study.db").exists():
        driver.join(0.01)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as doomed:
        while len(read_log(log)) < 3:
            driver.join(0.01)
        doomed.kill()
    store = Store.open(run)
    lost = [training for training, _ in store.running()]
    assert len(lost) <= 1
    for training in lost:  # what the watch does after a minute
        assert store.release(training, training.lease, lost=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as worker:
        driver.join()
        worker.wait()
    assert worker.returncode == 0
    assert essence(found[0]) == essence(alone)
    assert found[0].leaderboard() == alone.leaderboard()
    assert begun(log).total() == begun(tmp_path / "log-alone").total() + len(lost)
    store.drop()
    store.close()


def a_store(folder: Path, **task: object) -> tuple[Store, Store, list[Training]]:
    config = CONFIG | {"task": {"name": NAME, "options": task}}
    store = Store.create(folder, config)
    added = store.add_trainings("baseline", [(f"x + {n}", n, "validation", None) for n in range(3)])
    return store, Store.open(folder), added


def test_a_silent_worker_loses_its_lease_three_times_and_no_more(tmp_path: Path) -> None:
    """Then the training counts as failed, and what the worker says at last is refused."""
    store, other, (training, *_) = a_store(tmp_path)
    now = 0.0

    def asleep(seconds: float) -> None:
        nonlocal now
        now += 30
        other.claim_next("silent")

    finished: list[Training] = []
    queue = SharedQueue(store, finished.append, LeaseWatch(60, lambda: now), asleep)
    queue.put([training])
    silent = other.claim_next("silent")[0]
    queue.wait_for([training])
    assert training.state == "failed"
    assert training.reason == "the worker was lost (no heartbeat), 3 times"
    assert training.lease == 3
    assert finished == [training]
    from actsearch.tasks import ChildResult

    late = ChildResult(1.0, 0.0, "done", None, (), 0.1, 0, 1)
    assert not other.finish(silent, silent.lease, late)
    store.close()
    other.close()


def test_a_heart_that_beats_keeps_the_lease(tmp_path: Path) -> None:
    store, heart, _ = a_store(tmp_path, delay=0.3)
    counts: list[int] = []
    watcher = Store.open(tmp_path)

    def trained(training: Training) -> None:
        counts.append(training.id)
        if len(counts) == 3:
            store.set("status", "finished")

    thread = threading.Thread(target=work, args=(store, heart, "w", trained, 0.01))
    thread.start()
    most = 0
    while thread.is_alive():
        most = max([most, *(beats for _, beats in watcher.running())])
        thread.join(0.02)
    assert most >= 3
    assert len(counts) == 3
    for opened in (store, heart, watcher):
        opened.close()


def test_a_worker_that_is_interrupted_gives_its_training_back(tmp_path: Path) -> None:
    store, heart, _ = a_store(tmp_path)

    def stop(_: Training) -> None:
        store.claim_next("w", 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(store, heart, "w", stop)
    states = [training.state for training in store.trainings("baseline")]
    assert states == ["done", "pending", "pending"]
    store.close()
    heart.close()
