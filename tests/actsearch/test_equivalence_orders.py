"""Orders of sub-terms on a quadrant: what samples refute and boxes prove, held against balls."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.cells import Cells
from actsearch.equivalence.class_samples import ClassSamples
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.orders import Orders
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.equivalence.subdivision import Subdivision
from actsearch.equivalence.term_tables import LARGER, SMALLER, Side
from actsearch.grammar import parse
from actsearch.grammar.expression import Expression
from actsearch.grammar.search_space import SearchSpace

GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" -> add
    | "mul(" unary ", " unary ")" -> mul
    | "max(" unary ", " unary ")" -> max
    | "div(" unary ", " unary " + eps)" -> div
unary: operand -> identity
    | "-" operand -> neg
    | operand "**2" -> square
    | "log(abs(" operand ") + eps)" -> log_abs
    | "exp(" operand ")" -> exp
    | "cos(" operand ")" -> cos
    | "tanh(" operand ")" -> tanh
    | "softplus(" operand ")" -> softplus
    | "sqrt(" operand ")" -> sqrt
    | "min(0, " operand ")" -> negative
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""
CLOSE = [
    ("x**2", "cos(x) + log(abs(x) + eps)"),
    ("exp(x**2/(softplus(x) + eps))", "max(x**2, tanh(x))"),
    ("softplus(beta + exp(x))", "sqrt(x)/(sqrt(x) + eps)"),
    ("beta + x", "sqrt(log(abs(x) + eps)*softplus(x))"),
]
"""The larger and the smaller one where x and beta are positive; bounds on cells overlap."""
CROSSING = [("exp(-x)", "tanh(x)"), ("exp(-x)", "cos(x)"), ("beta", "softplus(x)")]
SIZES = ("1/7", "3/7", "1", "29/16", "79/25", "11", "61")
POINTS = tuple(itertools.product(SIZES, ("1/30", "3/4", "29/16", "11")))


@pytest.fixture(scope="module")
def found() -> Partition:
    return partition(SearchSpace(GRAMMAR, "orders", 2, parameters="shared"), processes=1)


def drawn(found: Partition, count: int) -> list[tuple[Side, Side]]:
    """Pairs of classes of the large table, or their negatives."""
    rng = np.random.default_rng(5)
    numbers = rng.integers(0, len(found.big), (count, 2)).tolist()
    mirrored = rng.integers(0, 2, (count, 2)).astype(bool).tolist()
    return [
        (Side(found.big.place, a, m), Side(found.big.place, b, n))
        for (a, b), (m, n) in zip(numbers, mirrored, strict=True)
    ]


def function(found: Partition, side: Side) -> Expression:
    form = found.builder.form_of(found.builder.table(side.place), side.number)
    return -form if side.mirrored else form


def differences(
    found: Partition, first: Side, second: Side, quadrant: tuple[int, int]
) -> list[tuple[bool, bool]]:
    """Whether the first is larger, and whether it is smaller, at points where both are defined."""
    result = []
    with precision(256):
        for sizes in POINTS:
            at = {
                name: sign * Fraction(size)
                for name, sign, size in zip(("x", "beta"), quadrant, sizes, strict=True)
            }
            a, b = (ball_value(function(found, side), at) for side in (first, second))
            if is_value(a) and is_value(b):
                result.append((bool(a > b), bool(a < b)))
    return result


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_orders_hold_at_points(found: Partition, quadrant: tuple[int, int]) -> None:
    orders = Orders(found.builder, quadrant, Cells(found.builder, quadrant))
    proved = 0
    for first, second in drawn(found, 400):
        order = orders.of(first, second)
        if order:
            proved += 1
            shown = differences(found, first, second, quadrant)
            assert not (order & LARGER and any(smaller for _, smaller in shown))
            assert not (order & SMALLER and any(larger for larger, _ in shown))
    assert proved > 60


@pytest.mark.parametrize("quadrant", QUADRANTS[:3])
def test_closer_orders_hold_at_points(found: Partition, quadrant: tuple[int, int]) -> None:
    place = found.big.place
    orders = Orders(found.builder, quadrant, Cells(found.builder, quadrant))
    chosen = list(range(0, len(found.big), 11))
    proved = 0
    own = place[0], 0
    generator = random.Random(f"closer {quadrant}")
    asked = {
        number: generator.choices(chosen, k=len(chosen))
        for number in range(0, len(found.builder.table(own)), 2)
    }
    for number, shown_orders in orders.closer(own, place, asked).items():
        small = Side(own, number)
        for other, order in zip(asked[number], shown_orders.tolist(), strict=True):
            if order:
                proved += 1
                shown = differences(found, small, Side(place, other), quadrant)
                assert not any(side[order == LARGER] for side in shown)
    assert proved > 100


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_what_samples_refute_is_false(found: Partition, quadrant: tuple[int, int]) -> None:
    """Where a sample shows a > b, an order a ≤ b is shown by no bounds."""
    samples = ClassSamples(found.builder, quadrant)
    cells = Cells(found.builder, quadrant)
    refuted = [0, 0, 0, 0]
    for first, second in drawn(found, 400):
        own = samples.refuted_of(first, second)
        refuted[own] += 1
        assert not (np.bitwise_and.reduce(cells.order(first, second), axis=None) & own)
        if not first.mirrored and not second.mirrored:
            assert samples.refuted(first, second.place, [second.number]).tolist() == [own]
    assert min(refuted[1:]) > 20


def side_of(found: Partition, text: str) -> Side:
    wanted = normal_form(parse(text))
    tables = found.builder.table((found.big.place[0], 0)), found.big
    return next(
        Side(table.place, number)
        for table in tables
        for number in range(len(table))
        if found.builder.form_of(table, number) is wanted
    )


@pytest.mark.parametrize(("larger", "smaller"), CLOSE)
def test_boxes_show_what_cells_do_not(found: Partition, larger: str, smaller: str) -> None:
    first, second = side_of(found, larger), side_of(found, smaller)
    cells = Cells(found.builder, (1, 1))
    left = cells.order(first, second) & LARGER == 0
    assert left.any()
    boxes = Subdivision(found.builder, (1, 1))
    assert boxes.at_least(first, second, left)
    assert not boxes.at_least(second, first, left)
    mirrored = [side._replace(mirrored=True) for side in (second, first)]
    assert boxes.at_least(mirrored[0], mirrored[1], left)
    orders = Orders(found.builder, (1, 1), cells)
    assert orders.of(first, second) == LARGER
    for (a, b), order in (((first, second), LARGER), ((second, first), SMALLER)):
        assert orders.closer(a.place, b.place, {a.number: [b.number]})[a.number] == [order]


@pytest.mark.parametrize(("a", "b"), CROSSING)
def test_boxes_show_nothing_of_functions_that_cross(found: Partition, a: str, b: str) -> None:
    sides = side_of(found, a), side_of(found, b)
    orders = Cells(found.builder, (1, 1)).order(*sides)
    left = orders == 0
    assert left[1:-1].any()  # on the cell of a crossing nothing is shown
    boxes = Subdivision(found.builder, (1, 1))
    for first, second in (sides, sides[::-1]):
        assert not boxes.at_least(first, second, left)
