"""The run directory: what a study's files are, who may use them, and whether they are sound.

A database is looked at as plain bytes and through read-only connections until it is known to be a
sound study of this version; whatever else lies there is refused and left as it is.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from actsearch.grammar.errors import ActSearchError

DATABASE = "study.db"
POINTER = "store.json"
"""Says where the study is, if not in this directory: the URL and schema of a database."""
LOCK = "lock"
APPLICATION_ID = 0x41637453
"""In the header of every study's database: "ActS"."""
SCHEMA_VERSION = 3
"""In the header too; it changes whenever an older ActSearch could not read the tables."""


class StudyError(ActSearchError):
    """A study that cannot be started, read or continued. The message is meant for the user."""


class RunExists(StudyError):
    """A new search into a directory that holds a study."""


class NotAStudy(StudyError):
    """There is no study in this directory."""


class WrongVersion(StudyError):
    """The study was written by another version of ActSearch."""


class DamagedStore(StudyError):
    """The study's database is damaged."""


class StudyIsRunning(StudyError):
    """Another process is working on this study."""


def new_run(base: Path, stem: str) -> Path:
    """The first of base/stem-1, base/stem-2, … that does not exist yet, made."""
    number = 1
    while True:
        try:
            (base / f"{stem}-{number}").mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return base / f"{stem}-{number}"


def refuse_existing(run: Path) -> None:
    """RunExists where the directory holds a study, NotADirectoryError where it is a file."""
    if run.exists() and not run.is_dir():
        raise StudyError(f"{run} is a file; a run directory is needed (--run)")
    if (run / DATABASE).exists() or (run / POINTER).exists():
        raise RunExists(
            f"{run} already holds a study: go on with `actsearch resume {run}`, "
            "or choose another --run directory"
        )


@contextmanager
def exclusive(run: Path) -> Iterator[None]:
    """Hold the run directory for this process; the system lets go when the process dies.

    The lock is SQLite's own, on an empty file beside the database: it works wherever SQLite does.

    Raises:
        StudyIsRunning: another process holds it.
        StudyError: the directory cannot be written, or lies on a network file system.
    """
    refuse_network(run)
    try:
        lock = sqlite3.connect(run / LOCK, timeout=0, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise StudyError(f"cannot write to {run}: {error}") from None
    with closing(lock):
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StudyIsRunning(f"another process is working on {run}") from None
            raise StudyError(f"cannot lock {run}: {error}") from None
        yield


NETWORK_FILE_SYSTEMS = frozenset(
    "afs beegfs ceph cifs fuse.glusterfs fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs nfs "
    "nfs4 ocfs2 orangefs panfs smb3 smbfs".split()
)
"""On these, locks and shared memory between hosts do not do what SQLite needs."""

MOUNTS = Path("/proc/self/mountinfo")


def refuse_network(run: Path, mounts: Path = MOUNTS) -> None:
    """StudyError where the directory lies on a network file system (as far as Linux tells)."""
    kind = _file_system(run.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StudyError(
            f"{run} lies on a network file system ({kind}), where SQLite can lose or damage data: "
            "choose a --run directory on a local disk, or keep the study in PostgreSQL (--store)"
        )


def _file_system(path: Path, mounts: Path) -> str | None:
    """The type of the file system that a path lies on, by the longest mount point above it."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) < 5 or not types:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        if path.is_relative_to(point) and len(point) >= best:  # a later mount covers an earlier
            best, kind = len(point), types[0]
    return kind


def check(run: Path) -> Path:
    """The path of the run's database, once it is known to be a sound study of this version.

    Raises:
        NotAStudy, WrongVersion, DamagedStore: why it is not; nothing has been changed.
    """
    path = run / DATABASE
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except (FileNotFoundError, NotADirectoryError):
        raise NotAStudy(
            f"{run} holds no study (no {DATABASE}); start one with `actsearch search … --run {run}`"
        ) from None
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise DamagedStore(f"{path} is not a database (or its beginning is damaged){_UNTOUCHED}")
    application = struct.unpack(">I", header[68:72])[0]
    version = struct.unpack(">i", header[60:64])[0]
    if application != APPLICATION_ID:
        raise NotAStudy(f"{path} is a database, but not one of ActSearch{_UNTOUCHED}")
    if version != SCHEMA_VERSION:
        raise WrongVersion(
            f"{path} has format {version}, and this ActSearch reads format {SCHEMA_VERSION}: "
            f"use the version that wrote it{_UNTOUCHED}"
        )
    try:
        with closing(read_only(path)) as connection:
            findings = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        raise DamagedStore(f"{path} is damaged: {error}{_UNTOUCHED}") from None
    if findings != ["ok"]:
        raise DamagedStore(f"{path} is damaged: {findings[0]}{_UNTOUCHED}")
    return path


_UNTOUCHED = "; nothing was changed"


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    A database without a write-ahead log has no writer, and is opened as immutable: otherwise even
    a reader of a WAL database leaves a log and its index behind.
    """
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename durably: afterwards the file is there, whole, also after a power cut."""
    os.replace(temporary, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
