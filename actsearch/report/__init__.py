"""Reports: leaderboards that claim no more than the data support, plots, and an HTML page.

Names are imported on first use, so that a leaderboard needs neither jinja2 nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsearch.report.export import ExportError, export_rows, export_study
    from actsearch.report.figure import PlotError
    from actsearch.report.html import write_report
    from actsearch.report.leaderboard import leaderboard_rows, ranked
    from actsearch.report.plots import plot_expression
    from actsearch.report.text import render_leaderboard

_HOME = {
    "ExportError": "export",
    "PlotError": "figure",
    "export_rows": "export",
    "export_study": "export",
    "leaderboard_rows": "leaderboard",
    "plot_expression": "plots",
    "ranked": "leaderboard",
    "render_leaderboard": "text",
    "write_report": "html",
}

__all__ = [
    "ExportError",
    "PlotError",
    "export_rows",
    "export_study",
    "leaderboard_rows",
    "plot_expression",
    "ranked",
    "render_leaderboard",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'actsearch.report' has no attribute {name!r}")
    value = getattr(import_module(f"actsearch.report.{_HOME[name]}"), name)
    globals()[name] = value
    return value
