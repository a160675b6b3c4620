"""`actsearch table build|show`: tables of trained activation functions."""

from __future__ import annotations

import argparse
from typing import Any

from actsearch.cli.console import columns, emit, note
from actsearch.cli.progress import growing_bar
from actsearch.tasks.tables import Table, table


def build(arguments: argparse.Namespace) -> int:
    """Train every class of a space and write the table; resumed by the same command."""
    from actsearch.studies.tabulating import build_table

    arguments.resume_hint = "the same command"
    with growing_bar("training") as update:
        made = build_table(
            arguments.space,
            arguments.run,
            arguments.output,
            units=arguments.units,
            task=arguments.task,
            task_options=dict(arguments.task_option),
            seeds=arguments.seeds,
            sample=arguments.sample,
            workers=arguments.workers,
            device=arguments.device,
            progress=update,
        )
    note(f"table: {arguments.output}")
    _print(arguments, made, 10)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """What a table holds, and its best functions."""
    _print(arguments, table(arguments.table), arguments.top)
    return 0


def _print(arguments: argparse.Namespace, shown: Table, count: int) -> None:
    best = [(shown.representative(k), shown.mean(k) or 0.0) for k in shown.best(count)]
    failed = sum(shown.mean(k) is None for k in range(len(shown)))
    data: dict[str, Any] = {
        "table": shown.name,
        "candidates": len(shown.candidates),
        "classes": len(shown),
        "failed": failed,
        "excluded": len(shown.excluded),
        "seeds": list(shown.seeds),
        "best": [{"expression": text, "mean": mean} for text, mean in best],
        "facts": dict(shown.facts),
    }
    head = (
        f"{shown.name}: {len(shown.candidates)} candidates, {len(shown)} classes from "
        f"{len(shown.seeds)} seeds each; {failed} failed, {len(shown.excluded)} excluded\n"
    )
    emit(arguments, data, head + columns([(text, f"{100 * mean:.2f}") for text, mean in best]))
