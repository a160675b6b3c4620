"""The store: every candidate, every training and the driver's state, in one database.

Writes are transactions that are on disk when they return. A training is claimed under a lease
whose number grows with each claim; a result under an old lease is refused. Each row carries a
checksum, so a damaged value is noticed rather than believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, Table

from actsearch.studies import schema
from actsearch.studies.database import PostgreSQL, SQLite, new_sqlite, schema_name
from actsearch.studies.records import STAGES, Training, Trial
from actsearch.studies.run_directory import (
    DATABASE,
    POINTER,
    DamagedStore,
    StudyError,
    check,
    put_in_place,
)
from actsearch.studies.schema import sealed

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult

    Result = tuple[Training, int, ChildResult]

BATCH = 500
"""Rows that one statement names."""

Wanted = tuple[str, int, str, int | None]
"""A training to be added: expression, seed, split, trial."""


class Store:
    """A study's database. `Store.create` begins one, `Store.open` goes on with one or reads it."""

    def __init__(self, database: SQLite | PostgreSQL) -> None:
        self._database = database

    @classmethod
    def create(
        cls, run: Path, config: Mapping[str, Any], url: str | None = None, **facts: Any
    ) -> Store:
        """Begin a study.

        Args:
            run: the run directory.
            config: what it is started with, as plain data.
            **facts: others about the whole study, for `get`.
            url: of a PostgreSQL database; the run directory then holds only where the study is.

        Raises:
            StudyError: there is a study already, or the place cannot be used.
        """
        known = {"config": dict(config), **facts}
        rows = [sealed(schema.META, {"key": key, "value": fact}) for key, fact in known.items()]
        if url is None:
            with new_sqlite(run / DATABASE) as connection:
                connection.execute(schema.ADD_FACT, rows)
            return cls.open(run)
        database = PostgreSQL(url, schema_name(run.resolve().name))
        with _closed_on_error(database), database.writing() as connection:
            database.create(connection)
            connection.execute(schema.ADD_FACT, rows)
            _write_pointer(run / POINTER, {"url": url, "schema": database.schema})
        return cls(database)

    @classmethod
    def open(cls, run: Path, writable: bool = True) -> Store:
        """The study of a run directory.

        Raises:
            NotAStudy, WrongVersion, DamagedStore: nothing has been changed.
        """
        if (run / POINTER).exists():
            where = _read_pointer(run / POINTER)
            reader = cls.join(where["url"], where["schema"], kept=writable)
        else:
            path = check(run)
            reader = cls(SQLite(path, writable=False))
        with _closed_on_error(reader):
            reader.trials()
            for stage in STAGES:
                reader.trainings(stage)
        if not writable or isinstance(reader._database, PostgreSQL):
            return reader
        reader.close()
        return cls(SQLite(path, writable=True))

    @classmethod
    def join(cls, url: str, schema: str, kept: bool = True) -> Store:
        """The study in a schema of a PostgreSQL database.

        Raises:
            NotAStudy, WrongVersion: there is none, or none of this version.
        """
        database = PostgreSQL(url, schema, kept)
        with _closed_on_error(database):
            database.check()
        return cls(database)

    def hold(self) -> None:
        """Be the study's only driver; for SQLite the run directory's lock says so.

        Raises:
            StudyIsRunning: another process is.
        """
        if isinstance(self._database, PostgreSQL):
            self._database.hold()

    def drop(self) -> None:
        """Delete the study from a PostgreSQL database, with all that is in it."""
        if isinstance(self._database, PostgreSQL):
            self._database.drop()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @property
    def label(self) -> str:
        """Where the study is, for people: a path, or a URL without its password."""
        return self._database.label

    # facts about the whole study

    @property
    def config(self) -> dict[str, Any]:
        """What the study was started with."""
        return dict(self.get("config"))

    def get(self, key: str, default: Any = None) -> Any:
        """A fact about the study."""
        with self._reading() as connection:
            for row in self._rows(connection, schema.META, schema.GET, wanted=key):
                return row["value"]
        return default

    def set(self, key: str, value: Any) -> None:
        """Record a fact about the study."""
        row = sealed(schema.META, {"key": key, "value": value})
        with self._writing() as connection:
            connection.execute(schema.FORGET, {"wanted": key})
            connection.execute(schema.ADD_FACT, row)

    # trials

    def trials(self) -> list[Trial]:
        """Every proposal, in order, with its trainings of the search."""
        found: list[Trial] = []
        with self._reading() as connection:
            for row in self._rows(connection, schema.TRIALS, schema.ALL_TRIALS):
                if row["number"] != len(found):
                    raise DamagedStore(f"{self.label} is damaged: proposals are missing")
                source = row.pop("source")
                found.append(
                    Trial(
                        exclusion=row.pop("reason"),
                        source=None if source is None else found[source],
                        **row | {"index": int(row["index"])},
                    )
                )
            for training in self._trainings(connection, "search"):
                found[training.trial or 0].trainings.append(training)
        return found

    def add_trial(self, trial: Trial, seeds: Sequence[int] = ()) -> None:
        """Record a proposal, and a training on the validation split for each of the seeds."""
        self.add_trials([(trial, searched(trial, seeds))])

    def add_trials(self, trials: Sequence[tuple[Trial, Sequence[Training]]]) -> None:
        """Record proposals, each with its trainings, in one transaction."""
        with self._writing() as connection:
            for trial, trainings in trials:
                row = {
                    "number": trial.number,
                    "index": str(trial.index),
                    "expression": trial.expression,
                    "decision": trial.decision,
                    "source": None if trial.source is None else trial.source.number,
                    "certificate": trial.certificate,
                    "reason": trial.exclusion,
                    "baseline": trial.baseline,
                }
                connection.execute(schema.ADD_TRIAL, sealed(schema.TRIALS, row))
                self._add(connection, trainings)
                trial.trainings.extend(trainings)

    # trainings

    def trainings(self, stage: str) -> list[Training]:
        """The trainings of a stage, in the order in which they were added."""
        with self._reading() as connection:
            return list(self._trainings(connection, stage))

    def _trainings(self, connection: Connection, stage: str) -> Iterator[Training]:
        for row in self._rows(connection, schema.TRAININGS, schema.OF_STAGE, wanted=stage):
            yield _training(row)

    def add_trainings(self, stage: str, wanted: Sequence[Wanted]) -> list[Training]:
        """Add trainings (expression, seed, split, trial) to a stage: all of them or none."""
        added = [
            Training(0, stage, trial, expression, seed, split)
            for expression, seed, split, trial in wanted
        ]
        with self._writing() as connection:
            self._add(connection, added)
        return added

    def promote(self, trial: Trial, trainings: Sequence[Training]) -> None:
        """Add trainings to a trial that is recorded already."""
        with self._writing() as connection:
            self._add(connection, trainings)
        trial.trainings.extend(trainings)

    @staticmethod
    def _add(connection: Connection, trainings: Iterable[Training]) -> None:
        for training in trainings:
            row = sealed(schema.TRAININGS, vars(training))
            del row["id"]  # the database numbers them
            key = connection.execute(schema.ADD_TRAINING, row).inserted_primary_key
            training.id = int(key[0])  # type: ignore[index]

    # leases

    def claim(self, training: Training, worker: str) -> int:
        """Give a training to a worker; returns the number of its lease."""
        return self.claim_all([(training, worker)])[0]

    def claim_all(self, claims: Sequence[tuple[Training, str]]) -> list[int]:
        """Give trainings to workers in one transaction; returns the numbers of their leases.

        Raises:
            StudyError: one of them has another holder; none has been claimed then.
        """
        self.finish_and_claim([], claims)
        return [training.lease for training, _ in claims]

    def finish_and_claim(
        self, results: Sequence[Result], claims: Sequence[tuple[Training, str]]
    ) -> list[bool]:
        """`finish_all` and `claim_all` in one transaction: what each change costs is its commit.

        Raises:
            StudyError: a training has another holder; nothing has been changed then.
        """
        ended = [(training, lease, _facts(result)) for training, lease, result in results]
        begun = [
            (training, training.lease, _claim(training, worker)) for training, worker in claims
        ]
        with self._writing() as connection:
            accepted = self._change(connection, "running", ended)
            for (training, _), held in zip(
                claims, self._change(connection, "pending", begun), strict=True
            ):
                if not held:
                    raise StudyError(f"training {training.id} in {self.label} has another holder")
        _apply(ended, accepted)
        _apply(begun, [True] * len(begun))
        return accepted

    def claim_next(self, worker: str, most: int = 1) -> list[Training]:
        """Claim the first trainings that nobody holds; any number of processes may call it.

        Args:
            worker: who claims them.
            most: how many at a time.

        Returns:
            The trainings, under fresh leases; fewer than `most`, or none, where there are no more.
        """
        return self.exchange([], worker, most)[1]

    def exchange(
        self, results: Sequence[Result], worker: str, most: int = 1
    ) -> tuple[list[bool], list[Training]]:
        """`finish_all` and `claim_next` in one transaction, as a worker wants it.

        Returns:
            For each result whether it was accepted, and the trainings that are claimed.
        """
        ended = [(training, lease, _facts(result)) for training, lease, result in results]
        with self._writing() as connection:
            accepted = self._change(connection, "running", ended)
            rows = self._rows(connection, schema.TRAININGS, schema.PENDING, most=most)
            free = [_training(row) for row in rows]
            begun = [(training, training.lease, _claim(training, worker)) for training in free]
            self._write(connection, begun)
        _apply(ended, accepted)
        _apply(begun, [True] * len(begun))
        return accepted, free

    def release(self, training: Training, lease: int, lost: bool = False) -> bool:
        """Take a training back from its worker; `lost` when the worker died on it.

        Returns:
            False where the lease is not the current one: nothing has been changed then.
        """
        values = {"state": "pending", "worker": None, "losses": training.losses + lost}
        return self._change_held([(training, lease, values)])[0]

    def finish(self, training: Training, lease: int, result: ChildResult) -> bool:
        """Record the result of a training.

        Returns:
            False where the lease is not the current one: nothing has been changed then.
        """
        return self.finish_all([(training, lease, result)])[0]

    def finish_all(self, results: Sequence[Result]) -> list[bool]:
        """Record the results of several trainings in one transaction.

        Returns:
            For each, False where its lease is not the current one: it has been left as it was.
        """
        return self.finish_and_claim(results, [])

    def beat(self, held: Collection[tuple[int, int]]) -> list[int]:
        """Say that the holder of these trainings (id, lease) is alive; returns which it holds."""
        rows = [{"row_id": number, "row_lease": lease} for number, lease in sorted(held)]
        with self._writing() as connection:
            return [row["row_id"] for row in rows if connection.execute(schema.BEAT, row).rowcount]

    def running(self) -> list[tuple[Training, int]]:
        """What is in training, each with the number of its holder's heartbeats."""
        with self._reading() as connection:
            rows = list(self._rows(connection, schema.TRAININGS, schema.RUNNING))
        return [(_training(row), row["beat"]) for row in rows]

    def refresh(self, trainings: Collection[Training]) -> None:
        """Bring trainings up to what other processes have recorded of them."""
        with self._reading() as connection:
            for some in _batches(list(trainings)):
                ids = {training.id: training for training in some}
                for row in self._rows(connection, schema.TRAININGS, schema.BY_ID, wanted=list(ids)):
                    vars(ids[row["id"]]).update(vars(_training(row)))

    def _change_held(self, changes: Sequence[tuple[Training, int, dict[str, Any]]]) -> list[bool]:
        with self._writing() as connection:
            done = self._change(connection, "running", changes)
        _apply(changes, done)
        return done

    def _change(
        self,
        connection: Connection,
        state: str,
        changes: Sequence[tuple[Training, int, dict[str, Any]]],
    ) -> list[bool]:
        """Write values to the rows that are in this state under these leases."""
        if len(changes) == 1:  # the usual case takes one statement
            [(training, lease, values)] = changes
            row = _row(training, values) | {"row_lease": lease, "row_state": state}
            return [connection.execute(schema.CHANGE_HELD, row).rowcount == 1]
        current: dict[int, tuple[int, str]] = {}
        for some in _batches([training.id for training, _, _ in changes]):
            for number, lease, held_in in connection.execute(schema.HELD, {"wanted": some}):
                current[number] = (lease, held_in)
        done = [current.get(training.id) == (lease, state) for training, lease, _ in changes]
        self._write(connection, [c for c, held in zip(changes, done, strict=True) if held])
        return done

    @staticmethod
    def _write(
        connection: Connection, changes: Iterable[tuple[Training, int, dict[str, Any]]]
    ) -> None:
        """Write values to rows that are known to be as they are in memory."""
        rows = [_row(training, values) for training, _, values in changes]
        if rows:
            connection.execute(schema.CHANGE, rows)

    # rows

    def _rows(
        self, connection: Connection, table: Table, query: Select[Any], **values: Any
    ) -> Iterator[dict[str, Any]]:
        """Rows without their checksum, which is compared first."""
        for found in connection.execute(query, values).mappings():
            row = dict(found)
            if sealed(table, row)["checksum"] != row.pop("checksum"):
                raise DamagedStore(
                    f"{self.label} is damaged: a row of {table.name} is not as written"
                )
            yield row

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.writing() as connection:
            yield connection


@contextmanager
def _closed_on_error(opened: Store | SQLite | PostgreSQL) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise


def searched(
    trial: Trial, seeds: Iterable[int], rung: int = 0, budget: int | None = None
) -> list[Training]:
    """Trainings of a trial on the validation split, one for each of the seeds."""
    return [
        Training(
            0, "search", trial.number, trial.expression, seed, "validation", rung=rung,
            budget=budget,
        )
        for seed in seeds
    ]  # fmt: skip


def _training(row: Mapping[str, Any]) -> Training:
    return Training(**{name: value for name, value in row.items() if name != "beat"})


def _row(training: Training, values: Mapping[str, Any]) -> dict[str, Any]:
    """A training's row with these values changed."""
    row = sealed(schema.TRAININGS, {**vars(training), **values})
    row["row_id"] = row.pop("id")
    return row


def _apply(changes: Iterable[tuple[Training, int, dict[str, Any]]], done: Iterable[bool]) -> None:
    """Once it is on disk, let the trainings in memory say so."""
    for (training, _, values), changed in zip(changes, done, strict=True):
        if changed:
            vars(training).update(values)


def _facts(result: ChildResult) -> dict[str, Any]:
    """What a result says of its training."""
    return {
        "state": result.status,
        "metric": result.metric,
        "loss": result.loss,
        "seconds": result.seconds,
        "steps": result.steps,
        "curve": [list(point) for point in result.curve],
        "reason": result.reason,
    }


def _claim(training: Training, worker: str) -> dict[str, Any]:
    """What a claim says of it."""
    return {"state": "running", "worker": worker, "lease": training.lease + 1}


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def _write_pointer(path: Path, where: Mapping[str, str]) -> None:
    """Durably, and for this user alone: a URL may hold a password."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(where, file)
        file.flush()
        os.fsync(file.fileno())
    put_in_place(temporary, path)


def _read_pointer(path: Path) -> dict[str, str]:
    try:
        where = json.loads(path.read_text(encoding="utf-8"))
        return {"url": str(where["url"]), "schema": str(where["schema"])}
    except (ValueError, KeyError, TypeError):
        raise DamagedStore(f"{path} does not say where the study is") from None
