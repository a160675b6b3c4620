"""Leaderboards: rows with ranges of ranks, and how they look in a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from actsearch.report import leaderboard_rows, ranked, render_leaderboard
from actsearch.report.leaderboard import beaten, rank_text
from tests.actsearch.fake_study import FakeStudy, full_study, row


def spread(mean: float, step: float = 0.001) -> dict[int, float]:
    return {seed: mean + step * offset for seed, offset in enumerate((-2, 1, 0, 2, -1))}


def shown(rows: list[dict[str, Any]], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    with console.capture() as capture:
        console.print(render_leaderboard(rows))
    return capture.get()


def test_clear_differences_are_ranked_and_ties_are_not() -> None:
    jitter = {0: 0.601, 1: 0.599, 2: 0.602, 3: 0.598, 4: 0.6}
    rows = ranked(
        [
            row("relu(x)", spread(0.5)),
            row("sin(x)", spread(0.6), trial=1),
            row("cos(x)", jitter, trial=2),
            row("x**2", spread(0.7, 0.0015), trial=3),
        ]
    )
    assert [r["expression"] for r in rows][0::3] == ["x**2", "relu(x)"]
    assert [r["ranks"] for r in rows] == [[1, 1], [2, 3], [2, 3], [4, 4]]
    assert [r["group"] for r in rows] == [1, 2, 2, 3]
    assert [rank_text(r) for r in rows] == ["1", "2–3", "2–3", "4"]
    assert all("rank" not in r for r in rows)
    assert all(beaten(r) == ["relu(x)"] for r in rows[:3])
    json.dumps(rows)


def test_comparisons_with_the_baselines() -> None:
    candidate, baseline = {1: 0.63, 2: 0.60, 3: 0.65}, {1: 0.60, 2: 0.61, 3: 0.60}
    rows = ranked([row("sin(x)", candidate, trial=0), row("relu(x)", baseline)])
    [found] = rows[0]["comparisons"]
    expected = stats.ttest_rel(
        list(candidate.values()), list(baseline.values()), alternative="greater"
    )
    assert found["baseline"] == "relu(x)"
    assert found["test"] == "paired"
    assert found["difference"] == pytest.approx(0.07 / 3)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert rows[1]["comparisons"] == []
    assert beaten(rows[0]) == []


def test_p_values_are_corrected_for_all_comparisons() -> None:
    def summary(expression: str, mean: float, trial: int | None = None) -> dict[str, Any]:
        return row(expression, spread(mean, 0.01), trial=trial) | {"metrics": {}}

    one = ranked([summary("sin(x)", 0.62, trial=0), summary("relu(x)", 0.6)])
    [alone] = one[0]["comparisons"]
    baselines = [summary("relu(x)", 0.6), summary("silu(x)", 0.62), summary("mish(x)", 0.7)]
    three = ranked([summary("sin(x)", 0.62, trial=0), *baselines])
    corrected = {c["baseline"]: c["p"] for r in three for c in r["comparisons"]}
    assert corrected["relu(x)"] == pytest.approx(3 * alone["p"])
    assert corrected["silu(x)"] == pytest.approx(2 * 0.5)
    assert corrected["mish(x)"] == 1.0


def test_a_function_that_failed_from_a_seed_has_no_rank() -> None:
    rows = ranked(
        [
            row("x**3", {0: 0.9, 1: 0.9}, trial=0, failed=3),
            row("relu(x)", spread(0.5)),
            row("exp(x)", {}, trial=1, failed=5),
        ]
    )
    assert [r["expression"] for r in rows] == ["relu(x)", "x**3", "exp(x)"]
    assert [r["ranks"] for r in rows] == [[1, 1], None, None]
    assert rank_text(rows[2]) == "–"
    text = shown(rows)
    assert "2 of 5" in text
    assert "failed" in text


def test_nothing_is_proved_by_what_the_candidates_were_chosen_for() -> None:
    rows = ranked(
        [
            row("sin(x)", spread(0.9), trial=0, split="validation"),
            row("relu(x)", spread(0.5), split="validation"),
            row("silu(x)", {0: 0.40, 1: 0.41, 2: 0.40, 3: 0.41, 4: 0.41}, split="validation"),
        ]
    )
    assert [r["ranks"] for r in rows] == [[1, 3], [1, 2], [2, 3]]
    assert {r["group"] for r in rows} == {1}
    assert all(c["p"] is None for c in rows[0]["comparisons"])
    assert "prove no order" in " ".join(shown(rows).split())


def test_rows_without_metrics_fall_back_on_their_summaries() -> None:
    rows = [row("sin(x)", spread(0.7), trial=0), row("relu(x)", spread(0.5))]
    for found in rows:
        del found["metrics"]
    [comparison] = ranked(rows)[0]["comparisons"]
    assert comparison["test"] == "Welch"
    assert comparison["p"] < 1e-6


def test_an_empty_leaderboard() -> None:
    assert leaderboard_rows(FakeStudy()) == []
    assert "rank" in shown([])


def test_the_terminal_shows_what_the_rows_say() -> None:
    text = shown(leaderboard_rows(full_study()))
    lines = text.splitlines()
    assert "test accuracy" in lines[1]
    assert "search" in lines[1]
    assert "better than" in lines[1]
    best = next(line for line in lines if "max(x, sin(x))" in line)
    assert best.strip().startswith("1 ")
    assert "relu(x)" in text.split("max(x, sin(x))")[1]
    assert sum("baseline" in line for line in lines) == 4
    assert "±" in best
    assert max(map(len, lines)) <= 100


def test_rows_of_a_comparison_need_no_candidates() -> None:
    text = shown(ranked([row("relu(x)", spread(0.5)), row("silu(x)", {0: 0.6})]))
    assert "better than" not in text
    assert "baseline" not in text


def test_text_of_users_is_no_markup() -> None:
    text = shown(ranked([row("[red]x[/red]", spread(0.5), trial=0)]))
    assert "[red]x[/red]" in text


@pytest.mark.parametrize("width", [40, 60])
def test_narrow_terminals_fold_the_functions(width: int) -> None:
    text = shown(leaderboard_rows(full_study()), width)
    assert max(map(len, text.splitlines())) <= width
