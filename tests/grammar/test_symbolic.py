"""The sympy bridge: the two directions invert each other."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from actsearch.grammar import Input, Parameter, call, named_activations, parse
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.operators import COMPARISONS, OPERATORS
from actsearch.grammar.symbolic import from_sympy, symbol, to_sympy

A, B, C, D = (Parameter(name) for name in "abcd")


def _row(name):
    if name in COMPARISONS or name == "where":
        return call("where", call(name if name in COMPARISONS else "lt", A, B), C, D)
    return call(name, *[A, B, C][: OPERATORS[name].arity])


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_inverse_on_the_table(name):
    expression = _row(name)
    assert from_sympy(to_sympy(expression)) is expression
    assert to_sympy(from_sympy(to_sympy(expression))) == to_sympy(expression)


@pytest.mark.parametrize("name", sorted(named_activations()))
@pytest.mark.parametrize("elementary", [False, True])
def test_named_activations_keep_their_values(name, elementary):
    expression = named_activations()[name].expression
    back = from_sympy(to_sympy(expression, elementary), expression.parameters)
    values = {node.name: np.linspace(-4, 4, 17) + 0.013 for node in expression.inputs}
    np.testing.assert_allclose(evaluate(back, values), evaluate(expression, values), rtol=1e-10)


@pytest.mark.parametrize(
    "name", ["relu", "cbrt", "hypot", "expm1", "log1p", "j1", "sigmoid", "softplus"]
)
def test_functions_that_sympy_lacks_know_their_definition_and_derivative(name):
    expression = _row(name)
    point = {symbol("a"): sympy.Rational(7, 5), symbol("b"): sympy.Rational(3, 5)}
    ours, spelled = to_sympy(expression), to_sympy(expression, elementary=True)
    assert sympy.N(ours.subs(point), 30) == pytest.approx(sympy.N(spelled.subs(point), 30))
    for argument in sorted(ours.free_symbols, key=str):
        table = sympy.diff(ours, argument).subs(point)
        definition = sympy.diff(spelled, argument).subs(point)
        assert sympy.N(table, 30) == pytest.approx(sympy.N(definition.doit(), 30))


def test_declarations_come_back():
    expression = parse("x*sigmoid(beta*x); beta = 0.5 per channel lr 0.1")
    assert from_sympy(to_sympy(expression), expression.parameters) is expression


def test_fractions_come_back_as_quotients():
    assert from_sympy(sympy.Rational(2, 3) * symbol("x")) is parse("2*x/3")
    assert from_sympy(-symbol("x") / 2) is parse("-(x/2)")


def test_what_the_language_lacks_is_refused():
    with pytest.raises(ValueError, match="gamma"):
        from_sympy(sympy.gamma(symbol("x")))
    with pytest.raises(ValueError, match="nothing for sympy's"):
        from_sympy(sympy.I)
    with pytest.raises(ValueError, match="undefined outside"):
        from_sympy(sympy.Piecewise((symbol("x"), symbol("x") > 0)))


def test_what_is_too_deep_for_sympy_is_refused():
    expression = Input("x")
    for _ in range(5_000):
        expression = call("sin", expression)
    with pytest.raises(ValueError, match="too deep for sympy"):
        to_sympy(expression)
