"""Exact algebra: proofs of equality that the normal form does not reach.

Hyperbolic functions are spelled by exponentials, sums below fraction bars are multiplied out, and
sin² gives way to 1 − cos². Where something switches at x = 0 the proof is made once for x = exp(u)
and once for x = −exp(u), so that every sign is known; at 0 itself the two expressions are compared
by value.
"""

from __future__ import annotations

from fractions import Fraction

from actsearch.equivalence import rules
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.normal_form import form_of
from actsearch.equivalence.polynomial import Form, Monomial, TooLarge, monomial, total
from actsearch.equivalence.products import multiply, power
from actsearch.grammar.expression import Apply, Expression, Input, Parameter, call
from actsearch.grammar.language import instantiate

_SIGNED = frozenset({"abs", "sign", "sqrt", "cbrt", "log", "where", "pow"})
_MAX_SIZE = 120
_ROUNDS = 8
_spelled: Memo[Expression, Expression] = Memo(50_000)


def proves_equal(a: Expression, b: Expression) -> bool:
    """Whether the difference of two expressions in normal form is proved to be zero.

    Parameters and inputs stand for themselves: rename them before.
    """
    return proof(a, b) is not None


def proof(a: Expression, b: Expression) -> str | None:
    """How two normal forms are proved equal: "algebra", "sign split", or None for not at all."""
    if a.size + b.size > _MAX_SIZE:
        return None
    try:
        if same(a, b):
            return "algebra"
        x = Input("x")
        if x not in (*a.inputs, *b.inputs) or not (_switches(a) or _switches(b)):
            return None
        sides: tuple[Expression, ...] = (call("exp", x), -call("exp", x))
        split = all(
            same(a.substitute({x: side}), b.substitute({x: side})) for side in sides
        ) and _same_at_zero(a, b)
        return "sign split" if split else None
    except TooLarge:
        return None


def _switches(expression: Expression) -> bool:
    return any(
        isinstance(node, Apply) and node.operator.name in _SIGNED for node in expression.postorder()
    )


def same(a: Expression, b: Expression) -> bool:
    """Whether spelling out hyperbolic functions and multiplying out proves a − b to be 0."""
    first, second = form_of(elementary(a)), form_of(elementary(b))
    if first.domain != second.domain:
        return False
    difference = total([(first, Fraction(1)), (second, Fraction(-1))])
    return not _cleared(Form(difference.terms)).terms


def elementary(expression: Expression) -> Expression:
    """The expression with the operators of `rules.ELEMENTARY` spelled out."""
    definitions = rules.definitions(rules.ELEMENTARY)
    _spelled.make_room()
    for node in expression.postorder():
        if node not in _spelled:
            arguments = tuple(_spelled[argument] for argument in node.arguments)
            if isinstance(node, Apply) and node.operator.name in definitions:
                _spelled[node] = instantiate(definitions[node.operator.name], arguments)
            else:
                _spelled[node] = node.with_arguments(arguments)
    return _spelled[expression]


def _cleared(form: Form) -> Form:
    """The form times its denominators, and with sin² replaced; zero only if the form is."""
    for _ in range(_ROUNDS):
        denominators = _denominators(form)
        squares = _squares(form)
        if not form.terms or not (denominators or squares):
            break
        for atom, k in denominators.items():
            opened = Form(form_of(atom).terms)
            form = total(
                (_raised(product, atom, k, opened), coefficient)
                for product, coefficient in form.terms.items()
            )
        form = total(
            (_without_squares(product), coefficient) for product, coefficient in form.terms.items()
        )
    return form


def _denominators(form: Form) -> dict[Expression, int]:
    """Sums below a fraction bar, with their largest exponents there."""
    found: dict[Expression, int] = {}
    for product in form.terms:
        for atom, k in product:
            if k < 0 and isinstance(atom, Apply) and atom.operator.name in ("add", "sub"):
                found[atom] = max(found.get(atom, 0), -k)
    return found


def _raised(product: Monomial, atom: Expression, k: int, opened: Form) -> Form:
    """product · atom^k, the positive powers of the atom multiplied out."""
    factors = dict(product)
    exponent = factors.pop(atom, 0) + k
    rest = Form({monomial(factors): Fraction(1)})
    return multiply(rest, power(opened, exponent)) if exponent else rest


def _squares(form: Form) -> bool:
    return any(_is_square(atom, k) for product in form.terms for atom, k in product)


def _is_square(atom: Expression, k: int) -> bool:
    return k >= 2 and isinstance(atom, Apply) and atom.operator.name == "sin"


def _without_squares(product: Monomial) -> Form:
    """sin(a)² -> 1 - cos(a)²."""
    factors = dict(product)
    result = Form({(): Fraction(1)})
    for atom, k in product:
        if _is_square(atom, k):
            cosine = form_of(call("cos", atom.arguments[0]))
            square = total(
                [(Form({(): Fraction(1)}), Fraction(1)), (power(cosine, 2), Fraction(-1))]
            )
            factors[atom] = k % 2
            result = multiply(result, power(square, k // 2))
    return multiply(Form({monomial(factors): Fraction(1)}), result)


def _same_at_zero(a: Expression, b: Expression) -> bool:
    """The values at x = 0, parameters at generic places: equal, or one is isolatedly undefined."""
    leaves = {n for e in (a, b) for n in e.postorder() if isinstance(n, Input | Parameter)}
    ordered = sorted(leaves, key=lambda leaf: leaf.name)
    values = {
        leaf.name: Fraction(0) if leaf.name == "x" else Fraction(2 * place + 1, 7)
        for place, leaf in enumerate(ordered, 1)
    }
    with precision(256):
        balls = [ball_value(expression, values) for expression in (a, b)]
        if UNDEFINED in balls:
            return True
        return all(map(is_value, balls)) and balls[0].overlaps(balls[1])
