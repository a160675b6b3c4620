"""Colours and line styles: one function looks the same in every plot and table of a report.

Candidates are coloured, baselines grey; each has its own dash, so that nothing depends on colour
alone. The hues are those of Okabe and Ito (2008), which people with colour-vision deficiencies tell
apart, darkened or lightened to stand out from the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CANDIDATES = ("blue", "vermilion", "green", "purple", "gold", "sky")
BASELINES = ("grey", "stone")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 1.5), (7, 1.5, 2, 1.5), (3, 3), (10, 3))

LIGHT: Mapping[str, str] = {
    "ink": "#1c2024",
    "muted": "#5b6470",
    "rule": "#d5d9de",
    "paper": "#ffffff",
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#00875f",
    "purple": "#b0558c",
    "gold": "#a87800",
    "sky": "#3b94c9",
    "grey": "#6b7280",
    "stone": "#9aa1ab",
}
DARK: Mapping[str, str] = {
    "ink": "#e8eaed",
    "muted": "#a3abb5",
    "rule": "#3a4149",
    "paper": "#16191d",
    "blue": "#4fb0ea",
    "vermilion": "#ff8a3d",
    "green": "#2fc796",
    "purple": "#e08fbf",
    "gold": "#e6b422",
    "sky": "#8cd0f5",
    "grey": "#a3abb5",
    "stone": "#757e89",
}

# Colours that mean nothing by themselves: each is replaced by a CSS variable in an inline SVG, so
# that a plot follows the page from light to dark.
PLACEHOLDERS: Mapping[str, str] = {name: f"#fe00{i:02x}" for i, name in enumerate(LIGHT)}


@dataclass(frozen=True)
class LineStyle:
    """How one function is drawn.

    Attributes:
        colour: a key of `LIGHT`.
        dash: lengths of strokes and gaps in points; empty for a solid line.
    """

    colour: str
    dash: tuple[float, ...] = ()

    @property
    def css_dash(self) -> str:
        """As the value of `stroke-dasharray`."""
        return ",".join(f"{length:g}" for length in self.dash) or "none"

    @property
    def matplotlib_dash(self) -> Any:
        """As a linestyle of matplotlib."""
        return (0, self.dash) if self.dash else "solid"


def line_styles(rows: Iterable[Mapping[str, Any]]) -> dict[str, LineStyle]:
    """A line style for each function of a leaderboard, by expression.

    Candidates take the colours in the order of the rows and only then another dash; baselines
    differ by their dash.
    """
    styles: dict[str, LineStyle] = {}
    counts = {"candidate": 0, "baseline": 0}
    for row in rows:
        kind = row["kind"]
        number = counts[kind]
        counts[kind] += 1
        if kind == "candidate":
            turn, hue = divmod(number, len(CANDIDATES))
            style = LineStyle(CANDIDATES[hue], DASHES[turn % len(DASHES)])
        else:
            turn, dash = divmod(number, len(DASHES))
            style = LineStyle(BASELINES[turn % len(BASELINES)], DASHES[dash])
        styles.setdefault(row["expression"], style)
    return styles
