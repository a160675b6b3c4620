"""Gradients agree with mpmath's numerical derivative, with sympy, and with torch's autograd."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import mpmath
import pytest
import torch

from actsearch.codegen import gradient
from actsearch.codegen.programs import program
from actsearch.codegen.targets import TARGETS
from actsearch.grammar import (
    OPERATORS,
    Expression,
    Input,
    Parameter,
    call,
    named_activations,
    parse,
)
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.operators import COMPARISONS
from actsearch.grammar.search_space import space
from actsearch.grammar.symbolic import to_sympy

POINTS = (-2.375, -0.71, 0.43, 1.9)
DOMAIN_POINTS = {  # inside of the domains that POINTS are not in
    **dict.fromkeys(["sqrt", "log", "pow"], (0.3, 1.7)),
    **dict.fromkeys(["asin", "acos", "atanh"], (-0.6, 0.3)),
    "acosh": (1.4, 3.0),
    "log1p": (-0.5, 2.0),
}
DIGITS = 60


def leaves(expression: Expression) -> list[Input | Parameter]:
    return [*expression.inputs, *expression.parameters]


def at(expression: Expression, values: dict[str, Any]) -> mpmath.mpf:
    known = {leaf.name for leaf in leaves(expression)} | {"x"}
    given = {name: value for name, value in values.items() if name in known}
    return evaluate(expression, given, backend="mpmath", digits=DIGITS)[()]


def check_gradient(expression: Expression, values: dict[str, Any], order: int = 2) -> int:
    """Compare every derivative with mpmath's numerical one; how many were compared."""
    compared = 0
    if not mpmath.isfinite(at(expression, values)):
        return 0  # outside of the domain
    slopes = gradient(expression)
    for leaf in leaves(expression):
        symbolic = at(slopes[leaf.name], values)

        def along(t: Any, name: str = leaf.name) -> mpmath.mpf:
            return at(expression, values | {name: t})

        with mpmath.workdps(DIGITS):
            numeric = mpmath.diff(along, values[leaf.name], h=mpmath.mpf(10) ** -20)
            if not mpmath.isfinite(numeric):
                assert not mpmath.isfinite(symbolic)
                continue
            scale = max(abs(numeric), abs(along(values[leaf.name])) * mpmath.mpf(10) ** -8)
            error = abs(numeric - symbolic)
            assert error <= scale * mpmath.mpf(10) ** -12 + mpmath.mpf(10) ** -15, (
                f"d/d{leaf.name} of {expression} at {values}: {symbolic} against {numeric}"
            )
        compared += 1
        if order > 1:
            compared += check_gradient(slopes[leaf.name], values, order - 1)
    return compared


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - COMPARISONS))
def test_every_operator(name: str) -> None:
    operator = OPERATORS[name]
    names = ["x", "beta", "gamma"][: operator.arity]
    operands: list[Expression] = [Input("x"), Parameter("beta"), Parameter("gamma")]
    operands = operands[: operator.arity]
    if name == "where":
        operands[0] = call("lt", Input("x"), Parameter("beta"))
        names = ["x", "beta", "gamma"]
    expression = call(name, *operands)
    for point in DOMAIN_POINTS.get(name, POINTS):
        values = dict(zip(["x", "beta", "gamma"], (point, 0.83, -1.31), strict=True))
        check_gradient(expression, {n: values[n] for n in names})


@pytest.mark.parametrize("name", sorted(named_activations()))
def test_every_named_activation(name: str) -> None:
    expression = named_activations()[name].expression
    values: dict[str, Any] = {p.name: p.initial for p in expression.parameters}
    compared = 0
    for point in POINTS:
        compared += check_gradient(expression, values | {"x": point, "gate": 0.6})
    assert compared


def test_random_two_unit_expressions() -> None:
    rng = random.Random(7)
    compared = 0
    for text in space("swish", units=2).sample(500, seed=3):
        expression = parse(text)
        values: dict[str, Any] = {
            p.name: round(rng.uniform(-1.2, 1.2), 4) for p in expression.parameters
        }
        values["x"] = round(rng.uniform(-1.9, 1.9), 4)
        compared += check_gradient(expression, values, order=2)
    assert compared > 1500


def test_against_sympy() -> None:
    texts = ["x*sigmoid(beta*x)", "x*tanh(softplus(x))", "x*erfc(-x/sqrt(2))/2", "sinc(x) + x"]
    texts += space("swish", units=1).sample(25, seed=5)
    for text in texts:
        expression = parse(text)
        for leaf in leaves(expression):
            reference = to_sympy(expression).diff(to_sympy(leaf))
            values: dict[str, Any] = {p.name: 0.7 for p in expression.parameters} | {"x": 1.234}
            symbols = {to_sympy(one): values[one.name] for one in leaves(expression)}
            expected = float(reference.subs(symbols).evalf(30))
            assert float(at(gradient(expression)[leaf.name], values)) == pytest.approx(
                expected, rel=1e-9, abs=1e-12
            ), text


def test_against_autograd() -> None:
    x = torch.linspace(-2.9, 3.1, 101, dtype=torch.float64, requires_grad=True)
    for text in [
        "x*sigmoid(x)",
        "max(x, sigmoid(x))*cos(tanh(x))",
        "where(x > 0.1, log1p(x), expm1(x))",
        "asinh(x)/hypot(x, 2) - erf(x)**3",
    ]:
        expression = parse(text)
        forward = TARGETS["torch"].build(program(expression)).__globals__["_forward"]
        (autograd,) = torch.autograd.grad(forward(x).sum(), x)
        ours = evaluate(gradient(expression)["x"], {"x": x.detach().numpy()})
        torch.testing.assert_close(torch.from_numpy(ours), autograd, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu(x)", 0.0),
        ("abs(x)", 0.0),
        ("sign(x)", 0.0),
        ("max(x, 0)", 0.5),
        ("min(0, x)", 0.5),
        ("max(x, -x)", 0.0),
        ("max(x, 3*x)", 2.0),
        ("where(x > 0, x, 2*x)", 2.0),
    ],
)
def test_kinks_follow_pytorch(text: str, expected: float) -> None:
    assert evaluate(gradient(text)["x"], {"x": 0.0}) == expected


def test_kinks_are_those_of_autograd() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    for text, reference in {
        "relu(x)": torch.relu,
        "abs(x)": torch.abs,
        "max(x, -x)": lambda x: torch.maximum(x, -x),
        "min(x, 3*x)": lambda x: torch.minimum(x, 3 * x),
    }.items():
        x = zero.clone().requires_grad_()
        (expected,) = torch.autograd.grad(reference(x).sum(), x)
        assert evaluate(gradient(text)["x"], {"x": 0.0}) == expected.item()


@pytest.mark.parametrize(
    ("text", "name", "x", "expected"),
    [
        ("where(x > 0, sqrt(x), 0)", "x", 0.0, 0.0),
        ("where(x > 0, log(x), x)", "x", -1.0, 1.0),
        ("where(x > 0, alpha/x, 0)", "alpha", 0.0, 0.0),
        ("sqrt(relu(x))", "x", -1.0, 0.0),
        ("min(exp(beta*x), 1)", "beta", 1e5, 0.0),
        ("max(x, exp(-x))", "x", 1e4, 1.0),
        ("sqrt(min(min(0, x), tanh(x)))", "x", 0.95, 0.0),
        ("relu(alpha)/sqrt(1)*x", "alpha", 2.0, 2.0),
    ],
)
def test_an_unselected_piece_makes_no_nan(text: str, name: str, x: float, expected: float) -> None:
    assert evaluate(gradient(text)[name], {"x": x}) == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (
            "x*sigmoid(beta*x)",
            "x",
            "sigmoid(beta*x) + beta*sigmoid(beta*x)*sigmoid(-(beta*x))*x",
        ),
        ("x*sigmoid(beta*x)", "beta", "x*sigmoid(beta*x)*sigmoid(-(beta*x))*x"),
        ("exp(-x**2)", "x", "-2*x*exp(-x**2)"),
        ("relu(x)", "x", "where(x > 0, 1, 0)"),
        ("x/(1 + abs(x))", "x", "1/(1 + abs(x))/(1 + abs(x))"),
        ("11/48*x", "x", "11/48"),
        ("x**3", "x", "3*x**2"),
        ("3*x - x*2", "x", "1"),
        ("x*gate", "gate", "x"),
        ("beta", "beta", "1"),
        ("beta*1", "beta", "1"),
    ],
)
def test_reads_well(text: str, name: str, expected: str) -> None:
    assert str(gradient(text)[name]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x/sqrt(1 + beta*x**2)", "1/sqrt(1 + beta*x**2)**3"),
        ("x/hypot(2, x)", "4/hypot(2, x)**3"),
        ("x**2/(1 + x**2)", "2*x/(1 + x**2)**2"),
        ("(x - 1)/(x + 1)", "2/(x + 1)**2"),
        ("abs(x)/(x + 2)", "2*sign(x)/(x + 2)**2"),
        ("(x + beta)/(abs(x + beta) + 2)", "2/(abs(x + beta) + 2)**2"),
        ("sqrt(x)/(sqrt(x) + 2)", "1/sqrt(x)/(sqrt(x) + 2)**2"),
        ("(beta*x + 1)/(x + 3)", "(3*beta - 1)/(x + 3)**2"),
        ("x/(3*x)", "0"),
    ],
)
def test_the_quotient_rule_does_not_cancel(text: str, expected: str) -> None:
    """For numbers so large that products of numerator and denominator agree in every digit."""
    slope = gradient(text)["x"]
    for size in (1e-3, 0.7, 40.0, 1e5, 1e12, 1e20):
        for x in (size, -size) if "sqrt(x)" not in text else (size,):
            known = {"beta"} & {p.name for p in slope.parameters}
            values = {"x": x} | dict.fromkeys(known, 0.75)
            exact = at(parse(expected), {"x": x, "beta": 0.75})
            assert float(evaluate(slope, values)) == pytest.approx(float(exact), rel=1e-13), x


def test_a_quotient_whose_numerator_would_grow_keeps_its_form() -> None:
    assert str(gradient("x**3/(x**2 + 1)")["x"]).count("x**4") == 0
    assert math.isfinite(evaluate(gradient("x*sigmoid(x)/(x + 1)")["x"], {"x": 1e200}))


def test_keys_are_inputs_and_parameters() -> None:
    assert list(gradient("gate*sigmoid(beta*x) + _")) == ["gate", "x", "beta", "_1"]
    assert gradient("2 + pi") == {}


def test_deep_and_wide_expressions() -> None:
    deep: Expression = Input("x")
    for _ in range(10_000):
        deep = call("sin", deep)
    assert math.isfinite(evaluate(gradient(deep)["x"], {"x": 0.5}))
    wide = parse(" + ".join(["sin(x)", *(f"{n}*x" for n in range(1, 10_000))]))
    assert evaluate(gradient(wide)["x"], {"x": 0.0}) == 1 + sum(range(1, 10_000))


def test_speed() -> None:
    gradient("x*tanh(softplus(x))")
    start = time.process_time()
    for activation in named_activations().values():
        gradient(activation.expression)
    per_activation = (time.process_time() - start) / len(named_activations())
    assert per_activation < 0.05
