"""Every rewrite is an identity, proved with mpmath; what is guarded loses no value."""

from __future__ import annotations

import random
import re

import mpmath
import numpy as np
import pytest
import torch

from actsearch.codegen.gradients import CLEAN, gradient
from actsearch.codegen.guards import ACCURATE, FORMS, guard
from actsearch.codegen.programs import DY, program
from actsearch.codegen.rewriting import FORMALS
from actsearch.codegen.stable import STABLE, stabilise
from actsearch.codegen.targets import TARGETS
from actsearch.grammar import Apply, Expression, Parameter, parse
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.language import parse_template
from actsearch.grammar.search_space import space
from tests.codegen import lost_values

RULES = list(dict.fromkeys([*STABLE.lines, *FORMS.lines, *ACCURATE.lines]))
LARGEST = float(np.finfo(np.float32).max)


def as_formula(template: Expression) -> Expression:
    """A rule's side with comparisons where `where` wants them."""
    conditions: dict[Expression, Expression] = {
        node.arguments[0]: Apply("lt", node.arguments[0], Parameter("zero", 0.0))
        for node in template.postorder()
        if isinstance(node, Apply)
        and node.operator.name == "where"
        and isinstance(node.arguments[0], Parameter)
    }

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        if isinstance(node, Apply) and node.operator.name == "where":
            condition = conditions.get(node.arguments[0])
            return Apply("where", condition or arguments[0], *arguments[1:])
        return node.with_arguments(arguments)

    return template.fold(visit)


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_an_identity(rule: str) -> None:
    left, right = (as_formula(parse_template(s.strip(), FORMALS)) for s in re.split("[-=]>", rule))
    rng = random.Random(rule)
    compared = 0
    for _ in range(40):
        values: dict[str, float] = {name: round(rng.uniform(-3, 3), 3) for name in FORMALS}
        values |= {name: round(rng.uniform(0.1, 3), 3) for name in ("p", "q")}
        values["k"] = -values["p"]
        if rng.random() < 0.2:
            values["a"] = rng.choice([0.0, 120.0, -120.0])
        sides = []
        for side in (left, right):
            used = {p.name for p in side.parameters} - {"zero"}
            given = {name: values[name] for name in used} | {"x": 0.0}
            sides.append(evaluate(side, given, backend="mpmath", digits=150)[()])
        if mpmath.isnan(sides[0]):
            continue  # a rule may hold on a larger domain
        compared += 1
        error = abs(sides[0] - sides[1])
        assert error <= abs(sides[0]) * mpmath.mpf(10) ** -20 + mpmath.mpf(10) ** -30, (
            rule,
            values,
        )
    assert compared > 5


@pytest.mark.parametrize(
    ("text", "stable"),
    [
        ("log(1 + exp(x))", "softplus(x)"),
        ("x/(1 + exp(-x))", "x*sigmoid(x)"),
        ("1/(1 + exp(-2*x))", "sigmoid(2*x)"),
        ("(exp(x) - exp(-x))/(exp(x) + exp(-x))", "tanh(x)"),
        ("0.5*x*(1 + erf(x/sqrt(2)))", "0.5*x*erfc(-(x/sqrt(2)))"),
        ("x*(1 - sigmoid(x))", "x*sigmoid(-x)"),
        ("sqrt(x**2)", "abs(x)"),
        ("x/sqrt(1 + x**2)", "x/hypot(1, x)"),
        ("exp(x) - 1", "expm1(x)"),
    ],
)
def test_stable_forms(text: str, stable: str) -> None:
    (found,) = stabilise([parse(text)])
    values = {"x": np.linspace(-3, 3, 31)}
    np.testing.assert_allclose(
        evaluate(found, values), evaluate(text, values), rtol=1e-9, atol=1e-15
    )
    assert evaluate(found, {"x": 1e3}) == evaluate(stable, {"x": 1e3})
    assert evaluate(found, {"x": -1e3}) == evaluate(stable, {"x": -1e3})


def test_what_needs_no_guard_gets_none() -> None:
    for text in ["relu(x)", "tanh(x)", "softplus(x)", "where(x > 0, x, expm1(x))"]:
        assert guard([parse(text)]) == [parse(text)]


def test_a_vanishing_factor_wins_only_where_it_does() -> None:
    (guarded,) = guard([parse("x*sigmoid(x)")])
    assert str(guarded) == "max(x, -3.4028234663852886e38)*sigmoid(x)"
    # with a parameter it can be either end that vanishes
    (guarded,) = guard([parse("x*sigmoid(beta*x)")])
    assert str(guarded) == "where(sigmoid(beta*x) == 0, 0, x*sigmoid(beta*x))"
    # x*(1/x) is 1, and not 0, however large x is
    (guarded,) = guard([parse("x*(1/x)")])
    assert evaluate(guarded, {"x": [-np.inf, 1e30, np.inf]}).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("x*sigmoid(x)", 0, np.inf),
        ("x*tanh(softplus(x))", 0, np.inf),
        ("x*erfc(-x/sqrt(2))/2", 0, np.inf),
        ("x/(1 + abs(x))", -1, 1),
        ("x/sqrt(1 + x**2)", -1, 1),
        ("x**2/(1 + x**2)", 1, 1),
        ("(x + sqrt(x**2 + 4))/2", 0, np.inf),
        ("x*exp(-x**2)", 0, 0),
        ("x/(cosh(x) + eps)", 0, 0),
        ("tanh(x)*x", np.inf, np.inf),
        ("x - tanh(x)", -np.inf, np.inf),
        ("sin(x) - x", np.inf, -np.inf),
        ("asinh(x) - abs(x)", -np.inf, -np.inf),
        ("x**3 + x**-2 + x**1.5", np.nan, np.inf),
        ("sqrt(2 - x) + x", -np.inf, np.nan),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_limits(text: str, low: float, high: float, dtype: torch.dtype) -> None:
    ends = torch.tensor([-np.inf, np.inf], dtype=dtype)
    y = TARGETS["torch"].build(program(parse(text)))(ends)
    np.testing.assert_array_equal(y.double().numpy(), [low, high])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("max(log(abs(x) + eps), x + 1)", 0, 1),  # both are infinite there
        ("min(abs(x), sinh(x))", np.inf, 1),
        ("exp(x)/(x + 1)", 0, np.inf),
        ("x*atan(x)", -np.pi / 2, np.pi / 2),
        ("sinh(x)*sigmoid(min(0, x))", 0, np.inf),  # float64 leaves 6e-17 of it
    ],
)
def test_limits_of_gradients(text: str, low: float, high: float) -> None:
    backward = TARGETS["torch"].build(program(parse(text))).__globals__["_backward"]
    ends = torch.tensor([-np.inf, np.inf])
    slope = backward(2 * torch.ones(2), ends).tolist()
    assert slope == pytest.approx([2 * low, 2 * high], rel=1e-6, abs=1e-20)


def test_a_residue_is_not_asked_for_where_something_oscillates() -> None:
    """Digits of sin(sinh(1e38)) take longer than anyone waits."""
    compiled = program(parse("where(x < 0, sinh(x)*sigmoid(min(0, x)), sin(sinh(x)))"))
    ends = torch.tensor([-np.inf, -3.0])
    y = TARGETS["torch"].build(compiled)(ends)
    assert y.tolist() == pytest.approx([-0.5, np.sinh(-3) / (1 + np.exp(3))])


@pytest.mark.parametrize(
    ("text", "beta", "low", "high"),
    [
        ("sinh(x)*sigmoid(beta*x)", 0.4375, np.inf, np.inf),  # terms overflow
        ("sinh(x)*sigmoid(beta*x)", 0.9, np.inf, np.inf),
        ("sinh(x)*sigmoid(beta*x)", 1.1, 0, np.inf),
        ("cosh(x)*sigmoid(beta*x)", 0.4375, -np.inf, np.inf),
        ("exp(-beta*abs(exp(x) - asinh(x)))", -1, -2, np.inf),
        ("exp(-beta*abs(exp(x) - asinh(x)))", 1, 0, 0),
    ],
)
def test_limits_of_gradients_that_depend_on_a_parameter(
    text: str, beta: float, low: float, high: float
) -> None:
    backward = TARGETS["torch"].build(program(parse(text))).__globals__["_backward"]
    ends = torch.tensor([-np.inf, np.inf])
    slope, _ = backward(torch.ones(2), ends, torch.full((2,), beta))
    assert slope.tolist() == pytest.approx([low, high], rel=1e-5, abs=1e-20)


@pytest.mark.parametrize(
    "text",
    [
        "(x + sqrt(x**2 + 4))/2",
        "(x + sqrt(x**2 + beta))/2; beta = 4.0",
        "sqrt(1 + x**2) - x",
        "softplus(beta*x)/beta; beta = 2.0",
        "cosh(x) - 1",
        "x/(1 + abs(x))",
    ],
)
def test_what_cancels_gets_another_form(text: str) -> None:
    """In float64 value and gradients have 14 digits right, however far the formula cancels."""
    expression = parse(text)
    compiled = program(expression)
    sizes = np.exp2(np.arange(-30, 30, 1.37))
    x = np.concatenate([sizes, -sizes])
    x = x[np.abs(x) < 500] if re.search("cosh|softplus", text) else x
    given = {"x": x} | {p.name: p.initial for p in expression.parameters}
    routines = [(compiled.forward, {"y": expression}), (compiled.backward, gradient(expression))]
    for routine, formulas in routines:
        for name, found in zip(routine.outputs, routine.expressions, strict=True):
            exact = evaluate(formulas[name], given, backend="mpmath", digits=700).astype(float)
            weights = {p.name: 1.0 for p in found.parameters if p.name == DY.name}
            known = {p.name for p in found.parameters} | {"x"}
            values = {k: v for k, v in (given | weights).items() if k in known}
            np.testing.assert_allclose(evaluate(found, values), exact, rtol=1e-14, err_msg=name)


def test_a_form_that_is_no_better_is_not_taken() -> None:
    for text in ["x + hypot(1, abs(x))", "exp(x) - exp(-x**2 - 9)", "sqrt(abs(x)) - sqrt(3)"]:
        assert str(program(parse(text)).forward.expressions[0]).count("where") == 0


def test_no_value_is_lost_in_the_one_unit_space() -> None:
    """A sample of the space, in float32: value, gradient, parameter gradients."""
    sizes = [0, 1e-45, 1e-40, 1e-20, 1e-3, 0.5, 1, 2, 5, 9, 15, 30, 44, 46, 60, 87, 88, 89, 90, 95]
    sizes += [104, 110, 150, 300, 700, 1000]
    x = torch.tensor([*sizes, *(-size for size in sizes)], dtype=torch.float32)
    one_unit = space("swish", units=1)
    for index in range(11, len(one_unit), 97):
        expression = parse(one_unit[index])
        compiled = program(expression)
        function = TARGETS["torch"].build(compiled)
        parameters = [torch.tensor([p.initial]) for p in compiled.parameters]
        backward = function.__globals__["_backward"](torch.ones_like(x), x, *parameters)
        slopes = backward if isinstance(backward, tuple) else (backward,)
        results = [(expression, function(x, *parameters))]
        for variable, slope in zip(compiled.variables, slopes, strict=True):
            exact = gradient(expression).get(variable.name)
            results += [] if exact is None else [(exact, slope)]
        for exact, values in results:
            lost = ~torch.isfinite(values.expand(x.shape))
            if lost.any():
                given = {"x": x[lost].double().numpy()}
                expected = evaluate(exact, given, backend="mpmath", digits=30)
                held = [v for v in expected if mpmath.isfinite(v) and abs(v) <= LARGEST]
                assert not held, f"{exact} of {expression} at {given}"


def test_no_value_is_lost_by_the_target_cpu() -> None:
    """A sample of what `python -m tests.codegen.lost_values` checks, and what was lost once."""
    texts = [
        *list(space("swish", units=1))[7::1300],
        "x/(x + eps)",  # x + eps is 0 in float32 where it is 1e-15
        "2*x - x*beta",  # 2*x overflows where the difference does not
        "x**3*atan(x)",
        "exp(-beta*(exp(x) - sigmoid(x))**2)",
        "exp(x)*sigmoid(beta*x)",  # beyond 710 float64 overflows, too
        "beta*exp(x) + (1 - beta)*cosh(x)",  # exp(-x) at beta = -1
        # limits at infinity: inf - inf, and what depends on the parameter
        "exp(-beta*(sqrt(x) - x)**2)",
        "beta*asinh(x) + (1 - beta)*x",
        "asinh(x)*x",
        "x/(asinh(x) + 1)",
        "beta*sinh(x) + (1 - beta)*cosh(x)",  # the terms overflow
        "beta*x**3 + (1 - beta)*x**2",
        "exp(x)*sigmoid(cos(x))",  # as the gradient's do
    ]
    assert list(lost_values.losses(texts)) == []


def test_a_lost_value_is_found() -> None:
    x = lost_values.points()
    found = np.where(np.abs(x) < 1e3, np.nan, np.inf).astype(np.float32)
    losses = list(lost_values._losses(parse("exp(x)"), "value", parse("exp(x)"), found, {}))
    assert {loss.values["x"] for loss in losses} == set(x[x < 88.72])


def test_a_wrong_limit_is_found() -> None:
    """Results at inf, -inf and at the largest numbers of both signs."""
    for text, right in {
        "atan(x)": (np.pi / 2, -np.pi / 2),
        "x*exp(-x)": (0.0, -np.inf),
        "log(abs(x) + 1)": (np.inf, np.inf),
        "1/(1 + sinh(x)**2)": (0.0, 0.0),
        "exp(-exp(x)) + x/sqrt(1 + x**2)": (1.0, 0.0),
    }.items():
        expression = parse(text)
        for found, wrong in ((right, 0), ((np.nan, np.nan), 2), ((right[0], 7.0), 1)):
            at = np.array([*found, 8.0, 8.0], np.float32)
            losses = lost_values._wrong_limits(expression, "value", expression, at, {})
            assert len(list(losses)) == wrong, text
    oscillating = parse("x*sin(x)")
    at = np.full(4, np.nan, np.float32)
    assert not list(lost_values._wrong_limits(oscillating, "value", oscillating, at, {}))


def test_numbers_are_folded_exactly() -> None:
    assert str(CLEAN.build("mul", parse("0.1"), parse("3"))) == "0.3"
    assert str(CLEAN.build("div", parse("1"), parse("3"))) == "1/3"
    assert str(CLEAN.build("div", parse("1"), parse("0"))) == "1/0"
