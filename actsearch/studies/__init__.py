"""Studies: a search from its first proposal to its re-tested leaderboard, and what carries it.

`store` keeps everything, `executors` train, `training_queue` and `search_loop` order the work,
`study` is the face of it all. Names are imported on first use: a worker process needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsearch.studies.delivery import deliver
    from actsearch.studies.protocol import compare
    from actsearch.studies.study import Progress, Study, search

_HOME = {
    "Progress": "study",
    "Study": "study",
    "compare": "protocol",
    "deliver": "delivery",
    "search": "study",
}

__all__ = ["Progress", "Study", "compare", "deliver", "search"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actsearch.studies' has no attribute {name!r}")
    value = getattr(import_module(f"actsearch.studies.{_HOME[name]}"), name)
    globals()[name] = value
    return value
