"""The larger of several functions, however it was written: equal numbers are equal functions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from actsearch.equivalence.audit import values_of_rows
from actsearch.equivalence.balls import is_value, precision
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.quadrant_rows import QuadrantRows
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.grammar.search_space import SearchSpace

GRAMMAR = """
start: unit
unit: "max(" unary ", " unary ")" -> max
    | "min(" unary ", " unary ")" -> min
    | "sub(" unary ", " unary ")" -> sub
unary: operand -> identity
    | "-" operand -> neg
    | "abs(" operand ")" -> abs
    | "max(0, " operand ")" -> positive
    | "sqrt(" operand ")" -> sqrt
    | "cos(" operand ")" -> cos
    | "tanh(" operand ")" -> tanh
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""
ALIKE = [
    ("max(max(tanh(x), cos(x)), _)", "max(cos(x), max(_, tanh(x)))", QUADRANTS),
    ("min(min(x, cos(x)), _)", "min(cos(x), min(_, x))", QUADRANTS),
    ("max(-min(x, -x), _)", "max(_, max(-x, x))", QUADRANTS),
    (
        "max(abs(sub(x, cos(x))), cos(x))",
        "max(cos(x), abs(sub(cos(x), x)))",
        QUADRANTS,
    ),
    ("max(abs(sub(x, _)), cos(x))", "max(cos(x), abs(sub(_, x)))", QUADRANTS),
    ("max(max(tanh(x), cos(x)), x)", "max(x, cos(max(x, x)))", QUADRANTS[:2]),
    ("max(max(tanh(x), cos(x)), x)", "max(tanh(x), cos(max(x, x)))", QUADRANTS[2:]),
    ("min(max(0, min(x, _)), _)", "min(_, max(0, min(_, x)))", QUADRANTS),
]
DIFFERENT = [
    ("max(max(tanh(x), cos(x)), _)", "max(max(tanh(x), cos(x)), x)"),
    ("max(max(sqrt(x), tanh(x)), x)", "max(tanh(x), max(x, x))"),  # defined for x ≥ 0 only
    ("max(max(tanh(x), cos(x)), _)", "min(min(tanh(x), cos(x)), _)"),
    ("max(min(tanh(x), cos(x)), _)", "max(max(tanh(x), cos(x)), _)"),
    ("max(max(0, sub(x, _)), x)", "max(sub(x, _), x)"),
]


@pytest.fixture(scope="module")
def found() -> Partition:
    return partition(SearchSpace(GRAMMAR, "joins", 2, parameters="shared"), processes=1)


def code(found: Partition, rows: QuadrantRows, name: str) -> int:
    row = found.row_of(found.space.index(name))
    return int(rows.codes(np.array([row]))[0])


def test_the_order_and_the_nesting_of_maxima_do_not_count(found: Partition) -> None:
    for quadrant in QUADRANTS:
        rows = QuadrantRows(found, quadrant)
        for a, b, where in ALIKE:
            if quadrant in where:
                assert code(found, rows, a) == code(found, rows, b), (a, b, quadrant)


def test_what_differs_on_some_quadrant_has_another_number_there(found: Partition) -> None:
    quadrants = [QuadrantRows(found, quadrant) for quadrant in QUADRANTS]
    for a, b in DIFFERENT:
        assert any(code(found, rows, a) != code(found, rows, b) for rows in quadrants), (a, b)


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_rows_with_equal_numbers_have_equal_values(
    found: Partition, quadrant: tuple[int, int]
) -> None:
    chosen = np.random.default_rng(7).permutation(len(found.numbers))[:6_000]
    codes = QuadrantRows(found, quadrant).codes(chosen)
    order = np.argsort(codes, kind="stable")
    groups = np.split(chosen[order], np.flatnonzero(np.diff(codes[order])) + 1)
    several = [rows.tolist() for rows in groups if len(rows) > 1]
    assert len(several) > 300
    assert sum(codes < 0) > 500
    for x, beta in (("1/97", "13/9"), ("5/9", "4/11"), ("17/10", "7/8"), ("31/4", "1/60")):
        values = {"x": quadrant[0] * Fraction(x), "beta": quadrant[1] * Fraction(beta)}
        with precision(128):
            value = values_of_rows(found, values)
            for rows in several:
                first, *others = map(value, rows)
                for other in others:
                    assert (first is UNDEFINED) == (other is UNDEFINED)
                    assert not (is_value(first) and is_value(other)) or first.overlaps(other)
