"""The paper's findings on made-up studies: planted effects are found, and nothing else is."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from actsearch.grammar import parse, space
from actsearch.report.findings import (
    ALL,
    Candidate,
    _correlation_interval,
    _superiority,
    _superiority_interval,
    bounded_away,
    candidates_of,
    complexity,
    findings,
    is_gate_of_x,
    is_periodic,
    operator_table,
    operators_of,
)
from actsearch.report.html import render
from tests.actsearch.fake_study import FakeStudy, full_study, row, trial
from tests.actsearch.test_report_html import Page

SWISH = space("swish", units=1)
SAMPLE = [SWISH.expression(k) for k in SWISH.sample_indices(300, 0)]


def study_of(reward: Any, seed: int = 0, noise: float = 1.0) -> list[Candidate]:
    rng = random.Random(seed)
    return [Candidate(e, reward(e) + rng.gauss(0, noise)) for e in SAMPLE]


@pytest.mark.parametrize(
    ("text", "gate", "periodic"),
    [
        ("x*sigmoid(x)", True, False),
        ("max(x, 0)", True, False),
        ("sin(x) - x", True, True),
        ("x*3", False, False),
        ("x + _", False, False),
        ("x**2", False, False),
        ("tanh(x)*sigmoid(x)", False, False),
        ("exp(-x**2)", False, False),
        ("sinc(x)*x", True, False),
        ("x", False, False),
    ],
)
def test_what_counts_as_what(text: str, gate: bool, periodic: bool) -> None:
    assert is_gate_of_x(parse(text)) == gate
    assert is_periodic(parse(text)) == periodic


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("x/cosh(x)", True),
        ("x/(x + 1e-7)", False),
        ("x/(sin(x) + 1e-7)", False),
        ("sin(x)/(2 + cos(x))", True),
        ("1/x + x/cosh(x)", False),
        ("x/2", True),
    ],
)
def test_denominators(text: str, away: bool) -> None:
    assert bounded_away(parse(text)) == away


def test_the_effect_is_the_share_of_pairs_that_are_won() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40).astype(float), rng.integers(1, 11, 30).astype(float)
    pairs = [(x > y) + 0.5 * (x == y) for x in a for y in b]
    assert _superiority(a, b) == pytest.approx(fmean(pairs))


@pytest.mark.parametrize("shift", [0.0, 0.8, 2.0])
def test_the_intervals_hold_the_truth_as_often_as_they_say(shift: float) -> None:
    """95 % of 400 simulated pairs of groups, within three standard deviations of that count."""
    rng = np.random.default_rng(1)
    truth = NormalDist().cdf(shift / 2**0.5)
    held = 0
    for _ in range(400):
        low, high = _superiority_interval(rng.normal(shift, 1, 40), rng.normal(0, 1, 60))
        held += low <= truth <= high
    assert abs(held - 380) <= 3 * (400 * 0.95 * 0.05) ** 0.5


def test_the_interval_of_the_correlation() -> None:
    """Of normal pairs with correlation r, Spearman's is (6/π) asin(r/2)."""
    rng = np.random.default_rng(2)
    truth, held = 6 / math.pi * math.asin(0.25), 0
    for _ in range(300):
        x, noise = rng.normal(size=(2, 80))
        low, high = _correlation_interval(
            float(spearmanr(x, 0.5 * x + 0.75**0.5 * noise).statistic), 80
        )
        held += low <= truth <= high
    assert abs(held - 285) <= 3 * (300 * 0.95 * 0.05) ** 0.5


def test_planted_effects_are_found_with_their_sign() -> None:
    everything = study_of(
        lambda e: 2.0 * is_gate_of_x(e) - 2.0 * is_periodic(e) - 0.5 * complexity(e)
    )
    simple, gate, periodic, division, _ = findings(everything)
    assert simple.verdict == gate.verdict == "holds here"
    assert periodic.verdict == "the opposite holds here"
    assert gate.effect is not None
    assert gate.interval is not None
    assert 0.5 < gate.interval[0] <= gate.effect <= gate.interval[1] <= 1
    assert simple.effect is not None
    assert simple.effect < 0
    assert sum(gate.counts) == len(SAMPLE)
    assert division.p is not None


def test_failures_rank_below_everything() -> None:
    """Most of what divides fails, and what does not is as good as the others."""
    rng = random.Random(1)
    trained = [
        Candidate(
            e, None if "/" in str(e) and "x" in str(e) and rng.random() < 0.7 else rng.random()
        )
        for e in SAMPLE
    ]
    division = findings(trained)[3]
    assert division.verdict == "holds here"
    assert division.failed[0] > 10
    assert division.failed[1] <= sum("/" in str(c.expression) for c in trained)


def test_of_pure_noise_little_is_claimed() -> None:
    """Five claims a study, corrected together: of 30 studies at most 5 claim any (p < 0.005)."""
    claimed = 0
    for seed in range(30):
        found = findings(study_of(lambda e: 0.0, seed)[:90])
        claimed += any(f.verdict in ("holds here", "the opposite holds here") for f in found)
    assert claimed <= 5


def test_too_little_data_is_said_to_be() -> None:
    few = study_of(lambda e: 10.0 * is_gate_of_x(e))[:12]
    assert {finding.verdict for finding in findings(few)} == {"not enough data"}
    assert all(finding.p is None for finding in findings(few))
    assert findings([])[0].verdict == "not enough data"
    constant = [Candidate(e, 0.5) for e in SAMPLE]
    assert not {f.verdict for f in findings(constant)} & {"holds here", "the opposite holds here"}


def test_the_operator_table_averages_what_holds_both() -> None:
    trained = study_of(lambda e: 1.0)
    table = operator_table(trained)
    assert table is not None
    assert table.columns[-1] == table.rows[-1][0] == ALL
    for name, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            values = [
                c.reward
                for c in trained
                if c.reward is not None
                and {name, column} - {ALL} <= set(operators_of(c.expression))
            ]
            if cell is None:
                assert not values
            else:
                assert cell[0] == pytest.approx(fmean(values))
                assert cell[1] == len(values)
                assert 0 <= cell[2] <= 1
    assert operator_table([]) is None


def test_with_rungs_the_first_one_is_compared() -> None:
    """What was promoted has more steps, and would look better for that alone."""
    promoted = trial(0, "sin(x)", 0.9) | {
        "rung": 1,
        "trainings": [{"rung": 0, "metric": 0.5}, {"rung": 1, "metric": 0.9}],
    }
    broken = trial(1, "exp(x)", state="failed") | {"trainings": [{"rung": 0, "metric": None}]}
    others = [trial(2, "cos(x)", 0.4), trial(3, "x", state="reused", source=0)]
    assert [c.reward for c in candidates_of([promoted, broken, *others])] == [0.5, None, 0.4]


def test_the_report_shows_findings_and_heat_map() -> None:
    trials = [
        trial(k, str(expression), 0.5 + 0.1 * is_gate_of_x(expression) + k / 1e4)
        for k, expression in enumerate(SAMPLE)
    ]
    page = Page(render(FakeStudy(trials=trials, retest=[row("x + 1", {0: 0.5}, trial=1)])))
    assert "What good functions have in common" in page.text
    assert "holds here" in page.text
    assert "no random samples of the space" in page.text
    (heat,) = [table for table in page.tables if table[0][0] == "with"]
    assert heat[-1][0] == ALL
    assert heat[-1][-1].endswith("300")


def test_the_report_says_what_a_function_stands_for() -> None:
    study = full_study()
    study._trials.append(trial(8, "relu(x) + 0", 0.6) | {"baseline": "relu(x)"})
    page = Page(render(study))
    assert "stands for 1 more proposal , proved equal" in page.text.replace(
        "proposal,", "proposal ,"
    )
    assert "max(sin(x), x)" in page.text
    assert "relu(x) + 0" in page.text
