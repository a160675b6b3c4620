"""Reading of `.npz` files that a user names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The arrays of a file, by name; pickles are not read.

    Raises:
        ValueError: it is no such file.
        OSError: there is none, or it cannot be read.
    """
    with path.open("rb") as file:
        if not is_zipfile(file):
            raise ValueError("it is no .npz file, or not all of one")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
