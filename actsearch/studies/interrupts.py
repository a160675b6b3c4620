"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a destructor or in the
callback of a weak reference (the import system has one) it is printed as ignored, and the program
goes on as if no key had been pressed. Elsewhere it is turned into another exception: a module in C
that is being imported says "initialization failed".
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_depth = 0  # of blocks inside of each other
_pressed = False


def check_for_interrupt() -> None:
    """Raise KeyboardInterrupt if Ctrl-C has been pressed while it is noted.

    To be called in the main thread, wherever the work can be broken off.
    """
    if _depth and _pressed and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@contextmanager
def interrupts_noted() -> Iterator[None]:
    """Note each Ctrl-C meanwhile, besides raising KeyboardInterrupt as ever.

    An error that leaves the block after one becomes KeyboardInterrupt. A handler that the caller
    has installed, and a thread other than the main one, are left alone.
    """
    global _depth, _pressed
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, _note):
        yield
        return
    _pressed = _pressed and _depth > 0
    _depth += 1
    try:
        signal.signal(signal.SIGINT, _note)
        yield
    except Exception as error:
        if _pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        _depth -= 1
        if not _depth:  # a Ctrl-C just now would leave our handler, and the next block ends that
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _note(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt
