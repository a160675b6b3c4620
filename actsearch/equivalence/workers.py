"""Processes that share work, and that end with the one that began them, however it ends."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

_OBJECTS = 100_000
"""New ones after which a process looks for garbage: its millions of terms make that dear."""


def workers(count: int) -> ProcessPoolExecutor:
    """A pool of new processes."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    _end_with_the_parent()
    gc.set_threshold(_OBJECTS)


def _end_with_the_parent() -> None:
    """A pool whose owner was killed would wait for work for ever."""
    Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
