"""The benchmarks: their arithmetic against simulation, and the rows that they print."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actsearch.bench import kernels
from actsearch.bench.drivers import (
    HiddenFunction,
    TabulatedBest,
    _bootstrap,
    _median,
    _wilson,
    play,
)
from actsearch.cli import main
from actsearch.counts import natural
from actsearch.drivers import driver
from actsearch.grammar import SearchSpace
from actsearch.tasks.tables import Table

TINY = """
start: unit
unit: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
unary: "x" -> identity | "sin(x)" -> sin | "cos(x)" -> cos | "exp(x)" -> exp
"""


@pytest.fixture
def tiny() -> SearchSpace:
    return SearchSpace(TINY, "tiny")


@pytest.fixture
def made(tiny: SearchSpace) -> Table:
    """Thirty-two candidates; two are one class, one is excluded, one failed from a seed."""
    rng = random.Random(0)
    classes = [0, 0, -1, *range(1, 30)]
    metrics: list[tuple[float | None, ...]]
    metrics = [tuple(rng.random() for _ in range(4)) for _ in range(30)]
    metrics[5] = (0.99, None, 0.99, 0.99)
    candidates = tuple(str(tiny.expression(k)) for k in range(tiny.count()))
    losses = tuple((1.0,) * 4 for _ in metrics)
    return Table("tiny", candidates, tuple(classes), {2: "-"}, (0, 1, 2, 3), tuple(metrics), losses)


def test_the_floor_is_the_median_of_random_search(made: Table) -> None:
    """By 20,000 simulated orders; random search itself comes to it, too."""
    problem = TabulatedBest(made, 3)
    rng = random.Random(1)
    firsts = []
    for _ in range(20_000):
        order = rng.sample(range(len(made)), len(made))
        firsts.append(next(k for k, number in enumerate(order, 1) if number in problem.targets))
    firsts.sort()
    floor = problem.floor()
    assert sum(first <= floor for first in firsts) >= 0.49 * len(firsts)
    assert sum(first <= floor - 1 for first in firsts) < 0.51 * len(firsts)


def test_a_run_counts_evaluations_and_not_proposals(tiny: SearchSpace, made: Table) -> None:
    problem = TabulatedBest(made, 1)
    run = play(driver("exhaustive", tiny), problem, 0, 100, 4)
    assert sum(run.new) == len(run.regrets) == 30
    assert [k for k, new in enumerate(run.new) if not new] == [1, 2]
    (target,) = problem.targets
    assert run.hit == target + 1
    assert target != 5, "a class that failed from a seed is no target"
    assert all(regret >= 0 for regret in run.regrets)


def test_a_run_reads_one_seed_a_query(made: Table) -> None:
    problem = TabulatedBest(made, 1)
    for number in range(len(made)):
        read = {problem.reward(number, seed) for seed in range(60)}
        assert read == set(made.metrics[number])
        assert problem.reward(number, 7) == problem.reward(number, 7)


def test_a_hidden_function_is_found_once_under_all_its_names(tiny: SearchSpace) -> None:
    problem = HiddenFunction("x*sin(x)", tiny)
    run = play(driver("exhaustive", tiny), problem, 0, 100, 4)
    names = [tiny[k] for k in range(tiny.count())]
    first = names.index("mul(x, sin(x))")
    assert run.hit == 1 + sum(run.new[:first])
    assert run.regrets[-1] == 0.0
    assert sum(run.new) == 18, "both are symmetric, and exp(x) is the larger of x, sin(x) and it"
    wide = HiddenFunction("2*x", tiny)
    number = wide.number(names.index("max(x, x)"))
    assert wide.regret(number) == pytest.approx(1.0, abs=0.02), "the deviation of x ~ N(0, 1)"
    assert wide.reward(number, 0) == pytest.approx(0.5, abs=0.01)


def test_intervals() -> None:
    low, high = _wilson(30, 30)
    assert (low, high) == pytest.approx((0.8865, 1.0), abs=1e-4)
    assert _wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert _median([3, 1, 2]) == 2
    assert _median([math.inf, 1, 2, 4]) == 3
    values = random.Random(0).choices(range(100), k=30)
    low, high = _bootstrap(values)
    assert low < _median(values) < high


def test_bench_drivers_prints_its_rows(
    made: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.save(tmp_path / "tiny.json.xz")
    (tmp_path / "tiny.lark").write_text(TINY)
    words = ["bench", "drivers", "--table", str(tmp_path / "tiny.json.xz"), "--units", "1"]
    words += ["--space", str(tmp_path / "tiny.lark"), "--seeds", "5", "--evaluations", "20"]
    assert main([*words, "--driver", "random", "--driver", "evolution", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["case"] for row in rows] == ["random", "evolution"]
    assert all({"ours", "floor", "ratio", "hits", "new"} <= row.keys() for row in rows)
    assert main([*words, "--driver", "random"]) == 0
    assert capsys.readouterr().out.startswith("case")
    assert main(["bench", "drivers", "--table", str(tmp_path / "tiny.json.xz")]) == 2
    words = ["bench", "drivers", "--hidden", "x*sin(x)", "--space", str(tmp_path / "tiny.lark")]
    words += ["--units", "1", "--seeds", "2", "--evaluations", "20", "--driver", "random"]
    assert main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["hits"] == "2/2"
    assert row["floor"] is None
    assert main(["bench", "driver"]) == 2
    assert "did you mean 'drivers'" in capsys.readouterr().err


def test_bench_queue_counts_what_is_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "queue", "--pairs", "20", "--folder", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["case"].split(",")[1] for row in rows} == {
        f" {batch} a transaction" for batch in (1, 8, 64)
    }
    assert all(row["ours"] > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []


# kernels


def test_the_peak_is_what_is_held_at_a_time() -> None:
    """Of three tensors in turn two; the sum of all would be 12,000 bytes."""
    peak = kernels._peak(lambda: torch.ones(1000).add(1).mul(2), torch.device("cpu"))
    assert 8_000 <= peak < 9_000


def test_rows_of_kernels_count_the_memory_that_they_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Values, then gradients: what a formula must allocate and no more; nothing is saved."""
    arguments = "--elements 65536 --rounds 2 --without script compiled --json"
    assert main(["bench", "kernels", "x*sigmoid(beta*x)", *arguments.split()]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["case"].rpartition(", ")[2] for row in rows] == ["forward", "forward+backward"]
    for row, bytes_an_element in zip(rows, (4, 8), strict=True):
        assert row["ratio"] == pytest.approx(row["ours"] / row["floor"])
        assert row["eager"] > 0
        assert row["script"] is row["compiled"] is row["native"] is None
        if row["backend"] == "cpu":
            assert row["saved"] == 0
            assert row["peak"] == pytest.approx(bytes_an_element, rel=0.02)


@pytest.mark.parametrize(
    ("benchmark", "option", "least"),
    [
        *(("kernels", option, 1) for option in ("--random", "--elements", "--rounds")),
        *(("drivers", option, 1) for option in ("--seeds", "--evaluations", "--top", "--window")),
        *((name, "--units", 1) for name in ("drivers", "dedup")),
        ("dedup", "--names", 0),
        ("queue", "--pairs", 1),
    ],
)
def test_counts_are_whole_and_large_enough(
    benchmark: str, option: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (f"{least - 1}", "-1e3", "2.5", "inf", "nan"):
        with pytest.raises(SystemExit, match="2"):
            main(["bench", benchmark, f"{option}={value}"])
        expected = f"argument {option}: expected a whole number from {least} up, not {value}"
        assert expected in capsys.readouterr().err


@given(st.integers(0, 10**30))
def test_counts_are_read_as_written(count: int) -> None:
    assert natural(str(count)) == count
    assert natural(f"{count % 10**6}e3") == count % 10**6 * 1000
