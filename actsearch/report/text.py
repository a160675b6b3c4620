"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from actsearch.report.leaderboard import beaten, rank_text

if TYPE_CHECKING:
    from rich.table import Table


def render_leaderboard(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table for rich to print.

    Args:
        rows: as `ranked` or `leaderboard_rows` returns them.

    Returns:
        A table: ranks, function, mean ± standard error in percent, seeds, and, where there are
        candidates, what the search saw and which baselines each is shown to be better than. A line
        separates groups whose order is certain.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    candidates = any(row["kind"] == "candidate" for row in rows)
    split = rows[0]["split"] if rows else "validation"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=_caption(rows), caption_justify="left")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("function", overflow="fold", ratio=1 if candidates else None)
    table.add_column(f"{split} accuracy", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    if candidates:
        if split == "test":
            table.add_column("search", justify="right", no_wrap=True)
        table.add_column("better than", overflow="fold")
    for row, following in zip_longest(rows, rows[1:]):
        baseline = candidates and row["kind"] == "baseline"
        name = Text(row["expression"])
        if baseline:
            name.append("  baseline", style="dim")
        cells: list[Any] = [rank_text(row), name, _mean(row), _seeds(row)]
        if candidates:
            if split == "test":
                seen = row["validation"]
                cells.append("–" if seen is None else f"{100 * seen:.2f}")
            cells.append(Text(", ".join(beaten(row)) or ("" if baseline else "–")))
        table.add_row(*cells, style="dim" if row["group"] is None else None)
        if following is not None and following["group"] != row["group"]:
            table.add_section()
    return table


def _mean(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "failed"
    if row["stderr"] is None:
        return f"{100 * row['mean']:.2f}       "
    return f"{100 * row['mean']:.2f} ± {100 * row['stderr']:.2f}"


def _seeds(row: Mapping[str, Any]) -> str:
    failed = row["failed"]
    return f"{row['seeds']} of {row['seeds'] + failed}" if failed else str(row["seeds"])


def _caption(rows: Sequence[Mapping[str, Any]]) -> str:
    """How to read the ranks."""
    sound = [row for row in rows if row["group"] is not None]
    if not sound:
        return ""
    if sound[0]["split"] == "validation" and any(row["kind"] == "candidate" for row in sound):
        return "before the re-test: the search chose by these numbers, so they prove no order"
    return "mean ± standard error in %; ranks as the seeds support them (95 %, all pairs together)"
