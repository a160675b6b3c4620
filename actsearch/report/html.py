"""The HTML report: one file without scripts that needs nothing from anywhere else."""

from __future__ import annotations

import os
from contextlib import nullcontext
from os import PathLike
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from actsearch.report import figure
from actsearch.report.leaderboard import rank_text
from actsearch.report.material import Material
from actsearch.report.palette import DARK, LIGHT
from actsearch.report.sections import SECTIONS, verdict
from actsearch.report.source import StudySource
from actsearch.report.statistics import SIGNIFICANCE

FILE_NAME = "report.html"


def write_report(study: StudySource, path: str | PathLike[str] | None = None) -> Path:
    """Write a study's report: one self-contained HTML file, the same bytes for the same study.

    Args:
        study: finished or not.
        path: the file; `report.html` in the run directory where it is None.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; an earlier one is left as it is.
    """
    target = study.run / FILE_NAME if path is None else Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(render(study), encoding="utf-8", newline="\n")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def render(study: StudySource) -> str:
    """The report as a string of HTML."""
    environment = Environment(
        loader=PackageLoader("actsearch.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "duration": duration,
        "number": number,
        "rank": rank_text,
    }
    material = Material(study)
    with figure.drawing() if figure.available() else nullcontext():
        sections = [found for build in SECTIONS if (found := build(material)) is not None]
    page = environment.get_template("report.html.j2").render(
        study=study,
        config=material.config,
        counts=material.counts,
        finished=material.finished,
        styles=material.styles,
        titles=material.titles,
        seconds=material.seconds,
        verdict=verdict(material),
        sections=sections,
        colours={"light": LIGHT, "dark": DARK},
        drawn=figure.available(),
        split=material.split,
        significance=SIGNIFICANCE,
    )
    return page.strip() + "\n"


def percent(value: float | None, digits: int = 2) -> str:
    """A metric between 0 and 1 in percent, without the sign."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    """A difference of metrics in percentage points, with its sign."""
    return f"{100 * value:+.2f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p-value, to three decimals, on one line."""
    text = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def number(value: float | None, digits: int = 3) -> str:
    """A number in so many significant digits."""
    return "–" if value is None else f"{value:.{digits}g}".replace("-", "−")
