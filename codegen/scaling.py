"""Scaled functions: those of x and one parameter b that stretch with b, as x*sigmoid(b*x) does.

f(c*x, b/c) = c**d * f(x, b) for every c other than 0 makes f a function of one number but for a
power: f(x, b) = b**-d * f(b*x, 1). Its derivatives are of degree d - 1 for x and d + 1 for b
(Euler's theorem on homogeneous functions).
"""

from __future__ import annotations

from actsearch.grammar.expression import Apply, Expression, Input, Number, Parameter


def degree_of_scaling(expression: Expression) -> int | None:
    """The degree d of an expression over one parameter; None where the signs of its terms hide it.

    A sum is of the degree of all its terms, a product of the sum of its factors' degrees; other
    functions need arguments of degree 0, as b*x is: |c*x| is not c*|x| for every c.

    Example:
        >>> from actsearch.grammar import parse
        >>> degree_of_scaling(parse("x*sigmoid(beta*x)")), degree_of_scaling(parse("tanh(beta*x)"))
        (1, 0)
        >>> degree_of_scaling(parse("x*sigmoid(x + beta)")) is None
        True
    """
    if len(expression.parameters) != 1 or len(expression.inputs) != 1:
        return None
    return expression.fold(_degree)


def _degree(node: Expression, degrees: tuple[int | None, ...]) -> int | None:
    if isinstance(node, Input):
        return 1
    if isinstance(node, Parameter):
        return -1
    if not isinstance(node, Apply):
        return 0
    known = [degree for degree in degrees if degree is not None]
    if len(known) < len(degrees):
        return None
    match node.operator.name:
        case "neg":
            return known[0]
        case "mul":
            return known[0] + known[1]
        case "div":
            return known[0] - known[1]
        case "add" | "sub":
            return known[0] if known[0] == known[1] else None
        case "where":
            return known[1] if known[0] == 0 and known[1] == known[2] else None
        case "pow":
            exponent = node.arguments[1]
            if isinstance(exponent, Number) and exponent.value.denominator == 1:
                return known[0] * int(exponent.value)
    return None if any(known) else 0
