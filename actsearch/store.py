"""The store: every candidate, every training and the driver's state, in one SQLite database.

Writes are transactions that are on disk when they return (WAL, synchronous=FULL). A training is
claimed under a lease whose number grows with each claim; a result under an old lease is refused.
Each row carries a checksum, so a damaged value is noticed rather than believed.
"""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool, StaticPool

from actsearch.run_directory import (
    APPLICATION_ID,
    DATABASE,
    SCHEMA_VERSION,
    DamagedStore,
    StudyError,
    check,
    put_in_place,
    read_only,
)

if TYPE_CHECKING:
    from actsearch.tasks import ChildResult

STAGES = ("baseline", "search", "retest")
TRIAL_STATES = ("pending", "running", "done", "failed", "reused", "excluded")

_METADATA = MetaData()

_META = Table(
    "meta",
    _METADATA,
    Column("key", String, primary_key=True),
    Column("value", JSON(none_as_null=True)),
    Column("checksum", Integer, nullable=False),
)
_TRIALS = Table(
    "trials",
    _METADATA,
    Column("number", Integer, primary_key=True),  # the order of proposal
    Column("index", String, nullable=False),  # decimal: spaces outgrow 64 bits
    Column("expression", String, nullable=False),
    Column("decision", String, nullable=False),  # train, reuse or exclude
    Column("source", Integer, ForeignKey("trials.number")),  # whose reward is reused
    Column("certificate", String),  # why the source is the same function
    Column("reason", String),  # why it is excluded
    Column("checksum", Integer, nullable=False),
)
_TRAININGS = Table(
    "trainings",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("stage", String, nullable=False),
    Column("trial", Integer, ForeignKey("trials.number")),  # null for a baseline
    Column("expression", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("split", String, nullable=False),
    Column("state", String, nullable=False),
    Column("lease", Integer, nullable=False),  # grows with each claim: the fencing token
    Column("losses", Integer, nullable=False),  # workers that died on it
    Column("worker", String),
    Column("metric", Float),
    Column("loss", Float),
    Column("seconds", Float),
    Column("steps", Integer),
    Column("curve", JSON(none_as_null=True)),
    Column("reason", String),
    Column("checksum", Integer, nullable=False),
    Index("trainings_by_trial", "trial"),
)


@dataclass
class Training:
    """One child network, trained or to be trained: a row of the store.

    Attributes are those of the table; `curve` is a list of (step, training loss).
    """

    id: int
    stage: str
    trial: int | None
    expression: str
    seed: int
    split: str
    state: str = "pending"
    lease: int = 0
    losses: int = 0
    worker: str | None = None
    metric: float | None = None
    loss: float | None = None
    seconds: float | None = None
    steps: int | None = None
    curve: list[list[float]] | None = None
    reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it needs no worker any more."""
        return self.state in ("done", "failed")


@dataclass
class Trial:
    """One proposal of the driver: a row of the store, with the trainings that it took.

    Attributes:
        number: its place in the order of proposal.
        index: its position in the space.
        expression: its text.
        decision: "train", "reuse" (of an equivalent trial's reward) or "exclude".
        source: the earlier trial whose reward it reuses.
        certificate: why the two are the same function.
        exclusion: why it is excluded.
        trainings: one for each seed.
    """

    number: int
    index: int
    expression: str
    decision: str = "train"
    source: Trial | None = None
    certificate: str | None = None
    exclusion: str | None = None
    trainings: list[Training] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One of `TRIAL_STATES`."""
        if self.decision != "train":
            return {"reuse": "reused", "exclude": "excluded"}[self.decision]
        states = {training.state for training in self.trainings}
        if states <= {"done", "failed"}:
            return "failed" if "failed" in states else "done"
        return "running" if "running" in states else "pending"

    @property
    def reward(self) -> float | None:
        """Mean metric of its trainings, or of its source's; None where it failed or is not done."""
        if self.source is not None:
            return self.source.reward
        return mean_of(self.trainings, "metric") if self.state == "done" else None

    @property
    def loss(self) -> float | None:
        """Mean loss of its trainings, or of its source's."""
        if self.source is not None:
            return self.source.loss
        return mean_of(self.trainings, "loss") if self.state == "done" else None

    @property
    def reason(self) -> str | None:
        """Why it has no reward."""
        if self.source is not None:
            return self.source.reason
        return self.exclusion or next((t.reason for t in self.trainings if t.reason), None)

    @property
    def finished(self) -> bool:
        """Whether no training of its own has to be waited for."""
        return all(training.finished for training in self.trainings)


def mean_of(trainings: Sequence[Training], attribute: str) -> float | None:
    """Mean over the trainings that have this value, summed exactly."""
    values = [value for t in trainings if (value := getattr(t, attribute)) is not None]
    return math.fsum(values) / len(values) if values else None


class Store:
    """A study's database. `Store.create` begins one, `Store.open` goes on with one or reads it."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    def create(cls, run: Path, config: Mapping[str, Any]) -> Store:
        """Begin a study: the file appears under its name when it is whole."""
        path, temporary = run / DATABASE, run / f"{DATABASE}.new"
        with _explained(path):
            temporary.unlink(missing_ok=True)
            engine = _writing_engine(temporary, "DELETE")  # the header belongs into the file
            with engine.begin() as connection:
                _METADATA.create_all(connection)
                row = _sealed(_META, {"key": "config", "value": config})
                connection.execute(insert(_META), row)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
            engine.dispose()
            put_in_place(temporary, path)
        return cls.open(run)

    @classmethod
    def open(cls, run: Path, writable: bool = True) -> Store:
        """The study of a run directory.

        Raises:
            NotAStudy, WrongVersion, DamagedStore: nothing has been changed.
        """
        path = check(run)
        reader = cls(path, _reading_engine(path))
        reader.trials()
        for stage in STAGES:
            reader.trainings(stage)
        return cls(path, _writing_engine(path, "WAL")) if writable else reader

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    # facts about the whole study

    @property
    def config(self) -> dict[str, Any]:
        """What the study was started with."""
        return dict(self.get("config"))

    def get(self, key: str, default: Any = None) -> Any:
        """A fact about the study."""
        with self._reading() as connection:
            for row in self._rows(connection, select(_META).where(_META.c.key == key)):
                return row["value"]
        return default

    def set(self, key: str, value: Any) -> None:
        """Record a fact about the study."""
        row = _sealed(_META, {"key": key, "value": value})
        with self._writing() as connection:
            connection.execute(delete(_META).where(_META.c.key == key))
            connection.execute(insert(_META), row)

    # trials

    def trials(self) -> list[Trial]:
        """Every proposal, in order, with its trainings of the search."""
        found: list[Trial] = []
        with self._reading() as connection:
            for row in self._rows(connection, select(_TRIALS).order_by(_TRIALS.c.number)):
                if row["number"] != len(found):
                    raise DamagedStore(f"{self.path} is damaged: proposals are missing")
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
        row = {
            "number": trial.number,
            "index": str(trial.index),
            "expression": trial.expression,
            "decision": trial.decision,
            "source": None if trial.source is None else trial.source.number,
            "certificate": trial.certificate,
            "reason": trial.exclusion,
        }
        wanted = [(trial.expression, seed, "validation", trial.number) for seed in seeds]
        with self._writing() as connection:
            connection.execute(insert(_TRIALS), _sealed(_TRIALS, row))
            trial.trainings.extend(self._add(connection, "search", wanted))

    # trainings

    def trainings(self, stage: str) -> list[Training]:
        """The trainings of a stage, in the order in which they were added."""
        with self._reading() as connection:
            return list(self._trainings(connection, stage))

    def _trainings(self, connection: Connection, stage: str) -> Iterator[Training]:
        wanted = select(_TRAININGS).where(_TRAININGS.c.stage == stage).order_by(_TRAININGS.c.id)
        for row in self._rows(connection, wanted):
            yield Training(**row)

    def add_trainings(
        self, stage: str, wanted: Sequence[tuple[str, int, str, int | None]]
    ) -> list[Training]:
        """Add trainings (expression, seed, split, trial) to a stage: all of them or none."""
        with self._writing() as connection:
            return list(self._add(connection, stage, wanted))

    def _add(
        self,
        connection: Connection,
        stage: str,
        wanted: Sequence[tuple[str, int, str, int | None]],
    ) -> Iterator[Training]:
        for expression, seed, split, trial in wanted:
            training = Training(0, stage, trial, expression, seed, split)
            row = _sealed(_TRAININGS, vars(training))
            del row["id"]  # the database numbers them
            key = connection.execute(insert(_TRAININGS), row).inserted_primary_key
            training.id = int(key[0])  # type: ignore[index]
            yield training

    def claim(self, training: Training, worker: str) -> int:
        """Give a training to a worker; returns the number of its lease."""
        lease = training.lease + 1
        values = {"state": "running", "worker": worker, "lease": lease}
        if not self._change(training, training.lease, values):
            raise StudyError(f"training {training.id} in {self.path} has another holder")
        return lease

    def release(self, training: Training, lease: int, lost: bool = False) -> bool:
        """Take a training back from its worker; `lost` when the worker died on it.

        Returns:
            False where the lease is not the current one: nothing has been changed then.
        """
        values = {"state": "pending", "worker": None, "losses": training.losses + lost}
        return self._change(training, lease, values)

    def finish(self, training: Training, lease: int, result: ChildResult) -> bool:
        """Record the result of a training.

        Returns:
            False where the lease is not the current one: nothing has been changed then.
        """
        values = {
            "state": result.status,
            "metric": result.metric,
            "loss": result.loss,
            "seconds": result.seconds,
            "steps": result.steps,
            "curve": [list(point) for point in result.curve],
            "reason": result.reason,
        }
        return self._change(training, lease, values)

    def _change(self, training: Training, lease: int, values: dict[str, Any]) -> bool:
        """Write values to a training's row, while it is held under this lease, and to itself."""
        held = (_TRAININGS.c.id == training.id) & (_TRAININGS.c.lease == lease)
        row = _sealed(_TRAININGS, vars(training) | values)
        with self._writing() as connection:
            changed = connection.execute(update(_TRAININGS).where(held).values(row)).rowcount
        if changed:
            vars(training).update(values)
        return bool(changed)

    # rows

    def _rows(self, connection: Connection, wanted: Select[Any]) -> Iterator[dict[str, Any]]:
        """Rows without their checksum, which is compared first."""
        table = wanted.get_final_froms()[0]
        for found in connection.execute(wanted).mappings():
            row = dict(found)
            if _sealed(table, row)["checksum"] != row.pop("checksum"):
                raise DamagedStore(f"{self.path} is damaged: a row of {table} is not as written")
            yield row

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _explained(self.path), self._engine.begin() as connection:
            yield connection

    _writing = _reading


def _sealed(table: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a checksum over everything but the key that the database chose."""
    names = [column.name for column in table.columns if column.name not in ("id", "checksum")]
    text = json.dumps([row[name] for name in names], sort_keys=True)
    return {**row, "checksum": zlib.crc32(text.encode())}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What SQLite reports, as an error for people."""
    try:
        yield
    except OperationalError as error:
        raise StudyError(f"cannot use {path}: {error.orig}") from None
    except (DatabaseError, ValueError) as error:
        cause = getattr(error, "orig", error)
        raise DamagedStore(f"{path} is damaged: {cause}") from None


def _writing_engine(path: Path, journal: str) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
    return _beginning(engine, "BEGIN IMMEDIATE")


def _reading_engine(path: Path) -> Engine:
    engine = create_engine("sqlite://", creator=lambda: read_only(path), poolclass=NullPool)
    return _beginning(engine, "BEGIN")  # all that is read belongs to one moment of the search


def _beginning(engine: Engine, statement: str) -> Engine:
    """The engine with transactions that begin so: Python's sqlite3 begins none for reading."""

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return engine
