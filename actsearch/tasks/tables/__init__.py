"""Tables of trained activation functions: every function of a space, trained once and for all.

`table(name)` reads one that ships or a file of your own; as a task it is `table:NAME`. `actbench`
reads the files of Act-Bench. Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsearch.tasks.tables.actbench import read_actbench
    from actsearch.tasks.tables.contents import Table, TableError, shipped, table
    from actsearch.tasks.tables.lookup import TableTask

_HOME = {
    "Table": "contents",
    "TableError": "contents",
    "TableTask": "lookup",
    "read_actbench": "actbench",
    "shipped": "contents",
    "table": "contents",
}

__all__ = ["Table", "TableError", "TableTask", "read_actbench", "shipped", "table"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actsearch.tasks.tables' has no attribute {name!r}")
    value = getattr(import_module(f"actsearch.tasks.tables.{_HOME[name]}"), name)
    globals()[name] = value
    return value
