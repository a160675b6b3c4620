"""`simplify`: the same function, never dearer, stable, and in the form that people write."""

from __future__ import annotations

import re

import mpmath
import pytest

from actsearch.codegen.stable import STABLE
from actsearch.equivalence import equivalent
from actsearch.grammar import Expression, named_activations, parse, space
from actsearch.grammar.evaluate import evaluate
from actsearch.simplification import PRETTY, evaluation_cost, simplify


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x*sigmoid(beta*x)", "x*sigmoid(beta*x)"),
        ("x*(1/(1 + exp(-beta*x)))", "x*sigmoid(beta*x)"),
        ("x/(1 + exp(-x))", "x*sigmoid(x)"),
        ("max(x, 0)", "relu(x)"),
        ("0.5*x + 0.5*abs(x)", "relu(x)"),
        ("(x + abs(x))/2", "relu(x)"),
        ("relu(x) - relu(-x)", "x"),
        ("x - x", "0"),
        ("1*x + 0", "x"),
        ("-(-x)", "x"),
        ("x**3/x", "x**2"),
        ("x*x", "x**2"),
        ("log(1 + exp(x))", "softplus(x)"),
        ("softplus(x) - softplus(-x)", "x"),
        ("sinh(x)/cosh(x)", "tanh(x)"),
        ("(exp(x) - exp(-x))/(exp(x) + exp(-x))", "tanh(x)"),
        ("sin(x)**2 + cos(x)**2", "1"),
        ("sigmoid(x) + sigmoid(-x)", "1"),
        ("a*x + b*x", "x*(a + b)"),
        ("x*exp(x)*exp(-x)", "x"),
        ("min(max(x, 0), 6)", "min(relu(x), 6)"),
        ("min(1, max(-1, x))", "min(max(x, -1), 1)"),
        ("x*erfc(x*(-1)/sqrt(2))*0.5", "x*erfc(-x/sqrt(2))/2"),
        ("mix(_, x, x)", "x"),
        ("max(x, max(x, 0))", "relu(x)"),
        ("exp(log(abs(x) + 1))", "abs(x) + 1"),
    ],
)
def test_what_people_write(text: str, expected: str) -> None:
    assert str(simplify(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["sqrt(x) - sqrt(x)", "exp(log(x))", "relu(x)/relu(x)", "x + 0*log(x)", "tanh(atanh(x))"],
)
def test_the_domain_is_kept(text: str) -> None:
    simple = simplify(text)
    assert equivalent(simple, text)
    for x in (-1.5, 2.5):
        before, after = (evaluate(e, {"x": x}, "mpmath")[()] for e in (parse(text), simple))
        assert mpmath.isnan(before) == mpmath.isnan(after)


def test_declarations_are_kept() -> None:
    text = "x*(1/(1 + exp(-beta*x))); beta = 0.5 per channel lr 0.01"
    assert str(simplify(text)) == "x*sigmoid(beta*x); beta = 0.5 per channel lr 0.01"


def texts() -> list[str]:
    names = [activation.text for activation in named_activations().values()]
    return [*names, *space("swish", units=1).sample(60, 3), *space("swish", units=2).sample(30, 4)]


def check(text: str) -> Expression:
    expression = parse(text)
    simple = simplify(expression)
    assert evaluation_cost(simple) <= evaluation_cost(expression)
    assert simplify(simple) is simple, text
    assert set(simple.parameters) <= set(expression.parameters)
    for x in ("-3.7", "-0.41", "0.23", "1.9"):
        point = {"x": mpmath.mpf(x)}
        if any(node.name == "gate" for node in expression.inputs):
            point["gate"] = mpmath.mpf("0.77")
        before = evaluate(expression, point, "mpmath", 40)[()]
        given = {name: v for name, v in point.items() if name == "x" or "gate" in str(simple)}
        after = evaluate(simple, given, "mpmath", 40)[()]
        if mpmath.isnan(before):
            assert mpmath.isnan(after), text
        else:
            with mpmath.workdps(40):
                assert abs(before - after) <= mpmath.mpf(10) ** -15 * max(1, abs(before)), text
    return simple


def test_same_values_never_dearer_and_idempotent() -> None:
    for text in texts():
        check(text)


def test_named_activations_keep_their_form_or_get_a_cheaper_one() -> None:
    for activation in named_activations().values():
        simple = simplify(activation.expression)
        assert evaluation_cost(simple) <= evaluation_cost(activation.expression)


@pytest.mark.parametrize(
    "spellings",
    [
        ("x*sigmoid(x)", "sigmoid(x)*x", "x*(sigmoid(x) + 0)", "(2*x)*sigmoid(x)/2"),
        ("relu(x)", "max(0, x)", "max(x, 0)", "where(x > 0, x, 0)", "(x + abs(x))/2"),
        ("a + b*x", "x*b + a", "b*x + a"),
        ("x**2 + x", "x + x*x", "x + x**2"),
        ("max(x, exp(x))", "max(exp(x), x)"),
    ],
)
def test_equal_normal_forms_give_one_result(spellings: tuple[str, ...]) -> None:
    assert len({simplify(text) for text in spellings}) == 1


def test_the_cost_of_whole_powers_is_that_of_products() -> None:
    assert evaluation_cost(parse("x**2")) == 1
    assert evaluation_cost(parse("x**8")) == 3
    assert evaluation_cost(parse("x**2.5")) == parse("x**2.5").cost


@pytest.mark.parametrize("line", [line for line in PRETTY.lines if line not in STABLE.lines])
def test_each_pretty_rule_is_an_identity(line: str) -> None:
    sides = re.sub(r"\ba\b", "x", re.sub(r"\bb\b", "gate", line)).split("->")
    left, right = (parse(side) for side in sides)
    for point in ((0.3, -1.7), (-2.1, 0.4), (1.9, 3.3)):
        if "0.5" in line:
            point = abs(point[0]), point[1]
        values = []
        for side in (left, right):
            names = {node.name for node in side.inputs}
            at = {n: v for n, v in zip(("x", "gate"), point, strict=True) if n in names | {"x"}}
            values.append(evaluate(side, at, "mpmath", 40)[()])
        with mpmath.workdps(40):
            assert abs(values[0] - values[1]) < mpmath.mpf(10) ** -30
    assert equivalent(left, right)


def test_large_expressions_come_back_as_they_are() -> None:
    large = parse(" + ".join(f"sin({n}*x)" for n in range(400)))
    assert simplify(large) is large
