"""Proofs quadrant by quadrant: what they prove, what they must not, and in bulk on a partition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from actsearch.equivalence.balls import UNDEFINED, ball_value, is_value, precision
from actsearch.equivalence.certificate import Certificate, decide
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.quadrants import proves_equal
from actsearch.equivalence.row_proofs import RULES, groups_of, prove
from actsearch.grammar import parse
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


def test_groups_are_the_classes_with_several_rows(found: Partition) -> None:
    groups = groups_of(found)
    assert sum(len(rows) - 1 for rows in groups) == len(found.numbers) - found.count
    number = int(found.numbers[groups[7][0]])
    assert groups_of(found, [number]) == [np.flatnonzero(found.numbers == number).tolist()]
