"""Sums of products, multiplied out: what cancels on paper does not cancel in floating point.

The quotient rule takes the difference of two products that agree in almost every digit where the
quotient has a limit: for x/(1 + |x|) it is (1 + |x|) - x*sign(x), which is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from actsearch.codegen.rewriting import Rules
from actsearch.grammar.errors import BadNumber
from actsearch.grammar.expression import Apply, Expression, Number, call

Monomial = frozenset[tuple[Expression, int]]
"""A product of powers: each factor once, with its exponent, which may be negative."""
Polynomial = Mapping[Monomial, Fraction]

_LARGEST = 200  # nodes of an expression that is multiplied out
_TERMS = 24  # of a polynomial; longer ones are left alone
_EXPONENT = 4  # of a sum
_KEPT = 2  # terms of a numerator that is worth it
_ONE: Monomial = frozenset()


class _TooLong(Exception):
    """There is no short polynomial."""


def quotient_rule(
    clean: Rules, a: Expression, b: Expression, da: Expression, db: Expression
) -> Expression | None:
    """(da*b - a*db)/b/b with its numerator multiplied out, if that leaves a term or two; else None.

    Roots in its denominators are multiplied away: with s = sqrt(1 + x**2), the numerator
    s - x*(x/s) of (x/s)' is (s**2 - x**2)/s, which is 1/s.
    """
    parts = (a, b, da, db)
    if any(part.size > _LARGEST for part in parts):
        return None
    signed = {
        node.arguments[0]
        for part in parts
        for node in part.postorder()
        if isinstance(node, Apply) and node.operator.name in ("abs", "sign")
    }
    try:
        pa, pb, pda, pdb = (_polynomial(part, signed) for part in parts)
        difference = [*_product(pda, pb).items(), *_scaled(_product(pa, pdb), -1).items()]
        denominator = _roots_below(monomial for monomial, _ in difference)
        terms = [_reduced(_times(m, denominator), factor, signed) for m, factor in difference]
        total = _plus(*terms)
        before = {monomial for term in terms for monomial in term}
        if len(total) == len(before) or len(total) > _KEPT:
            return None
        numerator = _sum(clean, {_over(m, denominator): factor for m, factor in total.items()})
    except (_TooLong, BadNumber):
        return None
    return clean.build("div", clean.build("div", numerator, b), b)


def _polynomial(node: Expression, opaque: Collection[Expression]) -> Polynomial:
    """An expression as a polynomial in its parts that are no sums, products or whole powers."""
    if isinstance(node, Number):
        return {_ONE: node.value} if node.value else {}
    atom = {frozenset([(node, 1)]): Fraction(1)}
    if not isinstance(node, Apply) or node in opaque:
        return atom
    operands = node.arguments
    match node.operator.name:
        case "neg":
            return _scaled(_polynomial(operands[0], opaque), -1)
        case "add":
            return _plus(*(_polynomial(operand, opaque) for operand in operands))
        case "sub":
            left, right = (_polynomial(operand, opaque) for operand in operands)
            return _plus(left, _scaled(right, -1))
        case "mul":
            left, right = (_polynomial(operand, opaque) for operand in operands)
            return _product(left, right)
        case "div":
            left, right = (_polynomial(operand, opaque) for operand in operands)
            if len(right) != 1:
                raise _TooLong
            ((monomial, factor),) = right.items()
            return _product(left, {_over(_ONE, monomial): 1 / factor})
        case "pow" if isinstance(operands[1], Number) and operands[1].value.denominator == 1:
            return _power(_polynomial(operands[0], opaque), int(operands[1].value))
    return atom


def _plus(*summands: Polynomial) -> Polynomial:
    total: dict[Monomial, Fraction] = {}
    for summand in summands:
        for monomial, factor in summand.items():
            total[monomial] = total.get(monomial, Fraction(0)) + factor
    if len(total) > _TERMS:
        raise _TooLong
    return {monomial: factor for monomial, factor in total.items() if factor}


def _scaled(polynomial: Polynomial, by: int) -> Polynomial:
    return {monomial: by * factor for monomial, factor in polynomial.items()}


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    if len(left) * len(right) > _TERMS:
        raise _TooLong
    return _plus(*({_times(m, n): f * g} for m, f in left.items() for n, g in right.items()))


def _power(base: Polynomial, exponent: int) -> Polynomial:
    if len(base) == 1:
        ((monomial, factor),) = base.items()
        return {frozenset((a, power * exponent) for a, power in monomial): factor**exponent}
    if not 0 <= exponent <= _EXPONENT:
        raise _TooLong
    result: Polynomial = {_ONE: Fraction(1)}
    for _ in range(exponent):
        result = _product(result, base)
    return result


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers = Counter(dict(left))
    powers.update(dict(right))  # adds
    return frozenset((atom, power) for atom, power in powers.items() if power)


def _over(left: Monomial, right: Monomial) -> Monomial:
    return _times(left, frozenset((atom, -power) for atom, power in right))


def _is(atom: Expression, *operators: str) -> bool:
    return isinstance(atom, Apply) and atom.operator.name in operators


def _roots_below(monomials: Iterable[Monomial]) -> Monomial:
    """The product of roots that all the monomials have in their denominators, at most."""
    powers: Counter[Expression] = Counter()
    for monomial in monomials:
        below = {atom: -power for atom, power in monomial if _is(atom, "sqrt", "hypot")}
        powers |= Counter(below)  # the larger ones
    return frozenset(powers.items())


def _reduced(monomial: Monomial, factor: Fraction, opaque: Collection[Expression]) -> Polynomial:
    """sign(u)*u -> |u|, sign(u)*|u| -> u, |u|**2 -> u**2, and squares of roots without them."""
    for atom, power in monomial:
        if _is(atom, "sign") and power == 1:
            (inner,) = atom.arguments
            size = call("abs", inner)
            for old, new in ((inner, size), (size, inner)):
                if dict(monomial).get(old, 0) > 0:
                    rest = _over(monomial, frozenset([(atom, 1), (old, 1)]))
                    return _reduced(_times(rest, frozenset([(new, 1)])), factor, opaque)
        if power > 1 and (square := _square(atom, opaque)) is not None:
            rest = _over(monomial, frozenset([(atom, 2)]))
            return _plus(
                *(_reduced(_times(rest, m), factor * f, opaque) for m, f in square.items())
            )
    return {monomial: factor}


def _square(atom: Expression, opaque: Collection[Expression]) -> Polynomial | None:
    """|u|**2, sqrt(u)**2 and hypot(u, v)**2 as polynomials."""
    if not _is(atom, "abs", "sqrt", "hypot"):
        return None
    inner = [_polynomial(argument, opaque) for argument in atom.arguments]
    return inner[0] if _is(atom, "sqrt") else _plus(*(_product(one, one) for one in inner))


def _sum(clean: Rules, polynomial: Polynomial) -> Expression:
    """A polynomial as an expression."""
    total: Expression = Number(0)
    for monomial, factor in polynomial.items():
        total = clean.build("add", total, _term(clean, monomial, factor))
    return total


def _term(clean: Rules, monomial: Monomial, factor: Fraction) -> Expression:
    """A monomial as an expression: short factors first, one division after the other."""
    term: Expression = Number(factor)
    for atom, power in sorted(monomial, key=lambda item: (item[1] < 0, str(item[0]))):
        operator = "mul" if power > 0 else "div"
        for _ in range(abs(power)):
            term = clean.build(operator, term, atom)
    return term
