"""Where a study's tables lie: an SQLite file in the run directory, or a schema of PostgreSQL.

SQLite runs in WAL mode with synchronous=FULL, PostgreSQL with synchronous_commit=on: a transaction
that has returned is on the disk, and a power cut does not undo it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from actsearch.grammar.errors import UsageError
from actsearch.studies.run_directory import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    DamagedStore,
    NotAStudy,
    RunExists,
    StudyError,
    StudyIsRunning,
    WrongVersion,
    put_in_place,
    read_only,
)
from actsearch.studies.schema import METADATA


class Database(Protocol):
    """Transactions on a study's tables."""

    label: str

    def reading(self) -> Iterator[Connection]:
        """A transaction in which all that is read belongs to one moment."""

    def writing(self) -> Iterator[Connection]:
        """A transaction that is on disk when it returns."""

    def close(self) -> None:
        """Let go of the database."""


@contextmanager
def explained(label: str) -> Iterator[None]:
    """What the database reports, as an error for people."""
    try:
        yield
    except OperationalError as error:
        raise StudyError(f"cannot use {label}: {_advice(str(error.orig))}") from None
    except (DatabaseError, ValueError) as error:
        cause = getattr(error, "orig", error)
        raise DamagedStore(f"{label} is damaged: {cause}") from None


def _advice(message: str) -> str:
    message = message.strip().replace("\n", " ")
    if "disk is full" in message:
        return f"{message}; what was finished before is saved: make room, then resume"
    return message


# SQLite


class SQLite:
    """The file of a run directory. A reader never changes anything, not even a lock file."""

    def __init__(self, path: Path, writable: bool) -> None:
        self.label = str(path)
        self._engine = _writing_engine(path, "WAL") if writable else _reading_engine(path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with explained(self.label), self._engine.begin() as connection:
            yield connection

    writing = reading

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def new_sqlite(path: Path) -> Iterator[Connection]:
    """A transaction on a database that appears under its name only when it is whole."""
    temporary = path.with_name(f"{path.name}.new")
    with explained(str(path)):
        temporary.unlink(missing_ok=True)
        engine = _writing_engine(temporary, "DELETE")  # the header belongs into the file
        try:
            with engine.begin() as connection:
                METADATA.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
                yield connection
        finally:
            engine.dispose()
        put_in_place(temporary, path)


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
        raw: Any = connection.connection.driver_connection
        raw.execute(statement)  # past SQLAlchemy, which takes ten times as long over it

    return engine


# PostgreSQL


class PostgreSQL:
    """A schema of a PostgreSQL database, one for each study.

    Args:
        url: of the database, `postgresql://user@host/database`.
        schema: `schema_name` of the study.
        kept: keep connections open between transactions.
    """

    def __init__(self, url: str, schema: str, kept: bool = True) -> None:
        parsed = postgres_url(url)
        if re.fullmatch(r"actsearch_[a-z0-9_]{0,50}", schema) is None:
            raise NotAStudy(f"{schema!r} is not the schema of a study")
        self.schema = schema
        self.label = f"{parsed.render_as_string(hide_password=True)} (study {schema})"
        options = f"-c search_path={schema} -c synchronous_commit=on"
        with _driver_is_there():
            self._engine = create_engine(
                parsed,
                connect_args={"options": options},
                pool_pre_ping=kept,
                poolclass=QueuePool if kept else NullPool,
            )
        self._holder: Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with explained(self.label), self._engine.connect() as connection:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with explained(self.label), self._engine.begin() as connection:
            yield connection

    def create(self, connection: Connection) -> None:
        """Make the schema and its tables.

        Raises:
            RunExists: there is a study of this name.
        """
        if connection.execute(_SCHEMA_EXISTS, {"name": self.schema}).scalar():
            raise RunExists(f"{self.label} exists already: choose another --run directory")
        connection.exec_driver_sql(f"CREATE SCHEMA {self.schema}")
        METADATA.create_all(connection)
        mark = f"actsearch format {SCHEMA_VERSION}"
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {self.schema} IS '{mark}'")

    def drop(self) -> None:
        """Delete the schema and all that is in it."""
        with self.writing() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {self.schema} CASCADE")

    def check(self) -> None:
        """NotAStudy or WrongVersion where the schema is not one of this version's studies."""
        with self.reading() as connection:
            mark = connection.execute(_SCHEMA_COMMENT, {"name": self.schema}).scalar()
        found = re.fullmatch(r"actsearch format (\d+)", mark or "")
        if found is None:
            raise NotAStudy(f"there is no study at {self.label}")
        if int(found[1]) != SCHEMA_VERSION:
            raise WrongVersion(
                f"{self.label} has format {found[1]}, and this ActSearch reads format "
                f"{SCHEMA_VERSION}: use the version that wrote it"
            )

    def hold(self) -> None:
        """Be the only driver of this study until `close`, or until this process or host dies.

        Raises:
            StudyIsRunning: another process, on whatever host, drives it.
        """
        with explained(self.label):
            holder = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not holder.execute(_LOCK, {"name": f"actsearch/{self.schema}"}).scalar():
                holder.close()
                raise StudyIsRunning(f"another process is working on {self.label}")
        self._holder = holder

    def close(self) -> None:
        if self._holder is not None:
            self._holder.close()
        self._engine.dispose()


_SCHEMA_EXISTS = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
_SCHEMA_COMMENT = text(
    "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = :name"
)
_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")


def schema_name(study: str) -> str:
    """The schema of a study: `actsearch_` and the study's name in lower case."""
    return "actsearch_" + re.sub(r"[^a-z0-9]+", "_", study.lower()).strip("_")[:50]


def postgres_url(url: str) -> URL:
    """The parsed URL of a PostgreSQL database.

    Raises:
        UsageError: it is something else.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() != "postgresql":
        raise UsageError(
            "a store is the URL of a PostgreSQL database, postgresql://user@host/database; "
            "without one a study is kept in its run directory, in SQLite"
        )
    return parsed.set(drivername="postgresql+psycopg")


@contextmanager
def _driver_is_there() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise StudyError("PostgreSQL needs psycopg: pip install 'actsearch[postgres]'") from None
