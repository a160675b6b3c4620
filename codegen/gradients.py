"""Exact gradients: the chain rule over the operator table's derivative column.

Not sympy's diff: it rewrites as it goes (sqrt(x)*sqrt(x) becomes x, with another domain), recurses
as deep as the expression, and takes longer. sympy is the independent oracle of the tests instead.

Derivatives are carried forwards, from the leaf to the root, so that a piece that is not selected is
never multiplied by zero: the derivative of where(c, f, g) is where(c, f', g'), and an infinite f'
outside of its piece makes no NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from actsearch.codegen.polynomials import quotient_rule
from actsearch.codegen.rewriting import Rules
from actsearch.grammar.expression import Apply, Expression, Input, Number, Parameter, call
from actsearch.grammar.language import as_expression, parse_template

ZERO = Number(0)

CLEAN = Rules(
    # sums
    "a + 0 -> a",
    "a - 0 -> a",
    "0 - a -> -a",
    "a - a -> 0",
    "a + -b -> a - b",
    "a - -b -> a + b",
    "a + k -> a - (-k)",
    "a + k*b -> a - (-k)*b",
    "a - k*b -> a + (-k)*b",
    "a + b - a -> b",
    "a - (a + b) -> -b",
    "a - b + b -> a",
    "a - b - a -> -b",
    "a - (a - b) -> b",
    # signs
    "--a -> a",
    "-(a - b) -> b - a",
    "-(n*a) -> (-n)*a",
    "-(n/a) -> (-n)/a",
    # products: one number in front, the rest to the left
    "a*0 -> 0",
    "a*1 -> a",
    "a*-1 -> -a",
    "a*-b -> -(a*b)",
    "m*(n*a) -> (m*n)*a",
    "m*(n/a) -> (m*n)/a",
    "a*n => n*a",
    "a*(n*b) => n*(a*b)",
    "(n*a)*b => n*(a*b)",
    "a*(1/b) -> a/b",
    "a*(n/u) -> n*(a/u)",
    "where(a, n, b)*c -> where(a, n*c, b*c)",
    "where(a, b, n)*c -> where(a, b*c, n*c)",
    "where(a, where(b, c, d), f)*g -> where(a, where(b, c, d)*g, f*g)",
    "where(a, b, where(c, d, f))*g -> where(a, b*g, where(c, d, f)*g)",
    # quotients
    "0/a -> 0",
    "a/1 -> a",
    "a/-1 -> -a",
    "(-a)/b -> -(a/b)",
    "a/-b -> -(a/b)",
    "(n*a)/m -> (n/m)*a",
    "(n*a)/b -> n*(a/b)",
    "where(a, n, b)/c -> where(a, n/c, b/c)",
    "where(a, b, n)/c -> where(a, b/c, n/c)",
    "where(a, where(b, c, d), f)/g -> where(a, where(b, c, d)/g, f/g)",
    "where(a, b, where(c, d, f))/g -> where(a, b/g, where(c, d, f)/g)",
    # powers
    "a**1 -> a",
    "a**0 -> 1",
    # pieces
    "where(a, where(a, b, c), d) -> where(a, b, d)",
    "where(a, b, where(a, c, d)) -> where(a, b, d)",
)
"""What keeps derivatives short. Every rule holds wherever its left side is defined."""

_WITH_TANGENTS = ("a", "b", "c", "da", "db", "dc")
_TANGENTS = {
    name: parse_template(text, _WITH_TANGENTS)
    for name, text in {
        "where": "where(a, db, dc)",
        "relu": "where(a > 0, da, 0)",
        "max": "where(a > b, da, where(a < b, db, 0.5*da + 0.5*db))",
        "min": "where(a < b, da, where(a > b, db, 0.5*da + 0.5*db))",
        "div": "da/b - a/b*(db/b)",  # b**2 would overflow long before the quotient does
    }.items()
}
"""Derivative of an operator given those of its operands, where products with the partial
derivatives of the table would multiply an infinity by zero, or overflow."""


def gradient(expression: str | Expression) -> dict[str, Expression]:
    """The exact partial derivatives of an activation.

    Args:
        expression: an expression, or its text.

    Returns:
        For each input ("x", "gate") and each trainable parameter, by name, the derivative.
        At kinks the convention is PyTorch's: relu'(0) = 0, |x|'(0) = 0, a tie of max or min splits
        evenly.

    Raises:
        ExpressionError: the text is no expression.

    >>> print(gradient("x*sigmoid(beta*x)")["x"])
    sigmoid(beta*x) + beta*sigmoid(beta*x)*sigmoid(-(beta*x))*x
    """
    expression = as_expression(expression)
    leaves: tuple[Input | Parameter, ...] = (*expression.inputs, *expression.parameters)
    derivatives = differentiate(expression, leaves)
    return {leaf.name: _left_to_right(d) for leaf, d in zip(leaves, derivatives, strict=True)}


def differentiate(expression: Expression, leaves: Iterable[Expression]) -> list[Expression]:
    """The derivative of an expression for each of the leaves."""
    nodes = list(expression.postorder())
    return [_derivative(nodes, leaf) for leaf in leaves]


def _derivative(nodes: Sequence[Expression], leaf: Expression) -> Expression:
    """The derivative of the last of `nodes`, which are in postorder, for `leaf`."""
    tangents: dict[Expression, Expression] = {leaf: Number(1)}
    for node in nodes:
        if isinstance(node, Apply) and any(argument in tangents for argument in node.arguments):
            tangent = _tangent(node, [tangents.get(a, ZERO) for a in node.arguments])
            if tangent is not ZERO:
                tangents[node] = tangent
    return tangents.get(nodes[-1], ZERO)


def _tangent(node: Apply, tangents: list[Expression]) -> Expression:
    """The derivative of one operator, given those of its operands."""
    bound = dict(zip(_WITH_TANGENTS[:3], node.arguments, strict=False))
    if node.operator.name in _TANGENTS:
        if node.operator.name == "div" and ZERO not in tangents:
            over_square = quotient_rule(CLEAN, *node.arguments, *tangents)
            if over_square is not None:
                return over_square
        bound |= dict(zip(_WITH_TANGENTS[3:], tangents, strict=False))
        return CLEAN.instantiate(_TANGENTS[node.operator.name], bound)
    total: Expression = ZERO
    for formula, tangent in zip(node.operator.derivative, tangents, strict=True):
        if tangent is not ZERO:
            local = CLEAN.instantiate(parse_template(formula), bound)
            total = CLEAN.build("add", total, CLEAN.build("mul", tangent, local))
    return total


_FACTORS = 12  # longer products stay as the chain rule built them


def _left_to_right(expression: Expression) -> Expression:
    """Short products without the parentheses that the chain rule leaves: a*(b*c) as a*b*c."""

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        if not isinstance(node, Apply) or node.operator.name != "mul":
            return node.with_arguments(arguments)
        factors = [factor for argument in arguments for factor in _factors(argument)]
        if len(factors) > _FACTORS:
            return node.with_arguments(arguments)
        return functools.reduce(lambda product, factor: call("mul", product, factor), factors)

    return expression.fold(visit)


def _factors(node: Expression) -> list[Expression]:
    """The factors along the left edge of a product, in writing order; at most a few."""
    found: list[Expression] = []
    while isinstance(node, Apply) and node.operator.name == "mul" and len(found) < _FACTORS:
        found.append(node.arguments[1])
        node = node.arguments[0]
    return [node, *reversed(found)]
