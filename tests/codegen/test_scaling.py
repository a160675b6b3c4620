"""Scaled functions: what `degree_of_scaling` says holds, over a whole space."""

from __future__ import annotations

import numpy as np
import pytest

from actsearch.codegen.scaling import degree_of_scaling
from actsearch.grammar import parse, space
from actsearch.grammar.evaluate import evaluate

X = np.array([-2.3, -0.71, 0.13, 0.9, 3.1])
B = np.array([0.6, -1.7, 2.2, -0.4, 1.1])


@pytest.mark.parametrize(
    ("text", "degree"),
    [
        ("x*sigmoid(beta*x)", 1),
        ("tanh(beta*x)", 0),
        ("softplus(beta*x)/beta", 1),
        ("x + sin(beta*x)**2/beta", 1),
        ("x**3*exp(-(beta*x)**2)", 3),
        ("where(beta*x > 0.3, x, x*tanh(beta*x))", 1),
        ("erf(x/beta)", None),  # stretches the other way
        ("x*sigmoid(x + beta)", None),
        ("abs(x)*sigmoid(beta*x)", None),  # |c*x| is c*|x| for positive c only
        ("max(x, x*sigmoid(beta*x))", None),
        ("x*sigmoid(beta*x) + alpha", None),
        ("silu(x)", None),
    ],
)
def test_degree(text: str, degree: int | None) -> None:
    assert degree_of_scaling(parse(text)) == degree


def test_scaling_holds_in_a_whole_space() -> None:
    """f(c*x, b/c) = c**d * f(x, b), for positive and for negative c."""
    found = 0
    for text in space("swish", units=1):
        expression = parse(text)
        degree = degree_of_scaling(expression)
        if degree is None:
            continue
        found += 1
        b = expression.parameters[0].name
        exact = evaluate(expression, {"x": X, b: B})
        for c in (-1.0, 2.0, -0.37):
            stretched = evaluate(expression, {"x": c * X, b: B / c})
            np.testing.assert_allclose(stretched, c**degree * exact, rtol=1e-8, atol=1e-8)
    assert found > 20
