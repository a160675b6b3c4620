"""Normal forms of the functions that have rules of their own: |·|, roots, exp, log, powers, where.

Each handler takes forms and returns a form; the comment beside a step is the identity it uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from actsearch.equivalence.polynomial import (
    ONE,
    UNIT,
    Domain,
    Form,
    Monomial,
    atom_form,
    monomial,
    number,
    order,
    to_expression,
    total,
)
from actsearch.equivalence.products import NOWHERE, collected, monic, multiply, power
from actsearch.equivalence.signs import (
    atom_nonnegative,
    atom_positive,
    bounds,
    nonnegative,
    nonzero_almost_everywhere,
    positive,
)
from actsearch.grammar.expression import Apply, Constant, Expression, Number, call

_MINUS_ONE = Fraction(-1)
_LONGEST_SHIFT = 8


def _apply(name: str, *arguments: Form) -> Form:
    from actsearch.equivalence.normal_form import apply_form

    return apply_form(name, *arguments)


def _function_atom(name: str, argument: Form) -> Form:
    """The atom name(argument), undefined where the function is."""
    node = call(name, to_expression(Form(argument.terms)))
    return atom_form(node, argument.domain | {node})


def _absolute(form: Form) -> Form:
    if nonnegative(form):  # |a| -> a where a >= 0
        return form
    if nonnegative(form.scaled(_MINUS_ONE)):  # |a| -> -a where a <= 0
        return form.scaled(_MINUS_ONE)
    single = form.single
    shared = _shared(form) if single is None else ()
    if shared:  # |a·b + a·c| -> |a|·|b + c|
        rest = Form({_over(product, shared): c for product, c in form.terms.items()})
        outside = _absolute(Form({shared: Fraction(1)}))
        return multiply(outside, _absolute(rest)).on(form.domain)
    if single is None:  # |c·a| -> |c|·|a|
        unit, leading = monic(form)
        node = call("abs", to_expression(Form(unit.terms)))
        return atom_form(node, form.domain).scaled(abs(leading))
    product, coefficient = single
    result = ONE
    for atom, k in product:  # |a·b| -> |a|·|b|
        same = k % 2 == 0 or atom_nonnegative(atom)
        factor = atom if same else call("abs", atom)
        result = multiply(result, collected({factor: k}))
    return result.scaled(abs(coefficient)).on(form.domain)


def _shared(form: Form) -> Monomial:
    """The whole powers that all terms of a sum have in common."""
    products = [dict(product) for product in form.terms]
    shared: dict[Expression, int] = {}
    for atom in products[0] if products else ():
        exponents = [product.get(atom, 0) for product in products]
        if min(exponents) > 0:
            shared[atom] = min(exponents)
        elif max(exponents) < 0:  # |a/c + b/c| -> |a + b|/|c|
            shared[atom] = max(exponents)
    return monomial({atom: k for atom, k in shared.items() if not _is_exp(atom)})


def _is_exp(atom: Expression) -> bool:
    return isinstance(atom, Apply) and atom.operator.name == "exp"


def _over(product: Monomial, factor: Monomial) -> Monomial:
    factors = dict(product)
    for atom, k in factor:
        factors[atom] -= k
    return monomial(factors)


def _sign(form: Form) -> Form:
    if positive(form):  # sign(a) -> 1 where a > 0
        return ONE.on(form.domain)
    if positive(form.scaled(_MINUS_ONE)):
        return number(-1).on(form.domain)
    if not form.terms:
        return form
    unit, leading = monic(form)
    node = call("sign", to_expression(Form(unit.terms)))
    return atom_form(node, form.domain).scaled(Fraction(1 if leading > 0 else -1))


def _sqrt(form: Form) -> Form:
    if not form.terms:
        return form
    opposite = form.scaled(_MINUS_ONE)
    if nonnegative(opposite) and nonzero_almost_everywhere(opposite):
        return NOWHERE  # defined at isolated points at most
    single = form.single
    content = abs(form.leading())
    outside, inside = ONE, form.scaled(1 / content)
    if single is not None:
        outside, inside = _even_powers(single[0])
        inside = inside.scaled(Fraction(1 if single[1] > 0 else -1))
    result = multiply(_sqrt_number(content), outside)
    if inside.single is None and single is not None:
        return multiply(result, _sqrt(inside)).on(form.domain)
    if inside.constant is None:  # √(c·a²·b) -> √c·|a|·√b
        node = call("sqrt", to_expression(Form(inside.terms)))
        domain: Domain = frozenset() if nonnegative(inside) else frozenset({node})
        result = multiply(result, atom_form(node, domain))
    return result.on(form.domain)


def _even_powers(product: Monomial) -> tuple[Form, Form]:
    """√product as (what comes out of the root, what stays inside of it)."""
    outside = ONE
    inside: dict[Expression, int] = {}
    for atom, k in product:
        if isinstance(atom, Apply) and atom.operator.name == "exp":
            half = _apply("exp", _form_of(atom.arguments[0]).scaled(Fraction(k, 2)))
            outside = multiply(outside, half)  # √exp(a) -> exp(a/2)
        else:
            whole, rest = divmod(k, 2)
            if whole:
                root = atom if atom_nonnegative(atom) else call("abs", atom)
                outside = multiply(outside, collected({root: whole}))
            if rest:
                inside[atom] = 1
    return outside, collected(inside)


def _form_of(node: Expression) -> Form:
    from actsearch.equivalence.normal_form import form_of

    return form_of(node)


def _sqrt_number(value: Fraction) -> Form:
    """√(p/q) -> √(p·q)/q, squares of small primes taken out."""
    inside, outside = value.numerator * value.denominator, Fraction(1, value.denominator)
    root = math.isqrt(inside)
    if root * root == inside:
        return number(outside * root)
    prime = 2
    while prime * prime <= inside and prime < 1000:
        while inside % (prime * prime) == 0:
            inside //= prime * prime
            outside *= prime
        prime += 1
    return atom_form(call("sqrt", Number(inside))).scaled(outside)


def _cbrt(form: Form) -> Form:
    if not form.terms:
        return form
    unit, leading = monic(form)
    result = _cbrt_number(leading)
    single = unit.single
    if single is None:
        node = call("cbrt", to_expression(Form(unit.terms)))
        return multiply(result, atom_form(node)).on(form.domain)
    for atom, k in single[0]:  # cbrt(a³·b) -> a·cbrt(b)
        whole, rest = divmod(k, 3)
        if isinstance(atom, Apply) and atom.operator.name == "exp":
            exponent = _form_of(atom.arguments[0]).scaled(Fraction(k, 3))
            result = multiply(result, _apply("exp", exponent))
            continue
        if whole:
            result = multiply(result, collected({atom: whole}))
        if rest:
            result = multiply(result, Form({((call("cbrt", atom), rest),): Fraction(1)}))
    return result.on(form.domain)


def _cbrt_number(value: Fraction) -> Form:
    sign = Fraction(1 if value > 0 else -1)
    roots = [
        round(part ** (1 / 3)) if part < 2**100 else 0 for part in abs(value).as_integer_ratio()
    ]
    if Fraction(roots[0] ** 3, roots[1] ** 3 or 1) == abs(value):
        return number(sign * Fraction(*roots))
    atom = call("cbrt", _form_expression(abs(value)))
    return atom_form(atom).scaled(sign)


def _form_expression(value: Fraction) -> Expression:
    return to_expression(number(value))


def _exp(form: Form) -> Form:
    if not form.terms:
        return ONE.on(form.domain)
    rest: dict[Monomial, Fraction] = {}
    result = ONE
    for product, coefficient in form.terms.items():
        atom = product[0][0] if product else None
        if (
            isinstance(atom, Apply)
            and atom.operator.name == "log"
            and product == ((atom, 1),)
            and coefficient.denominator == 1
        ):  # exp(n·log(a) + b) -> aⁿ·exp(b)
            factor = power(_form_of(atom.arguments[0]), int(coefficient))
            result = multiply(result, factor)
        else:
            rest[product] = coefficient
    if rest:
        node = call("exp", to_expression(Form(rest)))
        result = multiply(result, atom_form(node))
    return result.on(form.domain)


def _log(form: Form) -> Form:
    opposite = form.scaled(_MINUS_ONE)
    if not form.terms or nonnegative(opposite):
        return NOWHERE
    content = abs(form.leading())
    result = _log_number(content)
    inside = form.scaled(1 / content)
    single = inside.single
    if single is None:
        shift, inside = _without_exponential(inside)
        result = total([(result, Fraction(1)), (shift, Fraction(1))])
        rest = abs(inside.leading())
        if rest != 1:
            inside = inside.scaled(1 / rest)
            result = total([(result, Fraction(1)), (_log_number(rest), Fraction(1))])
    else:
        kept: dict[Expression, int] = {}
        for atom, k in single[0]:
            if isinstance(atom, Apply) and atom.operator.name == "exp":
                part = _form_of(atom.arguments[0]).scaled(
                    Fraction(k)
                )  # log(exp(a)·b) -> a + log(b)
            elif atom_positive(atom):
                part = _log_atom(atom_form(atom)).scaled(
                    Fraction(k)
                )  # log(aⁿ·b) -> n·log(a)+log(b)
            elif k % 2 == 0:
                part = _log_atom(_absolute(atom_form(atom))).scaled(Fraction(k))
            else:
                kept[atom] = k
                continue
            result = total([(result, Fraction(1)), (part, Fraction(1))])
        inside = Form({monomial(kept): single[1]})
    if inside.constant != 1:
        result = total([(result, Fraction(1)), (_log_atom(inside), Fraction(1))])
    return result.on(form.domain)


def _log_atom(inside: Form) -> Form:
    node = call("log", to_expression(Form(inside.terms)))
    safe = positive(inside) or (nonnegative(inside) and nonzero_almost_everywhere(inside))
    return atom_form(node, frozenset() if safe else frozenset({node}))


def _log_number(value: Fraction) -> Form:
    """log(p/q) -> -log(q/p) for p < q, so that log 2 and log 1/2 are one atom."""
    if value == 1:
        return Form({})
    if value < 1:
        return _log_number(1 / value).scaled(_MINUS_ONE)
    return atom_form(call("log", _form_expression(value)))


def _without_exponential(form: Form) -> tuple[Form, Form]:
    """form = exp(shift)·rest, with the shift that makes the rest canonical.

    1 + exp(-x) and exp(x) + 1 get the same rest.
    """
    exponents: dict[Expression, Form] = {Number(0): Form({})}
    for product in form.terms:
        for atom, _ in product:
            if isinstance(atom, Apply) and atom.operator.name == "exp":
                exponents[atom.arguments[0]] = Form(_form_of(atom.arguments[0]).terms)
    if not 1 < len(exponents) <= _LONGEST_SHIFT:
        return Form({}), form
    candidates = []
    for exponent in exponents.values():
        rest = multiply(form, _apply("exp", exponent.scaled(_MINUS_ONE)))
        unit = rest.scaled(1 / abs(rest.leading()))
        candidates.append((order(to_expression(Form(unit.terms))), exponent, rest))
    _, shift, rest = min(candidates, key=lambda candidate: candidate[0])
    return shift, rest


def _pow(base: Form, exponent: Form) -> Form:
    value = exponent.constant
    domain = base.domain | exponent.domain
    if value is not None:
        if value.denominator == 1:
            return power(base, int(value)).on(domain)
        if value.denominator == 2:  # a^(p/2) -> √a^p
            return power(_sqrt(base), value.numerator).on(domain)
    if positive(base):  # a^b -> exp(b·log(a)) where a > 0
        return _exp(multiply(exponent, _log(base))).on(domain)
    if not base.terms:
        node = call("pow", Number(0), to_expression(Form(exponent.terms)))
        return atom_form(node, domain | {node})
    opposite = base.scaled(_MINUS_ONE)
    node = call("pow", to_expression(Form(base.terms)), to_expression(Form(exponent.terms)))
    if value is not None and nonnegative(opposite) and nonzero_almost_everywhere(opposite):
        return NOWHERE
    safe = (
        value is not None and nonnegative(base) and (value > 0 or nonzero_almost_everywhere(base))
    )
    return atom_form(node, domain if safe else domain | {node})


def _asin(form: Form) -> Form:
    low, high = bounds(form)
    if not form.terms:
        return form
    if form.leading() < 0:
        return _asin(form.scaled(_MINUS_ONE)).scaled(_MINUS_ONE)
    if form.constant == 1:
        return atom_form(Constant("pi")).scaled(Fraction(1, 2)).on(form.domain)
    if low > 1 or high < -1:
        return NOWHERE
    atom = _function_atom("asin", form)
    return Form(atom.terms, form.domain) if low >= -1 and high <= 1 else atom


def _acosh(form: Form) -> Form:
    low, high = bounds(form)
    if form.constant == 1:
        return Form({}, form.domain)
    if high < 1:
        return NOWHERE
    atom = _function_atom("acosh", form)
    return Form(atom.terms, form.domain) if low >= 1 else atom


def _atanh(form: Form) -> Form:
    from actsearch.equivalence import rules

    if not form.terms:
        return form
    if form.leading() < 0:
        return _atanh(form.scaled(_MINUS_ONE)).scaled(_MINUS_ONE)
    single = form.single
    if single is not None and single[1] == 1 and len(single[0]) == 1 and single[0][0][1] == 1:
        inner = single[0][0][0]
        if isinstance(inner, Apply) and ("atanh", inner.operator.name) in rules.compositions():
            return _form_of(inner.arguments[0]).on(form.domain)  # atanh(tanh(a)) -> a
    low, high = bounds(form)
    if low >= 1 or high <= -1:
        return NOWHERE
    atom = _function_atom("atanh", form)
    return Form(atom.terms, form.domain) if low > -1 and high < 1 else atom


HANDLERS: Mapping[str, Callable[..., Form]] = {
    "abs": _absolute,
    "sign": _sign,
    "sqrt": _sqrt,
    "cbrt": _cbrt,
    "exp": _exp,
    "log": _log,
    "pow": _pow,
    "asin": _asin,
    "acosh": _acosh,
    "atanh": _atanh,
}


# l < r is r - l > 0; l <= r is "not l - r > 0"; the same for the other way round.
_AS_GREATER = {
    "gt": (1, False),
    "le": (1, True),
    "lt": (-1, False),
    "ge": (-1, True),
    "eq": (1, False),
    "ne": (1, True),
}


def where(node: Apply, form_of: Callable[[Expression], Form]) -> Form:
    """where(l ? r, a, b) as `b + where(l - r > 0, a - b, 0)`, the piece in one canonical form."""
    comparison, first, second = node.arguments
    assert isinstance(comparison, Apply)
    direction, swapped = _AS_GREATER[comparison.operator.name]
    left, right = (form_of(side) for side in comparison.arguments)
    difference = total([(left, Fraction(direction)), (right, Fraction(-direction))])
    kind = "eq" if comparison.operator.name in ("eq", "ne") else "gt"
    a, b = form_of(first), form_of(second)
    if swapped:
        a, b = b, a
    if NOWHERE in (left, right) or (a is NOWHERE and b is NOWHERE):
        return NOWHERE
    if a.same_as(b):  # where(c, a, a) -> a
        return a.on(difference.domain)
    chosen = _decided(kind, difference)
    if chosen is not None:
        return (a if chosen else b).on(difference.domain)
    leading = difference.leading()
    scale = leading if kind == "eq" else abs(leading)
    difference = difference.scaled(1 / scale)
    if a.domain or b.domain:
        return _piece(kind, difference, a, b, a.domain & b.domain, partial=a.domain != b.domain)
    jump = total([(a, Fraction(1)), (b, _MINUS_ONE)])
    positive_part = _positive_part(difference, jump) if kind == "gt" else None
    if positive_part is None:
        positive_part = _piece(kind, difference, jump, Form({}), frozenset(), partial=False)
    return total([(b, Fraction(1)), (positive_part, Fraction(1))]).on(difference.domain)


def _decided(kind: str, difference: Form) -> bool | None:
    """The comparison's truth where it is the same everywhere."""
    opposite = difference.scaled(_MINUS_ONE)
    if kind == "gt":
        return True if positive(difference) else False if nonnegative(opposite) else None
    if not difference.terms:
        return True
    return False if positive(difference) or positive(opposite) else None


def _piece(kind: str, difference: Form, a: Form, b: Form, domain: Domain, partial: bool) -> Form:
    condition = call(kind, to_expression(Form(difference.terms)), 0)
    branches = (to_expression(a), to_expression(b))
    node = call("where", condition, *branches)
    kept = domain | difference.domain
    return atom_form(node, kept | {node} if partial else kept)


def _positive_part(difference: Form, jump: Form) -> Form | None:
    """where(d > 0, d·m, 0) -> m·(d + |d|)/2."""
    relu = total([(difference, Fraction(1, 2)), (_absolute(difference), Fraction(1, 2))])
    for scale in {jump.leading() / difference.leading()}:
        if difference.scaled(scale).terms == jump.terms:
            return relu.scaled(scale)
    single = difference.single
    if single is None or len(single[0]) != 1 or single[0][0][1] != 1:
        return None
    atom = single[0][0][0]
    quotient: dict[Monomial, Fraction] = {}
    for product, coefficient in jump.terms.items():
        factors = dict(product)
        if factors.get(atom, 0) < 1:
            return None
        factors[atom] -= 1
        quotient[monomial(factors)] = coefficient / single[1]
    return multiply(Form(quotient), relu)


__all__ = ["HANDLERS", "UNIT", "where"]
