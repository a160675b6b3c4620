"""Leases, on SQLite and, where a server is installed, on PostgreSQL: one contract for both."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actsearch.grammar.errors import UsageError
from actsearch.studies.database import postgres_url as parse_url
from actsearch.studies.database import schema_name
from actsearch.studies.leases import LeaseWatch
from actsearch.studies.records import Trial
from actsearch.studies.run_directory import (
    POINTER,
    NotAStudy,
    RunExists,
    StudyError,
    StudyIsRunning,
    refuse_existing,
)
from actsearch.studies.store import Store, searched
from actsearch.tasks import ChildResult
from tests.actsearch.postgres_server import postgres_url

RESULT = ChildResult(0.1 + 0.2, 0.5, "done", None, ((1, 2.25), (20, 0.1)), 0.125, 11, 400)
FAILURE = ChildResult(None, None, "failed", "loss is nan", (), 0.125, 2**31 - 1, 400)

New = Callable[[], tuple[Path, Store]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_url() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[New]:
    """Makes stores, each in a run directory of its own."""
    made: list[Store] = []
    url = request.getfixturevalue("server") if request.param == "postgresql" else None

    def make() -> tuple[Path, Store]:
        folder = tmp_path / f"{request.node.name}-{len(made)}-{id(tmp_path)}"
        folder.mkdir()
        made.append(Store.create(folder, {"seed": 3}, url))
        return folder, made[-1]

    yield make
    for store in made:
        store.drop()
        store.close()


def wanted(count: int) -> list[tuple[str, int, str, int | None]]:
    return [(f"x + {n}", 2**31 - 1 - n, "validation", None) for n in range(count)]


def test_everything_is_read_back_as_it_was(new: New) -> None:
    run, store = new()
    trials = [Trial(0, 10**30, "x"), Trial(1, 5, "π·x", decision="exclude", exclusion="no")]
    store.add_trials([(trials[0], searched(trials[0], [1, 2])), (trials[1], [])])
    store.finish_all(
        [(t, store.claim(t, "w"), RESULT) for t in trials[0].trainings[:1]]
        + [(t, store.claim(t, "w"), FAILURE) for t in trials[0].trainings[1:]]
    )
    store.set("fact", {"a": [1.5, None, "ü"]})
    for writable in (False, True):
        other = Store.open(run, writable)
        assert other.trials() == trials
        assert other.config == {"seed": 3}
        assert other.get("fact") == {"a": [1.5, None, "ü"]}
        other.close()
    with pytest.raises(RunExists):
        refuse_existing(run)


def test_claims_are_in_order_and_nobody_gets_one_twice(new: New) -> None:
    _, store = new()
    added = store.add_trainings("baseline", wanted(5))
    first, second = store.claim_next("a", 2), store.claim_next("b", 9)
    assert [t.id for t in first + second] == [t.id for t in added]
    assert {t.worker for t in first} == {"a"}
    assert all(t.lease == 1 and t.state == "running" for t in first + second)
    assert store.claim_next("c") == []
    assert [t for t, _ in store.running()] == first + second


def test_results_of_many_workers_in_one_transaction(new: New) -> None:
    """Late ones among them are refused, each for itself."""
    _, store = new()
    store.add_trainings("baseline", wanted(3))
    held = store.claim_next("a", 3)
    late = held[1].lease
    assert store.release(held[1], late, lost=True)
    again = store.claim_next("b", 1)[0]
    assert (again.id, again.lease, again.losses) == (held[1].id, late + 1, 1)
    done = store.finish_all([(held[0], 1, RESULT), (held[1], late, RESULT), (held[2], 1, FAILURE)])
    assert done == [True, False, True]
    assert store.finish_all([(held[0], 1, FAILURE)]) == [False], "a result is final"
    assert [t.state for t in store.trainings("baseline")] == ["done", "running", "failed"]
    assert store.finish(again, again.lease, RESULT)
    assert store.trainings("baseline")[1].metric == 0.1 + 0.2


def test_claims_are_all_or_none(new: New) -> None:
    run, store = new()
    one, two = store.add_trainings("baseline", wanted(2))
    other = Store.open(run)
    theirs = other.claim_next("other", 1)[0]
    with pytest.raises(StudyError, match="another holder"):
        store.claim_all([(two, "me"), (one, "me")])
    assert (one.state, two.state) == ("pending", "pending")
    assert [t.state for t in other.trainings("baseline")] == ["running", "pending"]
    store.refresh([one, two])
    assert one == theirs
    other.close()


def test_heartbeats_tell_a_worker_what_it_has_lost(new: New) -> None:
    _, store = new()
    store.add_trainings("baseline", wanted(2))
    one, two = store.claim_next("a", 2)
    assert store.beat([(one.id, 1), (two.id, 1)]) == [one.id, two.id]
    store.release(two, 1, lost=True)
    store.claim_next("b")
    assert store.beat([(one.id, 1), (two.id, 1)]) == [one.id]
    assert [(t.id, beats) for t, beats in store.running()] == [(one.id, 2), (two.id, 1)]


def test_many_processes_worth_of_claims_at_once(new: New) -> None:
    """Threads with connections of their own: every training is finished once, by its claimant."""
    run, store = new()
    store.add_trainings("baseline", wanted(120))
    taken: list[int] = []

    def work(name: str) -> None:
        mine = Store.open(run)
        while claimed := mine.claim_next(name, 3):
            assert all(mine.finish_all([(t, t.lease, RESULT) for t in claimed]))
            taken.extend(t.id for t in claimed)
        mine.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Counter(taken).values()) == {1}
    assert len(taken) == 120
    assert {t.state for t in store.trainings("baseline")} == {"done"}


@contextmanager
def held_by(store: Store) -> Iterator[None]:
    store.hold()
    try:
        yield
    finally:
        store.close()


def test_postgresql_has_one_driver(server: str, tmp_path: Path) -> None:
    run = tmp_path / "one-driver"
    run.mkdir()
    first = Store.create(run, {}, server)
    with held_by(first):
        second = Store.open(run)
        with pytest.raises(StudyIsRunning, match="another process"):
            second.hold()
    with held_by(second):
        assert second.get("config") == {}
    second.drop()
    second.close()
    with pytest.raises(NotAStudy):
        Store.open(run)


def test_postgresql_keeps_studies_apart(server: str, tmp_path: Path) -> None:
    one, two = tmp_path / "One study", tmp_path / "other"
    for folder in (one, two):
        folder.mkdir()
    first, second = Store.create(one, {"a": 1}, server), Store.create(two, {"a": 2}, server)
    assert (first.config["a"], second.config["a"]) == (1, 2)
    (two / POINTER).unlink()
    with pytest.raises(RunExists, match="exists already"):
        Store.create(two, {}, server)
    assert not (two / POINTER).exists()
    assert ((one / POINTER).stat().st_mode & 0o777) == 0o600
    for store in (first, second):
        store.drop()
        store.close()


def test_passwords_are_not_shown() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StudyError) as caught:
        Store.join("postgresql://me:geheim@127.0.0.1:1/db", "actsearch_x")
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite:///file"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="postgresql://"):
        parse_url(url)


@given(st.text())
def test_schema_names_are_plain(name: str) -> None:
    schema = schema_name(name)
    assert schema.isascii()
    assert schema.replace("_", "").isalnum()
    assert len(schema.encode()) < 63, "PostgreSQL would cut it"


# expiry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_expires_without_heartbeats() -> None:
    clock = Clock()
    watch = LeaseWatch(10, clock)
    assert watch.expired([(1, 1, 0), (2, 1, 0)]) == []
    clock.now = 9.5
    assert watch.expired([(1, 1, 0), (2, 1, 1)]) == []
    clock.now = 10.0
    assert watch.expired([(1, 1, 0), (2, 1, 1)]) == [1]
    assert watch.expired([(1, 2, 0), (2, 1, 1)]) == [], "a new lease begins anew"
    clock.now = 19.5
    assert watch.expired([(1, 2, 0), (2, 1, 1)]) == [2]


@given(st.lists(st.tuples(st.floats(0, 9.99), st.booleans()), max_size=40))
def test_a_holder_that_beats_in_time_keeps_its_lease(steps: list[tuple[float, bool]]) -> None:
    """However often the observer looks; a silent one loses it when its time is up, not before."""
    clock, beats, silent_since = Clock(), 0, 0.0
    watch = LeaseWatch(10, clock)
    watch.expired([(7, 1, 0)])
    for seconds, beat in steps:
        clock.now += seconds
        beats += beat
        silent_since = clock.now if beat else silent_since
        lost = watch.expired([(7, 1, beats)])
        assert lost == ([7] if clock.now - silent_since >= 10 else [])
