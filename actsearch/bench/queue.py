"""How many trainings a second can be handed out and recorded, each of them safe on the disk.

A pair is one claim under a lease and one recorded result, in the size of a real one (a curve of 20
points). A transaction is on the disk when it returns: WAL with synchronous=FULL on SQLite,
synchronous_commit on PostgreSQL. As a worker does it, a result and the claim of what comes next
share one; `batch` is how many of them do: those of as many workers, whose results come together.
The floor is Optuna's ask and tell on its storage of the same kind, in the same run on the same
disk; where Optuna is not installed there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsearch.counts import positive

if TYPE_CHECKING:
    from actsearch.studies.store import Store

BATCHES = (1, 8, 64)
ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `actsearch bench queue` takes."""
    parser.add_argument("--pairs", type=positive, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (default: here)")
    parser.add_argument("--store", metavar="URL", help="of a PostgreSQL database to measure, too")


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Pairs a second by storage and batch.

    Returns:
        case; ours and floor: pairs a second, the median of three rounds; ratio: ours/floor; low
        and high: of our rounds; commits: plain SQLite commits a second on this disk just before,
        each an fsync, of which a pair alone needs one.
    """
    folder = arguments.folder or Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".actsearch-bench-", dir=folder) as scratch:
        floors = _optuna(Path(scratch), min(arguments.pairs, 300))
        rows = []
        for batch in BATCHES:
            commits = _commits(Path(scratch))
            rates = [_pairs(_sqlite(Path(scratch)), arguments.pairs, batch) for _ in range(ROUNDS)]
            for floor_name, floor in floors.items():
                case = f"SQLite, {batch} a transaction, against {floor_name}"
                rows.append(_row(case, rates, floor) | {"commits": round(commits)})
            if arguments.store:
                rates = [
                    _pairs(_postgres(Path(scratch), arguments.store), arguments.pairs, batch)
                    for _ in range(ROUNDS)
                ]
                rows.append(_row(f"PostgreSQL, {batch} a transaction", rates, None))
    return rows


def _row(case: str, rates: list[float], floor: float | None) -> dict[str, Any]:
    low, ours, high = sorted(rates)
    return {
        "case": case,
        "ours": round(ours),
        "floor": None if floor is None else round(floor),
        "ratio": None if floor is None else round(ours / floor, 1),
        "low": round(low),
        "high": round(high),
    }


def _pairs(opened: Any, pairs: int, batch: int) -> float:
    """Pairs a second of one worker that claims and records so many at a time."""
    from actsearch.tasks import ChildResult

    curve = tuple((20 * k, 2.25 / k) for k in range(1, 21))
    result = ChildResult(0.75, 0.5, "done", None, curve, 0.25, 11, 400)
    with opened as store:
        wanted = [("x*sigmoid(beta*x)", seed, "validation", None) for seed in range(pairs)]
        store.add_trainings("baseline", wanted)
        start = time.perf_counter()
        done = 0
        claimed = store.claim_next("bench", batch)
        while claimed:
            results = [(training, training.lease, result) for training in claimed]
            accepted, claimed = store.exchange(results, "bench", batch)
            done += sum(accepted)
        seconds = time.perf_counter() - start
    if done != pairs:
        raise AssertionError(f"{done} of {pairs} results were recorded")
    return pairs / seconds


@contextmanager
def _sqlite(scratch: Path) -> Iterator[Store]:
    from actsearch.studies.store import Store

    folder = scratch / uuid.uuid4().hex
    folder.mkdir()
    store = Store.create(folder, {})
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _postgres(scratch: Path, url: str) -> Iterator[Store]:
    from actsearch.studies.store import Store

    folder = scratch / f"bench-{uuid.uuid4().hex}"
    folder.mkdir()
    store = Store.create(folder, {}, url)
    try:
        yield store
    finally:
        store.drop()
        store.close()


def _commits(scratch: Path) -> float:
    """Commits a second of SQLite itself, from C as good as directly."""
    import sqlite3

    path = scratch / f"{uuid.uuid4().hex}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE numbers (number INTEGER)")
    start = time.perf_counter()
    for number in range(300):
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    seconds = time.perf_counter() - start
    connection.close()
    return 300 / seconds


def _optuna(scratch: Path, pairs: int) -> dict[str, float | None]:
    """Pairs a second of Optuna's storages, each asked and told from one process."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        hint = "Optuna is not installed (pip install optuna): its storages are left out"
        print(hint, file=sys.stderr)
        return {"nothing": None}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds: dict[str, Callable[[], Any]] = {
        "Optuna's SQLite": lambda: optuna.storages.RDBStorage(f"sqlite:///{scratch}/optuna.db"),
        "Optuna's journal": lambda: optuna.storages.JournalStorage(
            JournalFileBackend(os.fspath(scratch / "optuna.log"))
        ),
    }
    found: dict[str, float | None] = {}
    for name, make in kinds.items():
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=make(), sampler=sampler)
        rates = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(pairs // ROUNDS):
                study.tell(study.ask(), 0.75)
            rates.append((pairs // ROUNDS) / (time.perf_counter() - start))
        found[name] = sorted(rates)[ROUNDS // 2]
    return found
