"""A PostgreSQL server for the tests, where its programs are installed; else they are skipped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def _program(name: str) -> str | None:
    """On the path, or where Debian puts it."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, versions), None)


@contextmanager
def postgres_url() -> Iterator[str]:
    """The URL of an empty database of a server that lives as long as the context."""
    pytest.importorskip("psycopg")
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's server is not installed")
    as_root = os.geteuid() == 0
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if as_root else {}
    with tempfile.TemporaryDirectory(prefix="pg-") as name, socket.socket() as found:
        folder = Path(name)
        if as_root:  # the server refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        subprocess.run(
            [initdb, "-D", folder / "data", "-A", "trust", "-U", "tester", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **user,
        )  # fmt: skip
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        with subprocess.Popen(
            [server, "-D", folder / "data", *options], stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, cwd=folder, **user,
        ) as process:  # fmt: skip
            try:
                url = f"postgresql://tester@127.0.0.1:{port}/postgres"
                _await(url)
                yield url
            finally:
                process.send_signal(2)  # a fast shutdown, which waits for no client
                process.wait()


def _await(url: str) -> None:
    import time

    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the PostgreSQL server did not start")
