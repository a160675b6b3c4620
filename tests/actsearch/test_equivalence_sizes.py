"""Sizes of functions on cells: bounds of log|f| and log|1 − f|, held against ball arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb

from actsearch.equivalence.balls import ball_value, exact, is_value, precision
from actsearch.equivalence.cells import Bounds, Cells, on_each
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X, enclosed
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.equivalence.sizes import SizedCells, Sizes, at_least
from actsearch.grammar import parse
from actsearch.grammar.expression import Expression
from actsearch.grammar.search_space import SearchSpace

GRAMMAR = """
start: unit
unit: "add(" operand ", " operand ")" -> add
operand: "x" -> input
    | "_" -> parameter
    | unit -> nested
"""
FUNCTIONS = {
    "tanh(x)": "2*sigmoid(-2*x)",
    "sigmoid(x)": "sigmoid(-x)",
    "sigmoid(sinh(x))": "sigmoid(-sinh(x))",
    "erf(x)": "erfc(x)",
    "erf(asinh(x))": "erfc(asinh(x))",
    "exp(-x**2)": "-expm1(-x**2)",
    "exp(beta*x)": "-expm1(beta*x)",
    "exp(-beta*abs(x - atan(x)))": "-expm1(-beta*abs(x - atan(x)))",
    "cos(x)": "2*sin(x/2)**2",
    "cos(tanh(x)/(cosh(x) + eps))": "2*sin(tanh(x)/(cosh(x) + eps)/2)**2",
    "cosh(x)": "-2*sinh(x/2)**2",
    "cosh(x/(sinc(x) + eps))": "1 - cosh(x/(sinc(x) + eps))",
    "sinc(x)": "1 - sinc(x)",
    "sinc(exp(-x))": "1 - sinc(exp(-x))",
    "sigmoid(x)*tanh(x)": "sigmoid(-x)*tanh(x) + 2*sigmoid(-2*x)",
    "cosh(x)*cosh(beta)": "1 - cosh(x)*cosh(beta)",
    "exp(x)*tanh(x)": "1 - exp(x)*tanh(x)",
    "max(tanh(x), sigmoid(x))": "min(2*sigmoid(-2*x), sigmoid(-x))",
    "min(tanh(x), sigmoid(x))": "max(2*sigmoid(-2*x), sigmoid(-x))",
    "max(x, tanh(x))": "min(1 - x, 2*sigmoid(-2*x))",
    "min(cosh(x), tanh(x))": "2*sigmoid(-2*x)",
    "max(-exp(x), beta)": "1 - max(-exp(x), beta)",
    "min(exp(x), beta)": "1 - min(exp(x), beta)",
    "sqrt(sigmoid(x))": "sigmoid(-x)/(1 + sqrt(sigmoid(x)))",
    "sqrt(cosh(x))": "1 - sqrt(cosh(x))",
    "abs(tanh(x))": "2*sigmoid(-2*abs(x))",
    "tanh(x) + exp(-x**2)": "2*sigmoid(-2*x) - exp(-x**2)",
    "tanh(x) - exp(-abs(x)/2)": "2*sigmoid(-2*x) + exp(-abs(x)/2)",
    "sigmoid(x) - abs(sinh(x))": "sigmoid(-x) + abs(sinh(x))",
    "x + exp(-x)": "1 - x - exp(-x)",
    "cosh(x) - 2*x": "1 - cosh(x) + 2*x",
    "x/(sinc(x) + eps)": "1 - x/(sinc(x) + eps)",
    "atan(x)/(abs(x) + eps)": "1 - atan(x)/(abs(x) + eps)",
    "x*sigmoid(beta*x)": "1 - x*sigmoid(beta*x)",
    "log(abs(x) + eps)": "1 - log(abs(x) + eps)",
    "log(cosh(x))": "1 - log(cosh(x))",
    "softplus(x)": "1 - softplus(x)",
    "softplus(-exp(x))": "1 - softplus(-exp(x))",
    "sinh(x)": "1 - sinh(x)",
    "asinh(x)": "1 - asinh(x)",
    "sin(x*exp(-x**2))": "1 - sin(x*exp(-x**2))",
    "atan(exp(-x**2))": "1 - atan(exp(-x**2))",
    "x**3": "1 - x**3",
    "-beta*x**2": "1 + beta*x**2",
}
"""What is bounded, and 1 minus it, written so that nothing cancels where that is small."""
PLACES = (
    "3e-19",
    "11e-10",
    "3e-9",
    "1/900",
    "3/7",
    "1",
    "29/16",
    "79/25",
    "11",
    "61",
    "3e6",
    "7e9",
)
BETAS = ("1/30", "1", "29/16", "11")
_X_EDGES, _BETA_EDGES = (enclosed(leaf)[0].reshape(-1) for leaf in (SIZE_OF_X, SIZE_OF_BETA))


@pytest.fixture(scope="module")
def found() -> Partition:
    return partition(SearchSpace(GRAMMAR, "sums", 2, parameters="shared"), processes=1)


def sized(cells: SizedCells, text: str | Expression) -> Sizes:
    with np.errstate(all="ignore"):
        result = cells._evaluated(
            parse(text) if isinstance(text, str) else text, dict(cells._leaves)
        )
    assert isinstance(result, Sizes)
    return result


def plain(cells: Cells, text: str) -> Bounds:
    with np.errstate(all="ignore"):
        return cells._evaluated(parse(text), dict(cells._leaves))


def logarithm(text: str, values: dict[str, Fraction]) -> Any:
    ball = ball_value(parse(text), values)
    return abs(ball).log() if is_value(ball) and not ball.contains(0) else None


def ends(interval: Any, place: tuple[int, int]) -> tuple[float, float]:
    low, high = (
        np.broadcast_to(end, (1, end.shape[1], len(_BETA_EDGES)))[(0, *place)] for end in interval
    )
    return float(low), float(high)


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_bounds_of_sizes_hold(found: Partition, quadrant: tuple[int, int]) -> None:
    cells = SizedCells(found.builder, quadrant)
    count = len(_X_EDGES)
    looked_at = 0
    with precision(2048):
        for text, rest in FUNCTIONS.items():
            bounds = sized(cells, text)
            for x, beta in itertools.product(map(Fraction, PLACES), map(Fraction, BETAS)):
                values = {"x": quadrant[0] * x, "beta": quadrant[1] * beta}
                row, column = (
                    int(np.searchsorted(edges, float(size), side="right")) - 1
                    for edges, size in ((_X_EDGES, x), (_BETA_EDGES, beta))
                )
                units = [(row, arb(1)), (count + row, exact(x))]
                if row == 0:
                    units.append((2 * count, (1 / exact(x)).log()))
                if row == count - 1:
                    units.append((2 * count + 1, exact(x).log()))
                for interval, own in ((bounds.size, text), (bounds.gap, rest)):
                    ball = logarithm(own, values)
                    for place, unit in units if ball is not None else ():
                        low, high = ends(interval, (place, column))
                        assert not ball / unit < low, (own, values, place, ball, low)
                        assert not ball / unit > high, (own, values, place, ball, high)
                        looked_at += 1
                ball = ball_value(parse(text), values)
                for interval, unit in ((bounds.value, arb(1)), (bounds.slope, exact(x))):
                    if is_value(ball):
                        low, high = ends(interval, (row if interval[0].shape[1] > 1 else 0, column))
                        assert not ball / unit < low, (text, values)
                        assert not ball / unit > high, (text, values)
    assert looked_at > 5_000


LARGER = [
    ("sigmoid(exp(x))", "sigmoid(x)"),
    ("tanh(exp(x))", "sigmoid(x)"),
    ("sigmoid(x)", "tanh(asinh(x)*sigmoid(asinh(x)))"),
    ("erf(x**2 + exp(-x**2))", "sigmoid(x)"),
    ("cos(exp(-x**2)*sigmoid(x**2))", "sigmoid(x) - 1/2"),
    ("sinh(x) + 2", "sinh(atan(x)*exp(-x))"),
    ("cosh(exp(x)/(sigmoid(x) + eps))", "sinh(x)"),
    ("exp(2*x)", "cosh(x)"),
]
CROSSING = [
    ("sigmoid(x)", "tanh(asinh(x)**2)"),  # from x = 1.6 on
    ("tanh(x)", "1 - exp(-2*x - 3)"),
    ("erf(x)", "tanh(x) + exp(-x**2)/x**2"),
    ("sigmoid(x)", "cos(exp(-x/3))"),
    ("exp(x)", "cosh(x) + sinh(x) + exp(-x)"),
    ("exp(-x)", "exp(-x - exp(-x))/(1 - exp(-x))"),
    ("cosh(x)", "1 + x**2"),
    ("x**2", "x**2 - exp(-x) + exp(-2*x) + exp(-1e7)"),
]


@pytest.mark.parametrize(("larger", "smaller"), LARGER)
def test_orders_that_sizes_show(found: Partition, larger: str, smaller: str) -> None:
    cells = SizedCells(found.builder, (1, 1))
    assert at_least(sized(cells, larger), sized(cells, smaller)).all()
    assert not at_least(sized(cells, smaller), sized(cells, larger)).all()


def test_values_alone_do_not_show_all_of_them(found: Partition) -> None:
    cells = Cells(found.builder, (1, 1))
    shown = [on_each(plain(cells, a), plain(cells, b)).all() for a, b in LARGER]
    assert sum(shown) <= len(LARGER) // 2


@pytest.mark.parametrize(("a", "b"), CROSSING)
def test_no_order_of_functions_that_cross(found: Partition, a: str, b: str) -> None:
    cells = SizedCells(found.builder, (1, 1))
    assert not at_least(sized(cells, a), sized(cells, b)).all()
    assert not at_least(sized(cells, b), sized(cells, a)).all()
