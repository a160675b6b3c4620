"""`actsearch bench NAME …`: what a promise of speed or of sample efficiency comes to here."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from actsearch.cli.console import emit
from actsearch.grammar.errors import UsageError, did_you_mean

BENCHES = {
    "dedup": "actsearch.bench.dedup",
    "drivers": "actsearch.bench.drivers",
    "kernels": "actsearch.bench.kernels",
    "queue": "actsearch.bench.queue",
}
"""Each is a module with `add_arguments(parser)` and `run(arguments)`, which returns its rows."""


def bench(arguments: argparse.Namespace) -> int:
    """Run one benchmark and print its rows."""
    name = arguments.name
    if name not in BENCHES:
        hint = did_you_mean(name, BENCHES)
        raise UsageError(f"no benchmark {name!r}; there are {', '.join(BENCHES)}{hint}")
    module = importlib.import_module(BENCHES[name])
    parser = argparse.ArgumentParser(f"actsearch bench {name}", description=module.__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    module.add_arguments(parser)
    chosen = parser.parse_args(arguments.rest)
    chosen.json = chosen.json or arguments.json
    rows = module.run(chosen)
    emit(chosen, rows, _table(rows) if not chosen.json else "")
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as columns; what is None is shown as a dash."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    lines = (
        "  ".join(
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
