"""The rewrites of the normal form, one to a line: `pattern -> result  # maths`.

A rule holds for partial functions, up to isolated points: both sides are defined at the same points
and equal there; where the result is defined on more than the pattern, the normal form keeps the
pattern's domain beside it. Every line is checked by an independent oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from actsearch.grammar.expression import Apply, Expression, Parameter
from actsearch.grammar.language import parse_template

DEFINITIONS: tuple[str, ...] = (
    "relu(a) -> (a + abs(a))/2",  # max(a, 0) = (a + |a|)/2
    "max(a, b) -> (a + b + abs(a - b))/2",
    "min(a, b) -> (a + b - abs(a - b))/2",
    "expm1(a) -> exp(a) - 1",
    "log1p(a) -> log(1 + a)",
    "softplus(a) -> log(1 + exp(a))",
    "erfc(a) -> 1 - erf(a)",
    "acos(a) -> pi/2 - asin(a)",
    "tan(a) -> sin(a)/cos(a)",
    "hypot(a, b) -> sqrt(a**2 + b**2)",
)
"""Operators that the normal form spells out by others."""

COMPOSITIONS: tuple[str, ...] = (
    "sin(asin(a)) -> a",
    "cos(asin(a)) -> sqrt(1 - a**2)",
    "sin(atan(a)) -> a/sqrt(1 + a**2)",
    "cos(atan(a)) -> 1/sqrt(1 + a**2)",
    "sinh(asinh(a)) -> a",
    "asinh(sinh(a)) -> a",
    "cosh(asinh(a)) -> sqrt(1 + a**2)",
    "cosh(acosh(a)) -> a",
    "tanh(atanh(a)) -> a",
    "atanh(tanh(a)) -> a",
    "tanh(asinh(a)) -> a/sqrt(1 + a**2)",
    "sigmoid(log(a)) -> a/(1 + a)",  # 1/(1 + 1/a)
)
"""A function of a function."""

AT_ZERO: tuple[str, ...] = (
    "cos(0) -> 1",
    "cosh(0) -> 1",
    "sinc(0) -> 1",
    "sigmoid(0) -> 1/2",
    "i0e(0) -> 1",
)
"""Values at 0; an odd function is 0 there, and needs no line."""

ELEMENTARY: tuple[str, ...] = (
    "sinh(a) -> (exp(a) - exp(-a))/2",
    "cosh(a) -> (exp(a) + exp(-a))/2",
    "tanh(a) -> (exp(2*a) - 1)/(exp(2*a) + 1)",
    "sigmoid(a) -> 1/(1 + exp(-a))",
    "sinc(a) -> sin(a)/a",  # up to the zeros of a; where a vanishes on a piece the domain tells
)
"""What `algebra` spells out besides, to decide equality of rational functions of exponentials."""


@cache
def definitions(lines: tuple[str, ...]) -> Mapping[str, Expression]:
    """Operator name -> the template that spells it out, for rules over plain arguments."""
    return {pattern.operator.name: result for pattern, result in map(_split, lines)}


@cache
def compositions() -> Mapping[tuple[str, str], Expression]:
    """(outer operator, inner operator) -> template over the inner argument."""
    found: dict[tuple[str, str], Expression] = {}
    for pattern, result in map(_split, COMPOSITIONS):
        inner = pattern.arguments[0]
        assert isinstance(inner, Apply)
        assert isinstance(inner.arguments[0], Parameter)
        found[pattern.operator.name, inner.operator.name] = result
    return found


def _split(line: str) -> tuple[Apply, Expression]:
    left, right = (parse_template(side.strip()) for side in line.split("->"))
    assert isinstance(left, Apply), line
    return left, right
