"""Proofs quadrant by quadrant: what they prove, what they must not, and in bulk on a partition."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from flint import arb

from actsearch.equivalence import samples
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.cells import LARGER, SMALLER, Cells
from actsearch.equivalence.certificate import Certificate, decide
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X, enclosed
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.normal_form import form_of
from actsearch.equivalence.polynomial import Form
from actsearch.equivalence.quadrant_rows import QuadrantRows
from actsearch.equivalence.quadrants import QUADRANTS, proves_equal
from actsearch.equivalence.row_proofs import RULES, groups_of, prove
from actsearch.equivalence.signs import nonzero_almost_everywhere
from actsearch.grammar import parse
from actsearch.grammar.expression import Input, Parameter
from actsearch.grammar.search_space import SearchSpace

EQUAL = [
    ("max(cosh(x), atan(x))", "cosh(x)"),
    ("max(x, exp(x))", "exp(x)"),
    ("max(sqrt(x), x) + min(0, x)", "max(sqrt(abs(x)), abs(x)) + 0*sqrt(x)"),
    ("min(x, -8*beta**2) - abs(beta)", "min(x, -8*abs(beta)**2) - abs(beta)"),
    ("x**2*sigmoid(abs(tanh(x)))", "x*abs(x)*sign(x)*sigmoid(tanh(abs(x)))"),
    ("max(max(x, beta), cos(x))", "max(x, max(cos(x), beta))"),
    ("sqrt(x)/(x + eps)", "sqrt(x)/(relu(x) + eps)"),
    ("min(atan(x), sqrt(sinh(x) + atan(x)))", "atan(x) + 0*sqrt(x)"),
    ("exp(-beta*abs(x - atan(x)))", "exp(-beta*abs(abs(x) - abs(atan(x))))"),
    ("max(x*sigmoid(x), -9)", "x*sigmoid(x)"),
    ("abs(beta*exp(x) + x*exp(x))*sigmoid(x)", "exp(x)*abs(beta + x)*sigmoid(x)"),
    ("abs(beta + x)*sigmoid(-x)", "abs(beta - beta*sigmoid(x) + x - x*sigmoid(x))"),
    ("x**2*abs(sinc(x)*(1 + x**2))", "(x**4 + x**2)*abs(sinc(x))"),
]
DIFFERENT = [
    ("max(x, -8)", "x"),
    ("max(x, max(atan(beta), sqrt(x - 1)))", "max(x, atan(beta))"),  # undefined for x < 1
    ("max(exp(x), 1 + x + x**2)", "exp(x)"),
    ("x*sigmoid(x) + 1e-12*exp(-x**2)", "x*sigmoid(x)"),
    ("sqrt(x)", "sqrt(abs(x))"),
    ("min(beta, x)", "min(abs(beta), x)"),
    ("max(tanh(x), erf(x) - 1e-9)", "tanh(x)"),
    ("x**2*sigmoid(atan(x)/(erf(x) + eps))", "x**2*sigmoid(abs(atan(x)/(erf(x) + eps)))"),
    ("max(sin(x), -1 + 1e-9)", "sin(x)"),
    ("max(x, x**2/1000)", "x"),
    ("log(x)", "log(abs(x))"),
    ("abs(beta + x)*(1 - x)", "abs(beta + x - beta*x - x**2)"),  # 1 - x changes its sign
    ("abs(beta + x)*sigmoid(-x)", "-abs(beta - beta*sigmoid(x) + x - x*sigmoid(x))"),
    ("abs(beta + x)*sigmoid(-x)", "abs(beta - beta*sigmoid(x) + x + x*sigmoid(x))"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_on_every_quadrant(a: str, b: str) -> None:
    assert proves_equal(parse(a), parse(b))
    assert proves_equal(parse(b), parse(a))
    decision = decide(parse(a), parse(b))
    assert isinstance(decision, Certificate)
    assert decision.kind == "proved"


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_nothing_that_differs_is_proved(a: str, b: str) -> None:
    assert not proves_equal(parse(a), parse(b))
    assert not isinstance(decide(parse(a), parse(b)), Certificate)


def test_only_one_parameter_and_one_input() -> None:
    assert not proves_equal(parse("a + b"), parse("b + a + 0*x"))
    assert not proves_equal(parse("x*gate"), parse("gate*x*1"))


GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" -> add
    | "sub(" unary ", " unary ")" -> sub
    | "max(" unary ", " unary ")" -> max
    | "min(" unary ", " unary ")" -> min
    | "exp(-_*abs(" unary " - " unary "))" -> laplace
unary: operand -> identity
    | "-" operand -> neg
    | "sqrt(" operand ")" -> sqrt
    | "exp(" operand ")" -> exp
    | "tanh(" operand ")" -> tanh
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""


@pytest.fixture(scope="module")
def found() -> Partition:
    return partition(SearchSpace(GRAMMAR, "orders", 2, parameters="shared"), processes=1)


def test_most_merges_of_a_partition_are_proved_in_bulk(found: Partition) -> None:
    groups = groups_of(found)[::5]
    proved = prove(found, groups)
    merges = sum(len(rows) - 1 for rows in groups)
    assert proved.rules.total() + proved.unproved == merges
    assert proved.rules.total() >= 0.9 * merges
    assert {"pattern", "normal form"} <= set(proved.rules) <= set(RULES[1:])
    assert all(rows[0] == left[0] for rows, left in zip(groups, proved.left, strict=True))


def test_what_is_proved_has_equal_values(found: Partition) -> None:
    points = [
        {"x": Fraction(x), "beta": Fraction(beta)}
        for x, beta in (("-37/9", "3/19"), ("1/40", "-9/8"), ("17/12", "31/12"), ("-2/7", "-77/13"))
    ]
    # Classes put together at random: nothing may be proved across their borders.
    numbers = found.numbers.copy()
    groups = groups_of(found)[::9]
    mixed = [a + b for a, b in zip(groups[::2], groups[1::2], strict=False)]
    proved = prove(found, mixed)
    assert proved.rules.total() > 0
    with precision(256):
        for rows, left in zip(mixed, proved.left, strict=True):
            assert len({int(numbers[row]) for row in left}) == 2
            for point in points:
                balls = [ball_value(found.expression(row), point) for row in rows]
                values: dict[int, object] = {}
                for row, ball in zip(rows, balls, strict=True):
                    first = values.setdefault(int(numbers[row]), ball)
                    assert (first is UNDEFINED) == (ball is UNDEFINED)
                    if is_value(first) and is_value(ball):
                        assert first.overlaps(ball)  # type: ignore[attr-defined]


PLACES = ("3e-19", "3e-9", "3/7", "29/16", "11", "3e6", "7e9")


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_bounds_of_classes_and_their_orders_hold(
    found: Partition, quadrant: tuple[int, int]
) -> None:
    big, small = found.big.place, (found.big.place[0], 0)
    table = found.builder.table(big)
    chosen = range(0, len(table), 7)
    cells = Cells(found.builder, quadrant)
    bounds = cells.bounds(big, chosen)
    orders = cells.orders(small, big, chosen)
    others = [found.builder.form_of(found.builder.table(small), n) for n in range(len(orders))]
    assert (orders > 0).mean() > 0.2
    edges = [enclosed(leaf)[0].reshape(-1) for leaf in (SIZE_OF_X, SIZE_OF_BETA)]
    with precision(256):
        for sizes in itertools.product(map(Fraction, PLACES), map(Fraction, PLACES[2:5])):
            at = {name: s * v for name, s, v in zip(("x", "beta"), quadrant, sizes, strict=True)}
            place = tuple(
                int(np.searchsorted(edge, float(size), side="right")) - 1
                for edge, size in zip(edges, sizes, strict=True)
            )
            seconds = [ball_value(found.builder.form_of(table, number), at) for number in chosen]
            for row, ball in enumerate(seconds):
                for ends, size in ((bounds.value, 1), (bounds.slope, sizes[0])):
                    low, high = (
                        np.broadcast_to(end, (len(chosen), *map(len, edges)))[(row, *place)]
                        for end in ends
                    )
                    if is_value(ball):
                        share = ball / (arb(size.numerator) / arb(size.denominator))
                        assert not share < low
                        assert not share > high
            for number, other in enumerate(others):
                first = ball_value(other, at)
                for row, ball in enumerate(seconds):
                    if is_value(first) and is_value(ball):
                        assert not (orders[number, row] & LARGER and first < ball)
                        assert not (orders[number, row] & SMALLER and first > ball)


@pytest.mark.parametrize("quadrant", QUADRANTS[:3])
def test_rows_that_are_equal_on_every_cell_have_equal_values(
    found: Partition, quadrant: tuple[int, int]
) -> None:
    rows = QuadrantRows(found, quadrant)
    groups = groups_of(found)[::11]
    pairs = [(group[0], row) for group in groups for row in group[1:4]]
    pairs += [(a[0], b[0]) for a, b in itertools.pairwise(groups)]
    equal = [pair for pair in pairs if rows.equal_on_cells(*pair)]
    assert 20 < len(equal) < len(pairs)
    with precision(256):
        for sizes in (("3/11", "5/13"), ("9/8", "1/40"), ("31/12", "77/13")):
            at = {
                name: sign * Fraction(size)
                for name, sign, size in zip(("x", "beta"), quadrant, sizes, strict=True)
            }
            for pair in equal:
                first, second = (ball_value(found.expression(row), at) for row in pair)
                if is_value(first) and is_value(second):
                    assert first.overlaps(second)


@pytest.mark.parametrize("quadrant", QUADRANTS[:3])
def test_a_production_over_functions_is_the_function_of_the_class(
    found: Partition, quadrant: tuple[int, int]
) -> None:
    """On a cell a sub-term is put together from what its own sub-terms are there."""
    rows, builder, big = QuadrantRows(found, quadrant), found.builder, found.big
    codes = set()
    for number in range(0, len(big), 5):
        shape, children = big.firsts[number]
        own = big.shapes[shape]
        operands = [rows._operand(p, c)[0] for p, c in zip(own.places, children, strict=True)]
        code = rows._code_of_applied(builder.template(own.production), operands)
        assert code == rows._operand(big.place, number)[0]
        codes.add(code)
    assert len(codes) > len(big) / 20


def on_quadrant(text: str) -> Form:
    return form_of(parse(text).substitute({Input("x"): SIZE_OF_X, Parameter("beta"): SIZE_OF_BETA}))


def test_what_vanishes_on_no_open_set() -> None:
    for text in ("abs(x - cos(x)) - x + eps", "min(beta, atan(x)) - x/2", "sqrt(x) - log(x + 1)"):
        assert nonzero_almost_everywhere(on_quadrant(text))
    for text in ("abs(x - 1) - x + 1", "min(beta, x) - beta", "max(x, cos(beta)) - abs(x)"):
        assert not nonzero_almost_everywhere(on_quadrant(text))


def test_samples_refute_what_balls_refute() -> None:
    assert samples.signs(on_quadrant("x - sin(x)")) == (True, False)
    assert samples.signs(on_quadrant("x - 1")) == (True, True)
    assert samples.differ(on_quadrant("max(x, beta)"), on_quadrant("x"))
    assert not samples.differ(on_quadrant("cosh(x)**2 - 1"), on_quadrant("sinh(x)**2"))


def test_groups_are_the_classes_with_several_rows(found: Partition) -> None:
    groups = groups_of(found)
    assert sum(len(rows) - 1 for rows in groups) == len(found.numbers) - found.count
    number = int(found.numbers[groups[7][0]])
    assert groups_of(found, [number]) == [np.flatnonzero(found.numbers == number).tolist()]
