"""Constraints prune before training, and say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from actsearch.analysis import kernel_cost, training_cost
from actsearch.cli import main
from actsearch.codegen import gradient
from actsearch.grammar import Expression, parse
from actsearch.grammar.errors import UsageError
from actsearch.studies.constraints import check_constraints, violated
from actsearch.studies.study import search
from tests.actsearch.synthetic_study import begun, settings


def has_no_sine(expression: Expression) -> bool:
    return "sin(" not in str(expression)


@pytest.mark.parametrize(
    ("text", "constraint", "reason"),
    [
        ("x*sigmoid(x)", "monotone", "not monotone"),
        ("tanh(x)", "monotone", None),
        ("tanh(x)", "bounded", None),
        ("relu(x)", "bounded", "not bounded"),
        ("relu(x)", "smooth", "not smooth"),
        ("x**2", "even", None),
        ("x**3", "even", "not even"),
        ("x**3", "odd", None),
        ("where(x > 0, 1, x)", "continuous", "not continuous"),
        ("beta*x + gamma", "parameters<=1", "parameters is 2, not <= 1"),
        ("beta*x", "parameters <= 1", None),
        ("sin(x)", "operators>=2", "operators is 1, not >= 2"),
        ("2*tanh(x)", "lipschitz<=2", None),
        ("exp(x)", "lipschitz<=100", "lipschitz is inf, not <= 100"),
        ("log(abs(x))", "defined", "not defined"),
        ("sqrt(x**2 + 1)", "defined", None),
        ("sin(x)/x", "defined", None),
        ("x*sigmoid(x)", "memory<=4", None),
        ("x*sigmoid(gate)", "memory<=4", "memory is 8, not <= 4"),
        ("relu(x)", "training_cost<=5", None),
        ("x + sin(x)", f"{__name__}:has_no_sine", f"not {__name__}:has_no_sine"),
        ("x", f"{__name__}:has_no_sine", None),
    ],
)
def test_constraints(text: str, constraint: str, reason: str | None) -> None:
    assert violated(parse(text), [constraint]) == reason


def test_the_cost_counts_shared_parts_once() -> None:
    once = kernel_cost(parse("exp(x)"))
    assert kernel_cost(parse("exp(x)*exp(x)")) - once == kernel_cost(parse("x*x"))
    assert kernel_cost(parse("x")) == 0


def test_training_costs_both_passes() -> None:
    for text in ("x*sigmoid(beta*x)", "max(x, tanh(x))", "exp(-x**2)", "x*sigmoid(gate)"):
        expression = parse(text)
        slopes = gradient(expression).values()
        dearest = max(map(kernel_cost, slopes))
        backward = training_cost(expression) - kernel_cost(expression)
        assert dearest <= backward <= sum(map(kernel_cost, slopes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("monoton", "did you mean 'monotone'"),
        ("costs<=3", "did you mean 'cost'"),
        ("cost<=cheap", "is no number"),
        ("no_such_module:f", "no constraint"),
        ("math:pi", "is not a function"),
        ("cost", "such as cost<=12"),
    ],
)
def test_what_is_no_constraint(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_constraints([text])


def test_a_search_trains_only_what_keeps_them(tmp_path: Path) -> None:
    options = {"trials": 10, "require": ["cost<=25", "parameters<=0"], "retest": 0}
    study = search("swish", **settings(tmp_path / "run", tmp_path / "log", **options))
    states = {trial["state"] for trial in study.trials()}
    assert "excluded" in states
    for trial in study.trials():
        expression = parse(trial["expression"])
        if trial["state"] == "done":
            assert kernel_cost(expression) <= 25
            assert not expression.parameters
    trained = {facts[0] for facts in begun(tmp_path / "log")} - {"relu(x)"}
    assert all(not parse(text).parameters for text in trained)
    assert study.config["require"] == ["cost<=25", "parameters<=0"]


def test_the_command_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "swish", "--require", "cheap"]) == 2
    assert "no constraint 'cheap'" in capsys.readouterr().err
