"""What every plot shares: a matplotlib figure without global state, and deterministic files.

matplotlib is imported when a figure is made, and draws without a display. Its global settings are
changed inside of `drawing()` only.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from actsearch.grammar.errors import UsageError, did_you_mean
from actsearch.report.palette import PLACEHOLDERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Mapping[str, dict[str, Any]] = {
    ".png": {"dpi": 160, "metadata": {"Software": None}},
    ".svg": {"metadata": {"Date": None, "Creator": None, "Format": None, "Type": None}},
    ".pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""Kinds of file that a plot can be written to, and how: the same plot gives the same bytes."""

_INSTALL = "plots need matplotlib, which is not installed: pip install 'actsearch[plot]'"


class PlotError(UsageError):
    """A plot that cannot be drawn or written as asked."""


def available() -> bool:
    """Whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's default settings and ours, whatever the user's are, while figures are drawn.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise PlotError(_INSTALL) from None
    fixed = {
        "font.size": 9,
        "font.family": ["DejaVu Sans"],
        "axes.titlesize": 10,
        "axes.unicode_minus": True,
        "path.simplify_threshold": 0.05,
        "svg.fonttype": "none",
        "svg.hashsalt": "actsearch",
    }
    # Not the backend: to read or set it would load pyplot and choose a display.
    everything: Any = matplotlib.rcParamsDefault
    defaults = {name: everything[name] for name in everything if not name.startswith("backend")}
    with matplotlib.rc_context(rc=defaults | fixed):
        yield


def new_figure(
    width: float,
    height: float,
    colours: Mapping[str, str],
    layout: Literal["constrained"] | None = "constrained",
) -> Figure:
    """An empty figure of so many inches; without a layout its margins are the caller's to set."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, facecolor=colours["paper"])


def style_axes(axes: Axes, colours: Mapping[str, str]) -> None:
    """Two thin axes and a faint grid; everything in the colours of the page."""
    axes.set_facecolor("none")
    axes.grid(True, color=colours["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colours["muted"])
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(colors=colours["muted"], width=0.8, length=3)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(colours["muted"])


def check_format(path: Path) -> str:
    """The suffix of a plot's file.

    Raises:
        PlotError: it is not one of `FORMATS`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        shown = f"not {path.name!r}" if suffix else f"and {path.name!r} has no suffix"
        raise PlotError(
            f"a plot's file ends in one of {known}, {shown}{did_you_mean(suffix, FORMATS)}"
        )
    return suffix


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix."""
    suffix = check_format(path)
    figure.savefig(path, format=suffix[1:], **FORMATS[suffix])
    return path


def inline_svg(figure: Figure, prefix: str, description: str) -> str:
    """A figure drawn in `PLACEHOLDERS`, as an SVG element to stand in an HTML page.

    Args:
        figure: the figure.
        prefix: of all its ids, so that they differ from those of the page's other figures.
        description: what it shows, for those who cannot see it; escaped here.
    """
    from markupsafe import escape

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, **FORMATS[".svg"])
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|[A-Z]|matplotlib)[^"]*"', "", svg
    )
    svg = re.sub(r'(id="|"#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r" font-family: [^;\"]*(?:'[^']*'[^;\"]*)*;?", "", svg)
    for name, placeholder in PLACEHOLDERS.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    opening = f'<svg class="plot" viewBox="{box[1]}" role="img" aria-label="{escape(description)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1).strip()
