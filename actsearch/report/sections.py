"""The sections of the HTML report. Each is a function of the material, and a template.

Another section is another function in `SECTIONS` and a template of its own; one that returns None
is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from actsearch.report import figure
from actsearch.report.charts import learning_chart, reward_chart
from actsearch.report.findings import (
    AWAY_FROM_ZERO,
    LEAST,
    candidates_of,
    findings,
    operator_table,
)
from actsearch.report.leaderboard import Row, beaten
from actsearch.report.material import Material
from actsearch.report.plots import caption, inline_plot

LISTED = 1000
"""Trials that the full list shows; a longer one would make the page unwieldy."""
TOP = 20
"""Candidates in the ranking of the search."""


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        anchor: its id in the page, and the name of its template.
        title: its heading.
        values: what its template is filled with.
    """

    anchor: str
    title: str
    values: dict[str, Any]


def verdict(material: Material) -> dict[str, Any]:
    """What the study found, in one paragraph: values for the head of the page."""
    candidates = [row for row in material.board if row["kind"] == "candidate"]
    sound = [row for row in candidates if row["group"] is not None]
    if not sound:
        return {"best": None, "tried": bool(candidates)}
    best = sound[0]
    wins = beaten(best)
    tested = [c["baseline"] for c in best["comparisons"] if c["p"] is not None]
    return {
        "best": best,
        "wins": [c for c in best["comparisons"] if c["baseline"] in wins],
        "others": [text for text in tested if text not in wins],
        "of": sum(row["group"] is not None for row in material.board),
    }


def leaderboard(material: Material) -> Section:
    """The final ranking, each function with its interval and its seeds on one scale."""
    rows = material.board
    scale = _Scale([row for row in rows if row["group"] is not None])
    drawn = [{**row, "interval": scale.interval(row)} for row in rows]
    title = "Leaderboard on the test split" if material.split == "test" else "Leaderboard so far"
    return Section("leaderboard", title, {"rows": drawn, "scale": scale, "split": material.split})


class _Scale:
    """Metrics as positions, in percent of a column's width."""

    def __init__(self, rows: list[Row]) -> None:
        values: list[float] = [v for row in rows for v in (row.get("metrics") or {}).values()]
        values += [row["mean"] + s * (row["stderr"] or 0.0) for row in rows for s in (-1, 1)]
        self.low, self.high = (min(values), max(values)) if values else (0.0, 1.0)

    def place(self, value: float) -> float:
        """Where a value lies, leaving room for the dots at the ends."""
        if self.high - self.low < 1e-12:
            return 50.0
        return 3 + 94 * (value - self.low) / (self.high - self.low)

    def interval(self, row: Row) -> dict[str, Any] | None:
        """Where the mean, the ends of ± one standard error, and the seeds lie."""
        if row["group"] is None:
            return None
        error = row["stderr"] or 0.0
        return {
            "mean": self.place(row["mean"]),
            "low": self.place(row["mean"] - error),
            "high": self.place(row["mean"] + error),
            "seeds": [self.place(value) for value in (row.get("metrics") or {}).values()],
        }


def comparisons(material: Material) -> Section | None:
    """Every candidate against every baseline."""
    candidates = [
        row for row in material.board if any(c["test"] != "none" for c in row["comparisons"])
    ]
    if not candidates:
        return None
    order = [row["expression"] for row in material.board if row["kind"] == "baseline"]
    baselines = [b for b in order if b in {c["baseline"] for c in candidates[0]["comparisons"]}]
    table = [
        (row, [{c["baseline"]: c for c in row["comparisons"]}[b] for b in baselines])
        for row in candidates
    ]
    tests = sorted({c["test"] for row in candidates for c in row["comparisons"]})
    return Section("comparisons", "Better than the baselines?", {
        "table": table, "baselines": baselines, "tests": tests,
        "count": sum(len(cells) for _, cells in table),
    })  # fmt: skip


def functions(material: Material) -> Section | None:
    """f and f′ of the best candidates and of the baselines."""
    if not material.shown:
        return None
    cards = [
        {
            "row": row,
            "caption": caption(row["expression"]),
            "members": material.members(row),
            "plot": _drawn(
                inline_plot, row["expression"], material.styles[row["expression"]], f"f{i}"
            ),
        }
        for i, row in enumerate(material.shown)
    ]
    return Section("functions", "The functions and their derivatives", {"cards": cards})


def search(material: Material) -> Section:
    """Reward over trials, and the ranking that the search saw."""
    chart = None
    if material.ranking:
        chart = _drawn(reward_chart, material.trials, material.baselines, material.styles)
    within = None
    if material.noise is not None and material.ranking and material.config["seeds"] == 1:
        best = material.ranking[0]["reward"]
        near = [t for t in material.ranking if best - t["reward"] <= material.noise * 2**0.5]
        within = len(near)
    return Section("search", "The search", {
        "chart": chart,
        "baselines": [row for row in material.shown if row["kind"] == "baseline"],
        "ranking": material.ranking[:TOP],
        "corrected": any(trial["corrected"] is not None for trial in material.ranking),
        "trials": material.trials[:LISTED],
        "left_out": max(0, len(material.trials) - LISTED),
        "noise": material.noise,
        "within": within,
    })  # fmt: skip


def pareto(material: Material) -> Section | None:
    """Reward against what the function costs to compute."""
    if len(material.front) < 2:
        return None
    corrected = any(trial["corrected"] is not None for trial in material.front)
    return Section(
        "pareto", "Reward against cost", {"rows": material.front, "corrected": corrected}
    )


def insights(material: Material) -> Section | None:
    """What the paper found, and whether it holds here."""
    trained = candidates_of(material.trials)
    if not trained:
        return None
    return Section("insights", "What good functions have in common", {
        "findings": findings(trained),
        "table": operator_table(trained),
        "count": len(trained),
        "adaptive": material.config["driver"]["name"] not in ("exhaustive", "random"),
        "least": LEAST,
        "away": AWAY_FROM_ZERO,
    })  # fmt: skip


def learning(material: Material) -> Section | None:
    """Learning curves of the functions that are drawn."""
    if not material.curves:
        return None
    chart = _drawn(learning_chart, material.curves, material.styles)
    rows = [row for row in material.shown if row["expression"] in material.curves]
    stage = "the re-test" if material.split == "test" else "the search"
    return Section("learning", "Learning curves", {"chart": chart, "rows": rows, "stage": stage})


def failures(material: Material) -> Section | None:
    """What did not train, what was not tried, and why."""
    groups = {
        "Failed while training": material.reasons("failed"),
        "Excluded before training": material.reasons("excluded"),
    }
    found = {title: rows for title, rows in groups.items() if rows}
    return Section("failures", "What failed, and why", {"groups": found}) if found else None


def setup(material: Material) -> Section:
    """What it takes to repeat the study."""
    return Section("setup", "How this was done", {"seconds": material.seconds})


SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    leaderboard,
    comparisons,
    functions,
    search,
    pareto,
    insights,
    learning,
    failures,
    setup,
)


def _drawn(draw: Callable[..., str], *arguments: Any) -> Markup | None:
    """A plot's SVG, which is ours and escaped already; None where nothing can draw it."""
    return Markup(draw(*arguments)) if figure.available() else None
