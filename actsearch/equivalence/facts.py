"""What a partition reports about a function: whether it is constant, and whether it has gaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

from actsearch.equivalence.balls import ball_value, precision
from actsearch.equivalence.certificate import Certificate, Deadline, compare
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.normal_form import form_of, normal_form
from actsearch.equivalence.points import Line, switching_points
from actsearch.equivalence.polynomial import TooLarge
from actsearch.grammar.expression import Expression, Input, Number
from actsearch.grammar.language import as_expression

_PLACES = (Number("0.7294921875"), Number("-1.4072265625"))
_GRID = 97
_PARAMETERS = (Fraction(1), Fraction(1327, 1024), Fraction(-777, 1024))


def is_constant(expression: str | Expression, seconds: float = 5.0) -> bool:
    """Whether the value depends on no input: proved by the normal form, or certified by balls."""
    expression = as_expression(expression)
    inputs = normal_form(expression).inputs
    if not inputs:
        return True
    fixed: dict[Expression, Expression] = {
        Input(node.name): place for node, place in zip(inputs, _PLACES, strict=False)
    }
    frozen = expression.substitute(fixed)
    return isinstance(compare(expression, frozen, Deadline(seconds)), Certificate)


def is_linear(expression: str | Expression) -> bool:
    """Whether the normal form is a·x + b with a and b free of inputs (and defined everywhere)."""
    try:
        form = form_of(as_expression(expression))
    except TooLarge:
        return False
    if form.domain:
        return False
    degrees = set()
    for product in form.terms:
        exponents = [k for atom, k in product if isinstance(atom, Input)]
        others = [atom for atom, _ in product if not isinstance(atom, Input)]
        if any(atom.inputs for atom in others):
            return False
        degrees.add(tuple(exponents))
    return (1,) in degrees and degrees <= {(), (1,)}


def undefined_at(
    expression: str | Expression, low: float = -5.0, high: float = 5.0
) -> Fraction | None:
    """A point of [low, high] around which the function is undefined; None if there is none.

    Isolated points (a pole) do not count. Parameters are looked at with the values 1, 1.296 and
    -0.759.
    """
    expression = as_expression(expression)
    try:
        if not form_of(expression).domain:
            return None  # defined almost everywhere, proved
    except TooLarge:
        pass
    parameters = [parameter.name for parameter in expression.parameters]
    names = ("x", "gate", *parameters)
    for value in _PARAMETERS[: len(_PARAMETERS) if parameters else 1]:
        start = (Fraction(0), Fraction(777, 1024), *(value for _ in parameters))
        direction = (Fraction(1), *(Fraction(0) for _ in names[1:]))
        line = Line(names, start, direction)
        for t in _places(expression, line, low, high):
            if all(_undefined(expression, line, t + step) for step in (0, 1 / Fraction(1 << 30))):
                return t
    return None


def _places(expression: Expression, line: Line, low: float, high: float) -> Iterator[Fraction]:
    width = Fraction(high) - Fraction(low)
    for step in range(_GRID):
        yield Fraction(low) + width * (2 * step + 1) / (2 * _GRID)
    inside = [t for t in switching_points((expression,), line) if low < t < high]
    ends = [low, *inside, high]
    for left, right in itertools.pairwise(ends):
        yield Fraction((left + right) / 2)


def _undefined(expression: Expression, line: Line, t: Fraction) -> bool:
    with precision(128):
        return ball_value(expression, line.at(t)) is UNDEFINED
