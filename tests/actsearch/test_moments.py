"""Gains and moments against closed forms and scipy's adaptive quadrature."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import integrate

from actsearch.codegen.gradients import gradient
from actsearch.grammar import named_activations, parse
from actsearch.grammar.evaluate import evaluate
from actsearch.moments import gain, moments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", 1.0),
        ("relu(x)", math.sqrt(2)),
        ("where(x > 0, x, 0.01*x)", math.sqrt(2 / (1 + 0.01**2))),
        ("abs(x)", 1.0),
        ("tanh(x)", 1.5925374197228312),
        ("sign(x)", 1.0),
        ("sin(x)", 1 / math.sqrt((1 - math.exp(-2)) / 2)),
        ("exp(x)", math.exp(-1)),
        ("x**3", 1 / math.sqrt(15)),
        ("exp(x**2/5)", 5**-0.25),
        ("log(abs(x))", 0.7815467641261725),
        ("selu(x)", 1.0),
        ("where(x > 0, 1, 0)", math.sqrt(2)),
        ("2", 0.5),
        ("sqrt(abs(x))", (2 / math.pi) ** -0.25),
    ],
)
def test_known_gains(text: str, expected: float) -> None:
    assert gain(text) == pytest.approx(expected, rel=1e-9)


def test_what_has_no_gain() -> None:
    assert gain("0*x") == math.inf
    assert gain("1/x") == 0.0
    assert gain("abs(x)**-0.6") == 0.0
    assert gain("exp(x**2/4)") == 0.0
    assert gain("exp(x**2)") == 0.0
    assert math.isnan(gain("sqrt(x)"))
    assert math.isnan(gain("log(x + 3)"))
    assert math.isnan(moments("sqrt(x)").mean)
    with pytest.raises(ValueError, match="two inputs"):
        gain("x*sigmoid(gate)")
    with pytest.raises(ValueError, match="no parameter"):
        gain("x", {"beta": 2.0})


def test_integrable_singularities() -> None:
    found = moments("abs(x)**-0.25")
    exact = math.gamma(0.25) / (2**0.25 * math.sqrt(math.pi))  # E |z|^(-1/2)
    assert found.second == pytest.approx(exact, rel=1e-4)
    assert found.gradient_second == math.inf


def test_parameters_stand_at_their_values() -> None:
    assert gain("beta*x") == pytest.approx(1.0)
    assert gain("beta*x; beta = 4.0") == pytest.approx(0.25)
    assert gain("beta*x", {"beta": 0.5}) == pytest.approx(2.0)


def test_moments_of_relu_and_silu() -> None:
    relu = moments("relu(x)")
    assert relu.mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-12)
    assert relu.second == pytest.approx(0.5, rel=1e-12)
    assert relu.gradient_second == pytest.approx(0.5, rel=1e-12)
    silu = moments("silu(x)")
    assert silu.gain == gain("silu(x)")
    assert silu.second == pytest.approx(0.3557755198, rel=1e-8)
    assert silu.gradient_second == pytest.approx(0.3794823516, rel=1e-8)


UNIVARIATE = [
    activation
    for activation in named_activations().values()
    if len(activation.expression.inputs) == 1 and "sqrt(x)" not in activation.text
]


def expectation(text: str, power: int) -> float:
    """By scipy, cut at places where pieces may meet."""
    expression = parse(text)
    initial = {p.name: p.initial for p in expression.parameters}

    def integrand(z: float) -> float:
        value = float(evaluate(expression, {"x": z, **initial}))
        return value**power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    cuts = [-12.0, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 6, 12.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", integrate.IntegrationWarning)
        parts = [
            integrate.quad(integrand, a, b, epsabs=1e-12, epsrel=1e-11, limit=200)[0]
            for a, b in itertools.pairwise(cuts)
        ]
        return float(sum(parts))


@pytest.mark.parametrize("name", [activation.name for activation in UNIVARIATE])
def test_named_activations_agree_with_scipy(name: str) -> None:
    activation = named_activations()[name]
    found = moments(activation.expression)
    assert found.mean == pytest.approx(expectation(activation.text, 1), rel=1e-7, abs=1e-9)
    assert found.second == pytest.approx(expectation(activation.text, 2), rel=1e-7)
    slope = gradient(activation.expression)["x"]
    if name not in ("sqrt_activation", "trainable_sqrt"):  # f' is not square-integrable
        assert found.gradient_second == pytest.approx(expectation(str(slope), 2), rel=1e-6)
    else:
        assert found.gradient_second == math.inf


def test_the_gain_keeps_the_second_moment() -> None:
    generator = np.random.default_rng(0)
    z = generator.standard_normal(400_000)
    for text in ("relu(x)", "silu(x)", "tanh(x)"):
        scaled = gain(text) * evaluate(text, {"x": z})
        assert np.mean(scaled**2) == pytest.approx(1.0, abs=0.01)
