"""The folder of what can be made again: compiled kernels, generated data, proofs.

It is `ACTSEARCH_CACHE`, or `actsearch` among the platform's caches. Where neither can be written, a
temporary folder serves this process alone.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """A folder that exists and can be written."""
    wanted = os.environ.get("ACTSEARCH_CACHE")
    return _usable(Path(wanted) if wanted else user_cache_path("actsearch", appauthor=False))


@cache
def _usable(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="actsearch-", ignore_cleanup_errors=True)
