"""What was proved before, in a file that searches share: bounded, and never trusted blindly.

An answer is found again by a digest of its question and of all that answers depend on: the code of
the proofs and of the language, and the libraries under them. So nothing that another version found
is believed. Each answer carries a digest of its own, so that neither is what a damaged file says.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from actsearch.equivalence.version import version

MOST = 100_000
"""Answers that are kept; beyond it the oldest go."""
LARGEST = 1_000
"""Bytes of an answer; longer ones, which are rare, are not kept."""
NAME = "proofs-1.sqlite"
"""Of the file; the number is that of its layout."""

_DIGEST = 16
_PATIENCE = 10.0  # seconds until others must have finished; they are served in no order
_UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors that a new file would not mend."""


class ProofCache:
    """Answers, as JSON data, to questions, as JSON data.

    Several processes may use one file at a time. What `put` has returned from survives a kill. The
    file takes 150 MB at most, about 20 MB when full of usual answers; memory 2 MB. A damaged file
    is begun anew; where none can be used, nothing is kept, and nobody is told: searches find the
    same without it.

    Args:
        path: the file; its folder exists.
        most: how many answers are kept.
    """

    def __init__(self, path: str | Path, most: int = MOST) -> None:
        self._path = Path(path)
        self._most = most
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._opened()
        except sqlite3.Error as error:
            self._recover(error)

    def get(self, *question: Any) -> Any:
        """The answer to a question; None if it is not known."""
        key = _key(question)
        if self._database is None:
            return None
        try:
            row = self._database.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            self._recover(error)
            return None
        kept = row[0] if row is not None else None
        if not isinstance(kept, bytes) or kept[-_DIGEST:] != _checksum(key, kept[:-_DIGEST]):
            return None
        return json.loads(kept[:-_DIGEST])

    def put(self, answer: Any, *question: Any) -> None:
        """Keep an answer, other than None, in place of an earlier one."""
        key = _key(question)
        text = json.dumps(answer).encode()
        if self._database is None or len(text) > LARGEST:
            return
        try:
            number = self._database.execute(_PUT, (key, text + _checksum(key, text))).lastrowid
            self._database.execute(_TRIM, ((number or 0) - self._most,))
        except sqlite3.Error as error:
            self._recover(error)

    def close(self) -> None:
        """Let go of the file; nothing is kept from then on."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            # No waiting for the disk: only a power cut can then damage the file, and that shows.
            # No WAL, which network file systems do not have.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_CREATE)
            database.execute(_GET, (b"",)).fetchone()
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _recover(self, error: sqlite3.Error) -> None:
        """Begin a damaged file anew; go without where that does not help."""
        self.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE:
            return
        try:
            for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
                path.unlink(missing_ok=True)
            self._database = self._opened()
        except (sqlite3.Error, OSError):
            pass


_CREATE = (
    "CREATE TABLE IF NOT EXISTS answers "
    "(number INTEGER PRIMARY KEY, question BLOB UNIQUE NOT NULL, answer BLOB NOT NULL)"
)
_GET = "SELECT answer FROM answers WHERE question = ?"
_PUT = "INSERT OR REPLACE INTO answers (question, answer) VALUES (?, ?)"
_TRIM = "DELETE FROM answers WHERE number <= ?"


def _key(question: Any) -> bytes:
    text = json.dumps([version(), question])
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


def _checksum(key: bytes, text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST, key=key).digest()
