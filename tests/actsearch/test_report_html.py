"""The HTML report: well-formed, self-contained, escaped, repeatable, and true to the study."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from actsearch.report import figure, write_report
from actsearch.report.html import duration, p_value, percent, points, render
from actsearch.report.material import Material, typical_curve
from actsearch.studies.study import Study, search
from tests.actsearch.fake_study import BASELINES, FakeStudy, full_study, row, trial

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = '<script>alert("x")</script>&amp;\'"'


class Page(HTMLParser):
    """A parsed page: raises where tags do not nest, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.tags[tag] += 1
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag]
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html() -> str:
    return render(full_study())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_it_is_one_well_formed_page(html: str, page: Page) -> None:
    assert html.startswith("<!DOCTYPE html>")
    assert page.tags["html"] == page.tags["h1"] == page.tags["main"] == 1
    assert page.tags["script"] == 0
    ids = [values["id"] for _, values in page.attributes if "id" in values]
    assert len(ids) == len(set(ids))
    for _, values in page.attributes:
        for reference in ("href", "aria-labelledby"):
            if reference in values:
                assert values[reference].removeprefix("#") in ids


def test_it_needs_nothing_from_anywhere_else(html: str, page: Page) -> None:
    assert "http" not in html
    assert "@import" not in html
    assert "//" not in re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)
    for tag, values in page.attributes:
        assert tag not in ("link", "iframe", "object", "img")
        assert "src" not in values
        assert values.get("href", "#").startswith("#")
    assert set(re.findall(r"url\((.)", html)) == {"#"}


def test_plots_are_described_and_tables_have_headers(page: Page) -> None:
    drawn = [values for tag, values in page.attributes if tag == "svg" and "role" in values]
    assert len(drawn) == 7 + 2  # the functions of the leaderboard, rewards, learning curves
    assert all(values["role"] == "img" and values["aria-label"] for values in drawn)
    assert all(
        "role" in values or "aria-hidden" in values or values["class"] == "interval"
        for tag, values in page.attributes
        if tag == "svg"
    )
    scopes = [values for tag, values in page.attributes if tag == "th"]
    assert scopes
    assert all(values["scope"] in ("col", "row") for values in scopes)


def test_every_variable_of_the_plots_is_defined(html: str) -> None:
    used = set(re.findall(r"var\((--[a-z]+)\)", html))
    light = html[: html.index("prefers-color-scheme: dark")]
    defined = set(re.findall(r"(--[a-z]+):", light))
    assert used <= defined


def test_what_it_says(page: Page) -> None:
    for part in (
        "max(x, sin(x))",
        "68.",
        "It is better than relu(x)",
        "Leaderboard on the test split",
        "ReLU (Nair and Hinton 2010)",
        "Swish / SiLU with trainable beta",
        "loss is nan at step …",
        "undefined or infinite at x = …",
        "population = 20",
        "swish , 1 unit",
        "torch 2.13.0",
        "the function of trial 0",
    ):
        assert part in page.text, part


def test_the_leaderboard_has_ranges_of_ranks_and_marks_baselines(page: Page) -> None:
    board = page.tables[0]
    assert board[0][:3] == ["Rank", "Function", "Accuracy, %"]
    assert len(board) == 8
    assert board[1][0] == "1"
    assert sum("baseline" in line[1] for line in board) == 4
    assert board[-1][0] == "–"
    assert board[-1][2] == "failed"
    assert board[-1][4] == "0 of 5"
    assert re.fullmatch(r"6\d\.\d\d ± 0\.\d\d", board[1][2])


def test_the_comparisons_are_those_of_the_leaderboard(page: Page) -> None:
    material = Material(full_study())
    table = page.tables[1]
    best = material.board[0]["comparisons"]
    assert [cell.removeprefix("above ") for cell in table[0][1:]] == [c["baseline"] for c in best]
    for cell, comparison in zip(table[1][1:], best, strict=True):
        assert points(comparison["difference"]) in cell
        assert p_value(comparison["p"]) in cell
        assert ("✓" in cell) == (comparison["p"] <= 0.05)


def test_failures_are_counted_by_reason() -> None:
    material = Material(full_study())
    [failed] = material.reasons("failed")
    assert failed["reason"] == "loss is nan at step …"
    assert [t["number"] for t in failed["trials"]] == [2, 4]
    assert material.reasons("done")[0]["reason"] == "no reason recorded"


def test_the_ranking_of_the_search_counts_duplicates() -> None:
    ranking = Material(full_study()).ranking
    assert [t["number"] for t in ranking] == [0, 1, 7, 6]
    assert [t["duplicates"] for t in ranking] == [1, 0, 0, 0]


def test_the_same_study_gives_the_same_bytes(tmp_path: Path, html: str) -> None:
    path = write_report(full_study(), tmp_path / "report.html")
    assert path.read_bytes() == html.encode()
    assert list(tmp_path.iterdir()) == [path]


def test_text_of_users_is_escaped() -> None:
    study = full_study(f"runs/{EVIL.replace('/', '')}")
    study.config["task"] = {"name": EVIL, "options": {EVIL: EVIL}}
    study.config["driver"] = {"name": EVIL, "options": {EVIL: [EVIL]}}
    study.config["space"] |= {"name": EVIL, "text": f"</pre>{EVIL}"}
    study.config["versions"][EVIL] = EVIL
    study.stop_reason = EVIL
    study._trials[2] |= {"reason": EVIL}
    study._trials[5] |= {"expression": EVIL, "reason": EVIL}
    html = render(study)
    page = Page(html)
    assert "<script" not in html
    assert page.tags["script"] == 0
    assert EVIL in page.text
    assert "where(x &lt; 0, 0, x)" in html


def test_a_failed_write_leaves_the_earlier_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(SMALL["one seed"], tmp_path / "report.html")
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(FakeStudy(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_matplotlib_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "available", lambda: False)
    page = Page(render(full_study()))
    assert "pip install 'actsearch[plot]'" in page.text
    assert page.tables[0][1][0] == "1"


SMALL = {
    "nothing yet": FakeStudy(status="running", stop_reason=None),
    "nothing at all": FakeStudy(stop_reason="the space is exhausted"),
    "one trial": FakeStudy(trials=[trial(0, "sin(x)", 0.5)], seeds=2),
    "all failed": FakeStudy(
        trials=[trial(i, "exp(exp(x))", state="failed", reason="loss is nan") for i in range(3)]
    ),
    "all excluded": FakeStudy(trials=[trial(0, "1", state="excluded", reason="constant")]),
    "pending": FakeStudy(trials=[trial(0, "x", state="pending")], status="running"),
    "baselines only": FakeStudy(
        baselines=[row(text, {0: 0.6, 1: 0.61}, split="validation") for text in BASELINES],
        status="running",
    ),
    "one seed": FakeStudy(
        trials=[trial(0, "sin(x)", 0.5)],
        retest=[row("sin(x)", {0: 0.5}, trial=0), row("relu(x)", {0: 0.6}), row("mish(x)", {})],
    ),
    "failed re-test": FakeStudy(
        trials=[trial(0, "sin(x)", 0.5)],
        retest=[row("sin(x)", {}, trial=0, failed=5), row("relu(x)", {0: 0.6, 1: 0.7})],
    ),
    "everything equal": FakeStudy(
        trials=[trial(i, f"sin(x) + {i}", 0.5) for i in range(3)],
        retest=[row("sin(x)", {0: 0.5, 1: 0.5}, trial=0), row("relu(x)", {0: 0.5, 1: 0.5})],
    ),
}

SAID = {
    "nothing yet": "No candidate has been trained so far",
    "nothing at all": "No candidate has been trained.",
    "one trial": "There has been no re-test",
    "all failed": "None of the 3 candidates that were trained gave a result",
    "all excluded": "Excluded before training",
    "pending": "This study has not finished",
    "baselines only": "Leaderboard so far",
    "one seed": "With so few seeds it cannot be compared",
    "failed re-test": "None of the best candidates trained from every seed",
    "everything equal": "not shown to be better than any",
}


@pytest.mark.parametrize("name", SMALL)
def test_small_studies_give_sensible_reports(name: str) -> None:
    page = Page(render(SMALL[name]))
    assert SAID[name] in page.text
    for nonsense in ("None%", "nan %", "None ±", "None,", "inf"):
        assert nonsense not in page.text


def test_long_lists_are_cut_and_the_page_says_so() -> None:
    trials = [trial(i, f"x + {i}", i / 2000) for i in range(1200)]
    page = Page(render(FakeStudy(trials=trials, retest=[row("x + 1", {0: 0.5}, trial=1)])))
    assert "200 more are in the run directory" in page.text
    assert max(len(table) for table in page.tables) == 1001


def test_learning_curves_are_medians_at_common_steps() -> None:
    seeds = [[[1, 3.0], [2, 2.0], [3, 0.0]], [[1, 5.0], [2, 1.0], [3, 0.0]], [[2, 9.0], [1, 4.0]]]
    assert typical_curve(seeds) == [(1, 4.0), (2, 2.0)]
    assert typical_curve(seeds[:2]) == [(1, 4.0), (2, 1.5)]
    assert typical_curve([]) == []


def test_numbers_for_people() -> None:
    assert percent(0.61234) == "61.23"
    assert percent(None) == "–"
    assert points(-0.0123) == "−1.23"
    assert points(0.0123) == "+1.23"
    assert p_value(0.0004) == "p\xa0<\xa00.001"
    assert p_value(0.04) == "p\xa0=\xa00.040"
    assert [duration(s) for s in (0.0, 9.96, 42.3, 185, 7800)] == [
        "0.0 s", "10.0 s", "42 s", "3 min 5 s", "2 h 10 min",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search(
        "swish",
        units=1,
        driver="random",
        trials=3,
        retest=1,
        retest_seeds=2,
        baselines=("relu(x)",),
        baseline_seeds=2,
        task_options={"steps": 4},
        run=tmp_path_factory.mktemp("run") / "study",
    )


def test_a_real_study_gives_a_report(study: Study) -> None:
    path = write_report(study)
    assert path == study.run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "Leaderboard on the test split" in page.text
    assert "Better than the baselines?" in page.text
    assert "Learning curves" in page.text


def test_made_up_studies_have_the_form_of_real_ones(study: Study) -> None:
    fake = full_study()
    assert fake.leaderboard()[0].keys() == study.leaderboard()[0].keys()
    assert fake.baselines()[0].keys() <= study.baselines()[0].keys()
    assert fake.trials()[0].keys() == study.trials()[0].keys()
    assert fake.trainings("retest")[0].keys() <= study.trainings("retest")[0].keys()
    assert fake.counts.keys() == study.counts.keys()
    assert fake.config.keys() <= study.config.keys()
