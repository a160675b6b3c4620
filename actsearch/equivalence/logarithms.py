"""Logarithms of quotients of functions that are too large for balls.

exp(C) and exp(C − x) differ by a factor exp(x), however large C is, and what they have in common
cancels in their logarithms on paper. So does what sinh C and cosh C have in common, once these are
spelled out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from actsearch.equivalence.algebra import elementary
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.normal_form import form_of
from actsearch.equivalence.polynomial import Form, TooLarge, to_expression, total
from actsearch.grammar.expression import Apply, Expression, call

_BITS = 256


def log_of_quotient(
    a: Expression, b: Expression, values: Mapping[str, Fraction]
) -> Expression | None:
    """log(a/b) of two functions exp(u), exp(v) near a point, simplified; None for others.

    Args:
        a: an expression.
        b: another.
        values: the point; each |s| is written as s or −s, as it is there.
    """
    exponents = [_exponent(side) for side in (a, b)]
    try:
        forms = [form_of(elementary(_without_bars(e, values))) for e in exponents if e is not None]
        if len(forms) < 2:
            return None
        difference = total(zip(forms, (Fraction(1), Fraction(-1)), strict=True))
        return to_expression(Form(difference.terms))
    except (TooLarge, RecursionError):
        return None


def _exponent(expression: Expression) -> Expression | None:
    is_exponential = isinstance(expression, Apply) and expression.operator.name == "exp"
    return expression.arguments[0] if is_exponential else None


def _without_bars(expression: Expression, values: Mapping[str, Fraction]) -> Expression:
    """An expression of the same value, with each |s| that balls tell the sign of replaced."""

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        node = node.with_arguments(arguments) if arguments else node
        if not isinstance(node, Apply) or node.operator.name != "abs":
            return node
        with precision(_BITS):
            inside = ball_value(arguments[0], values)
        if not is_value(inside) or inside.contains(0):
            return node
        return arguments[0] if inside > 0 else call("neg", arguments[0])

    return expression.fold(visit)
