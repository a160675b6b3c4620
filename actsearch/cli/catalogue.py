"""`actsearch list`: the targets, tasks, drivers and spaces there are."""

from __future__ import annotations

import argparse

from actsearch.cli.console import emit


def list_names(arguments: argparse.Namespace) -> int:
    """Print the names of one kind, a line each."""
    names = _names(arguments.what)
    emit(arguments, names, "\n".join(names))
    return 0


def _names(what: str) -> list[str]:
    if what == "targets":
        from actsearch.codegen.targets import TARGETS

        return list(TARGETS)
    if what == "tasks":
        from actsearch.tasks import TASKS

        return list(TASKS)
    if what == "drivers":
        from actsearch.drivers import DRIVERS

        return list(DRIVERS)
    from actsearch.grammar import space_names

    return list(space_names())
