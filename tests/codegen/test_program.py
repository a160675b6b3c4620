"""Programs: straight-line code after common-subexpression elimination."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from actsearch.codegen import program
from actsearch.codegen.programs import DY, Earlier, Routine, lower, weight
from actsearch.codegen.targets.base import Renderer, variable_names
from actsearch.grammar import Expression, Input, Number, named_activations, parse
from actsearch.grammar.evaluate import apply_numpy, evaluate
from actsearch.grammar.operators import OPERATORS
from tests.codegen import golden

SHOWN = {
    "relu": "relu(x)",
    "swish": "x*sigmoid(beta*x)",
    "gelu": "x*erfc(-x/sqrt(2))/2",
    "power": "x**3 + x**-2 + x**1.5",
    "swiglu": "x*(gate*sigmoid(gate))",
    "constant": "2*pi",
}


@pytest.mark.parametrize("name", SHOWN)
def test_listing(name: str) -> None:
    golden.check(f"{name}.program", str(program(parse(SHOWN[name]))) + "\n")


def run(routine: Routine, values: dict[Expression, Any]) -> list[np.ndarray]:
    """Execute the steps of a routine, one after the other."""
    done: list[np.ndarray] = []

    def read(operand: Any) -> Any:
        if isinstance(operand, Earlier):
            return done[operand.step]
        return values[operand] if isinstance(operand, Expression) else np.float64(operand)

    with np.errstate(all="ignore"):
        for step in routine.steps:
            done.append(apply_numpy(step.operator, *map(read, step.operands)))
    return [np.asarray(read(result)) for result in routine.results]


@pytest.mark.parametrize("name", sorted(named_activations()))
def test_the_steps_compute_value_and_gradient(name: str) -> None:
    expression = named_activations()[name].expression
    compiled = program(expression)
    x = np.linspace(-2.9, 3.1, 25)
    values: dict[Expression, Any] = {p: p.initial * 1.1 for p in expression.parameters}
    values |= {Input("x"): x, Input("gate"): x[::-1] / 2, DY: 1.0}
    named = {leaf.name: values[leaf] for leaf in compiled.variables}
    named = {n: v for n, v in named.items() if n == "x" or n in str(expression)}
    (y,) = run(compiled.forward, values)
    expected = evaluate(expression, named)
    np.testing.assert_allclose(np.broadcast_to(y, x.shape), expected, rtol=1e-12, atol=1e-14)

    step = 1e-6
    for variable, slope in zip(compiled.variables, run(compiled.backward, values), strict=True):
        higher = run(compiled.forward, values | {variable: values[variable] + step})[0]
        lower_ = run(compiled.forward, values | {variable: values[variable] - step})[0]
        np.testing.assert_allclose(slope, (higher - lower_) / (2 * step), rtol=1e-4, atol=1e-6)


def test_double_backward_is_the_gradient_of_backward() -> None:
    compiled = program(parse("x*sigmoid(beta*x)*gate"))
    rng = np.random.default_rng(0)
    values: dict[Expression, Any] = {
        leaf: rng.normal(size=7) for leaf in compiled.double_backward.arguments
    }

    def weighted(changed: dict[Expression, Any]) -> Any:
        slopes = run(compiled.backward, values | changed)
        return sum(s * values[weight(v)] for s, v in zip(slopes, compiled.variables, strict=True))

    found = run(compiled.double_backward, values)
    step = 1e-6
    for variable, derivative in zip((DY, *compiled.variables), found, strict=True):
        up = weighted({variable: values[variable] + step})
        down = weighted({variable: values[variable] - step})
        np.testing.assert_allclose(derivative, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_equal_parts_are_one_step() -> None:
    compiled = program(parse("sin(x)*cos(x) + cos(x)*sin(x) + tanh(x*2)*tanh(2*x)"))
    operators = [step.operator for step in compiled.forward.steps]
    assert operators.count("sin") == operators.count("cos") == operators.count("tanh") == 1


@pytest.mark.parametrize(
    ("text", "lowered"),
    [
        ("x**2", "x*x"),
        ("x**3", "x*(x*x)"),
        ("x**4", "x*x*(x*x)"),
        ("x**-1", "1/x"),
        ("x**0.5", "sqrt(x)"),
        ("x**-0.5", "1/sqrt(x)"),
        ("x**1.5", "x*sqrt(x)"),
        ("x**0", "1"),
        ("x**0.3", "x**0.3"),
        ("x**beta", "x**beta"),
        ("x*(1/4)", "x*0.25"),
        ("where(pi > 3, x, log(x))", "x"),
        ("where(2 < 1, x, 1/4)", "0.25"),
    ],
)
def test_lowering(text: str, lowered: str) -> None:
    assert str(lower(text)) == lowered


def test_constants_are_correctly_rounded() -> None:
    found = lower("2/sqrt(pi)*x").arguments[0]
    assert isinstance(found, Number)
    assert float(found.value) == 1.1283791670955126


def test_constants_without_a_value() -> None:
    (result,) = program(parse("log(0)")).forward.results
    assert result == -math.inf
    (result,) = program(parse("log(-1)")).forward.results
    assert isinstance(result, float)
    assert math.isnan(result)


def test_a_step_is_not_taken_for_a_number() -> None:
    # x*x is step 1 here, and 1 == 1.0 in Python
    (y,) = run(program(parse("x + 1/(x - 2) + x*x/(x - 2)")).forward, {Input("x"): 5.0})
    assert y == 5 + 1 / 3 + 25 / 3


@pytest.mark.parametrize(
    ("text", "is_total"),
    [
        ("x/(1 + x**2)", True),
        ("x/(abs(x) + eps)", True),
        ("log(exp(x) + 1e-7)", True),
        ("sqrt(abs(x))", True),
        ("x/beta", True),  # a number of the user's, which no rounding changes
        ("x/(x + eps)", False),
        ("log(x*x)", False),
        ("1/sqrt(abs(x))", False),  # infinite for subnormal numbers
        ("sqrt(min(x, beta))", True),
        ("log(max(-x, 0))", True),
        ("log(max(x, 1e-50))", False),  # 0 in float32
        ("acos(max(x, -3))", True),
        ("1/sqrt(x + beta)", False),
        ("acos(sqrt(x))", False),  # of a number a little more than 1
        ("x**beta", True),
        ("x**(0.1*beta)", False),
        ("sqrt(1 - x**2)", False),
    ],
)
def test_which_steps_may_leave_their_domain(text: str, is_total: bool) -> None:
    assert program(parse(text)).forward.is_total == is_total


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("sqrt(x)/(x + eps)", ["sqrt"]),
        ("sin(log(-x)) + 1/(x - 2)", ["log"]),
        ("sqrt(x - 1) + 1/(x - 2)", []),  # rounding decides
        ("where(x > 1, sqrt(x), log(-x)) + 1/(x - 2)", []),  # one of them is always undefined
        ("where(x > 1, sqrt(x), sqrt(x)*x) + 1/(x - 2)", ["sqrt"]),
        ("where(sqrt(x) > 1, x, x**2) + 1/(x - 2)", []),  # but it decides: see below
        ("where(beta*x > 3.4028234663852886e38, x, sqrt(x)) + 1/(x - 2)", []),
        ("tanh(x*x)/(x*x)/3", []),  # which is 0/0 where x*x is 0
    ],
)
def test_steps_that_are_nan_where_the_function_is_undefined(
    text: str, operators: list[str]
) -> None:
    routine = program(parse(text)).forward
    (result,) = routine.results
    assert isinstance(result, Earlier)
    found = routine.undefined[result.step]
    assert [routine.steps[place].operator for place in found] == operators


def test_steps_that_make_conditions_compare_what_is_undefined() -> None:
    routine = program(parse("where(sqrt(x) > 1, x, x**2) + log(x)")).forward
    (result,) = routine.results
    assert isinstance(result, Earlier)
    found = sorted(routine.unfounded[result.step])
    assert [routine.steps[place].operator for place in found] == ["sqrt", "log"]


def test_only_arguments_are_read() -> None:
    compiled = program(parse("x*sigmoid(beta*x)"))
    assert [str(a) for a in compiled.backward.arguments] == ["∂y", "x", "beta"]
    assert compiled.backward.outputs == ("x", "beta")


def test_names_do_not_clash() -> None:
    expression = parse("x*dy + wx*t1 + dx*torch")
    names = variable_names(program(expression), {"torch"})
    assert len(set(names.values())) == len(names)
    assert "torch" not in names.values()


def test_a_target_without_a_line_fails_by_name() -> None:
    functions = {name: f"{name}({{a}})" for name in OPERATORS if name != "softplus"}
    with pytest.raises(NotImplementedError, match=r"'half done' has no code for softplus"):
        type("HalfDone", (Renderer,), {"name": "half done", "functions": functions})


def test_a_program_is_computed_once() -> None:
    assert program(parse("x*tanh(x)")) is program(parse("x*tanh(x)"))
