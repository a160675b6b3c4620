"""The operator table: every column of every row against an independent oracle."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from actsearch.grammar import Input, call
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.language import instantiate, parse_template
from actsearch.grammar.operators import (
    COMMUTATIVE,
    COMPARISONS,
    DECREASING,
    EVEN,
    IDEMPOTENT,
    INCREASING,
    MONOTONE,
    ODD,
    OPERATORS,
    PERIODIC,
)

X, GATE = Input("x"), Input("gate")
UNARY = sorted(name for name, row in OPERATORS.items() if row.arity == 1)
BINARY = sorted(set(OPERATORS) - set(UNARY) - COMPARISONS - {"where"})
POINTS = np.array(
    [
        -30.0,
        -7.3,
        -2.0,
        -1.0,
        -0.9,
        -0.31,
        -1e-4,
        0.0,
        1e-6,
        0.2,
        0.5,
        0.99,
        1.0,
        1.7,
        3.1,
        12.0,
        40.0,
    ]
)


def _applied(name):
    return call(name, *[X, GATE][: OPERATORS[name].arity])


def _grid(name):
    if OPERATORS[name].arity == 1:
        return {"x": POINTS}
    left, right = np.meshgrid(POINTS, POINTS + 0.01)
    return {"x": left.ravel(), "gate": right.ravel()}


@pytest.mark.parametrize("name", sorted(set(UNARY) | set(BINARY)))
def test_float64_agrees_with_many_digits(name):
    values = _grid(name)
    floats = evaluate(_applied(name), values)
    exact = evaluate(_applied(name), values, "mpmath").astype(float)
    poles = np.isinf(floats) & np.isnan(exact)
    np.testing.assert_allclose(floats[~poles], exact[~poles], rtol=2e-13, atol=1e-300)


@pytest.mark.parametrize("name", sorted(set(UNARY) | set(BINARY)))
def test_derivatives_agree_with_a_numerical_one(name):
    row = OPERATORS[name]
    expression = _applied(name)
    values = {key: value[value != 0] for key, value in _grid(name).items() if row.arity == 1}
    if row.arity == 2:
        rng = np.random.default_rng(0)
        values = {"x": rng.uniform(0.2, 5, 40), "gate": rng.uniform(-4, 4, 40)}
    for argument, text in zip(["x", "gate"], row.derivative, strict=False):
        symbolic = instantiate(parse_template(text), expression.arguments)
        needed = {node.name for node in symbolic.inputs} | {"x"}
        given = {key: value for key, value in values.items() if key in needed}
        claimed = evaluate(symbolic, given, "mpmath")
        step = mpmath.mpf(10) ** -20
        with mpmath.workdps(60):
            shifted = [
                evaluate(
                    expression,
                    {**values, argument: np.array([mpmath.mpf(v) + s for v in values[argument]])},
                    "mpmath",
                    60,
                )
                for s in (step, -step)
            ]
            numeric = (shifted[0] - shifted[1]) / (2 * step)
        inside = ~np.isnan(numeric.astype(float))
        assert inside.any()
        np.testing.assert_allclose(
            claimed[inside].astype(float), numeric[inside].astype(float), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("name", sorted(set(UNARY) | set(BINARY)))
def test_values_lie_in_the_range_and_only_inside_the_domain(name):
    row = OPERATORS[name]
    values = _grid(name)
    exact = evaluate(_applied(name), values, "mpmath")
    defined = ~np.isnan(exact.astype(float))
    lowest, highest = row.range
    numbers = exact[defined].astype(float)
    assert ((numbers >= lowest) & (numbers <= highest)).all()
    if name == "pow":  # whole exponents reach further than the table's a > 0
        assert defined[values["x"] > 0].all()
        return
    if not row.domain:
        assert defined.all()
        return
    left, comparison, right = row.domain.partition(
        next(s for s in ("!=", "<=", ">=", "<", ">") if s in row.domain)
    )
    condition = call(
        "where",
        call(
            {"!=": "ne", "<=": "le", ">=": "ge", "<": "lt", ">": "gt"}[comparison],
            instantiate(parse_template(left), _applied(name).arguments),
            instantiate(parse_template(right), ()),
        ),
        1,
        0,
    )
    used = {node.name for node in condition.inputs} | {"x"}
    inside = evaluate(condition, {key: v for key, v in values.items() if key in used}) == 1
    np.testing.assert_array_equal(defined, inside)


@pytest.mark.parametrize("name", UNARY)
def test_limits(name):
    for end, limit in zip((-1e30, 1e30), OPERATORS[name].limits, strict=True):
        if limit is None:
            continue
        value = float(evaluate(_applied(name), {"x": [end]}, "mpmath")[0])
        if math.isinf(limit):
            assert value * math.copysign(1, limit) > 20
        else:
            assert abs(value - limit) < 1e-9


@pytest.mark.parametrize("name", UNARY)
def test_parity_and_monotonicity_are_what_the_values_show(name):
    values = evaluate(_applied(name), {"x": POINTS}, "mpmath")
    mirrored = evaluate(_applied(name), {"x": -POINTS}, "mpmath")
    defined = np.array(
        [not mpmath.isnan(v) and not mpmath.isnan(w) for v, w in zip(values, mirrored, strict=True)]
    )
    odd = all(abs(v + w) < 1e-30 for v, w in zip(values[defined], mirrored[defined], strict=True))
    even = all(abs(v - w) < 1e-30 for v, w in zip(values[defined], mirrored[defined], strict=True))
    symmetric_domain = defined.sum() > 3
    assert (name in ODD) == (odd and symmetric_domain)
    assert (name in EVEN) == (even and symmetric_domain)
    steps = np.diff([v for v in values if not mpmath.isnan(v)])
    assert (name in INCREASING) == bool((steps >= 0).all())
    assert (name in DECREASING) == bool((steps <= 0).all())


def test_sets_name_operators():
    for group in (COMMUTATIVE, IDEMPOTENT, ODD, EVEN, MONOTONE, PERIODIC):
        assert group <= set(OPERATORS)


@pytest.mark.parametrize("name", BINARY)
def test_commutative_and_idempotent_are_what_the_values_show(name):
    values = {"x": np.array([0.3, 1.4, 2.5]), "gate": np.array([1.1, 0.2, 3.0])}
    swapped = {"x": values["gate"], "gate": values["x"]}
    same = evaluate(_applied(name), values) == evaluate(_applied(name), swapped)
    assert (name in COMMUTATIVE) == bool(same.all())
    both = evaluate(_applied(name), {"x": values["x"], "gate": values["x"]})
    assert (name in IDEMPOTENT) == bool((both == values["x"]).all())
