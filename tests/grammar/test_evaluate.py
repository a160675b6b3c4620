"""Evaluators: what they refuse and how they broadcast. Their values are tested with the table."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actsearch.grammar import Number, Parameter, call, named_activations, parse
from actsearch.grammar.evaluate import evaluate


@pytest.mark.parametrize("name", sorted(named_activations()))
@settings(max_examples=30)
@given(x=st.floats(-50, 50), gate=st.floats(-50, 50))
def test_float64_and_many_digits_agree_on_named_activations(name, x, gate):
    expression = named_activations()[name].expression
    values = {node.name: [{"x": x, "gate": gate}[node.name]] for node in expression.inputs}
    exact = evaluate(expression, values, "mpmath")[0]
    inner = []
    for node in expression.postorder():
        needed = {leaf.name for leaf in node.inputs}
        inner.append(evaluate(node, {k: v for k, v in values.items() if k in needed} | {"x": [x]}))
    scale = max(np.max(np.nan_to_num(np.abs(v.astype(float)), posinf=np.inf)) for v in inner)
    if np.isfinite(scale):
        assert abs(evaluate(expression, values)[0] - exact) <= 1e-13 * (1 + scale)


def test_inputs_and_parameters_broadcast():
    values = evaluate("b*x + c", {"x": np.ones((3, 1)), "b": np.arange(4.0)})
    assert values.shape == (3, 4)
    np.testing.assert_array_equal(values[0], np.arange(4.0) + 1)


def test_a_constant_has_a_value_at_every_x():
    assert evaluate("b", {"x": np.zeros(3)}).tolist() == [1.0, 1.0, 1.0]
    assert abs(evaluate(Parameter("b", 0.1), {"x": [0.0]}, "mpmath")[0] * 10 - 1) < 1e-40


@pytest.mark.parametrize(
    ("text", "x", "undefined"),
    [
        ("sqrt(x)", -1, True),
        ("log(x)", -1, True),
        ("x**0.5", -1, True),
        ("x**3", -1, False),
        ("x**-1", -2, False),
        ("acosh(x)", 0, True),
        ("where(x > 0, x, sqrt(x))", 1, False),
        ("where(x > 0, sqrt(x), 0)", -1, False),
        ("max(x, sqrt(x))", -1, True),
        ("where(sqrt(x) > 0, 1, 0)", -1, True),
    ],
)
def test_undefined_is_nan(text, x, undefined):
    assert bool(mpmath.isnan(evaluate(text, {"x": [x]}, "mpmath")[0])) == undefined
    if "where(sqrt" not in text:  # IEEE: a comparison with nan is false
        assert bool(np.isnan(evaluate(text, {"x": [x]})[0])) == undefined


def test_poles_are_infinite_in_float64():
    assert evaluate("1/x", {"x": [0.0]})[0] == np.inf


def test_names_are_checked():
    with pytest.raises(KeyError, match="no value for the input x"):
        evaluate("sin(x)", {})
    with pytest.raises(KeyError, match="'bet' does not occur"):
        evaluate("beta*x", {"x": [1], "bet": 2})
    with pytest.raises(ValueError, match="did you mean 'numpy'"):
        evaluate("x", {"x": [1]}, backend="nunpy")


def test_numbers_are_exact_with_many_digits():
    value = evaluate(call("sub", Number("0.1"), Number("0.3")), {"x": [0]}, "mpmath", 80)[0]
    with mpmath.workdps(80):
        assert abs(value + mpmath.mpf("0.2")) < mpmath.mpf(10) ** -78
    assert parse("eps") is Number("1e-7")
