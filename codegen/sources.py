"""Generated source as real modules: tracebacks, `inspect` and Dynamo see its lines.

A search loads thousands of them, so a module that was loaded for owners leaves `sys.modules` and
`linecache` when its last owner goes; what still holds one of its functions can go on calling it.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

_PREFIX = "actsearch_generated_"
_LOCK = threading.RLock()
_OWNERS: Counter[str] = Counter()


def load(text: str) -> ModuleType:
    """The module that `text` is the source of; the same object for the same text."""
    name = _PREFIX + hashlib.sha256(text.encode()).hexdigest()[:24]
    with _LOCK:
        if name in sys.modules:
            return sys.modules[name]
        module = ModuleType(name)
        filename = module.__file__ = f"<{name}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), module.__dict__)
        sys.modules[name] = module
        return module


def retain(function: Callable[..., Any], owner: object) -> None:
    """Keep the module of a loaded function for as long as `owner` lives."""
    name = function.__module__
    if name.startswith(_PREFIX):
        with _LOCK:
            _OWNERS[name] += 1
        weakref.finalize(owner, _release, name).atexit = False


def _release(name: str) -> None:
    with _LOCK:
        _OWNERS[name] -= 1
        if not _OWNERS[name]:
            del _OWNERS[name]
            sys.modules.pop(name, None)
            linecache.cache.pop(f"<{name}>", None)
