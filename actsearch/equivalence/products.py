"""Products and whole powers of forms: exponentials merge, even powers leave |·| and √."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

from actsearch.equivalence.polynomial import (
    EVERYWHERE,
    ONE,
    UNIT,
    Domain,
    Form,
    Monomial,
    atom_form,
    monomial,
    number,
    to_expression,
    total,
)
from actsearch.equivalence.signs import nonzero_almost_everywhere
from actsearch.grammar.expression import Apply, Expression, Number, call

MAX_TERMS = 24
"""Products of sums with more terms are kept as products."""
_MAX_EXPANDED_POWER = 6
_MAX_BITS = 4096
_MEMO_SIZE = 50_000
_ROOTS = {"abs": 2, "sqrt": 2, "cbrt": 3}
"""Functions of which a whole power is a power of the argument."""

_NEVER: Expression = call("pow", Number(0), -1)
NOWHERE: Final = Form({((_NEVER, 1),): Fraction(1)}, frozenset({_NEVER}))
"""The function that is defined nowhere (up to isolated points)."""


def nowhere(form: Form) -> Form:
    """The form, or the one NOWHERE if its domain is empty."""
    return NOWHERE if _NEVER in form.domain else form


def multiply(a: Form, b: Form) -> Form:
    """The product of two forms."""
    if a is NOWHERE or b is NOWHERE:
        return NOWHERE
    domain = a.domain | b.domain
    if not a.terms or not b.terms:
        return Form({}, domain)
    for one, other in ((a, b), (b, a)):
        if one.constant is not None:
            return other.scaled(one.constant).on(domain)
        divided = _divided(one, other)
        if divided is not None:
            return divided.on(domain)
    if len(a.terms) * len(b.terms) > MAX_TERMS:
        a, b = _wrapped(a), _wrapped(b)
    parts = [
        (_times(left, right), d if c == 1 else c if d == 1 else c * d)
        for left, c in a.terms.items()
        for right, d in b.terms.items()
    ]
    return total(parts).on(domain)


def monic(form: Form) -> tuple[Form, Fraction]:
    """The form with leading coefficient 1, and that coefficient."""
    leading = form.leading()
    return form.scaled(1 / leading), leading


def _as_atom(form: Form) -> tuple[Expression, Fraction]:
    """A sum as one atom: its monic expression, and the coefficient."""
    unit, leading = monic(Form(form.terms))
    return to_expression(unit), leading


def _wrapped(form: Form) -> Form:
    if len(form.terms) < 2:
        return form
    atom, leading = _as_atom(form)
    return Form({((atom, 1),): leading}, form.domain)


def _divided(form: Form, other: Form) -> Form | None:
    """form · other where every term of `other` has `form` below its fraction bar."""
    if len(form.terms) < 2 or all(p > 0 for product in other.terms for _, p in product):
        return None
    atom, leading = _as_atom(form)
    terms: dict[Monomial, Fraction] = {}
    for product, coefficient in other.terms.items():
        factors = dict(product)
        if factors.get(atom, 0) >= 0:
            return None
        factors[atom] += 1
        terms[monomial(factors)] = coefficient * leading
    return Form(terms)


@lru_cache(maxsize=_MEMO_SIZE)
def _times(a: Monomial, b: Monomial) -> Form:
    if not a or not b:
        return Form({a or b: Fraction(1)})
    factors = dict(a)
    for atom, exponent in b:
        factors[atom] = factors.get(atom, 0) + exponent
    return collected(factors)


def _needs_care(atom: Apply, exponent: int) -> bool:
    name = atom.operator.name
    return (
        name == "exp"
        or (name in _ROOTS and not 0 <= exponent < _ROOTS[name])
        or (name in ("add", "sub") and 0 < exponent <= _MAX_EXPANDED_POWER)
    )


def collected(factors: dict[Expression, int]) -> Form:
    """The product of atoms to whole powers, with what can be merged merged."""
    factors = _without_roots(factors)
    careful = [
        (a, k) for a, k in factors.items() if isinstance(a, Apply) and k and _needs_care(a, k)
    ]
    if not careful or (len(careful) == 1 and _is_exp(careful[0][0]) and careful[0][1] == 1):
        return Form({monomial(factors): Fraction(1)})
    from actsearch.equivalence.normal_form import apply_form, form_of

    plain = {a: k for a, k in factors.items() if k and (a, k) not in careful}
    sums = {a: k for a, k in careful if a.operator.name in ("add", "sub")}
    opened = {atom: Form(form_of(atom).terms) for atom in sums}
    if math.prod(len(form.terms) ** sums[atom] for atom, form in opened.items()) > MAX_TERMS:
        plain, opened = plain | sums, {}  # too many terms: the product stays a product
        careful = [(a, k) for a, k in careful if a not in sums]
        if not careful or (len(careful) == 1 and _is_exp(careful[0][0]) and careful[0][1] == 1):
            return Form({monomial(factors): Fraction(1)})
    result = Form({monomial(plain): Fraction(1)})
    exponents: list[tuple[Form, Fraction]] = []
    for atom, k in careful:
        name = atom.operator.name
        if name == "exp":
            exponents.append((form_of(atom.arguments[0]), Fraction(k)))
        elif name in _ROOTS:
            whole, rest = divmod(k, _ROOTS[name])
            factor = power(form_of(atom.arguments[0]), whole * (2 if name == "abs" else 1))
            result = multiply(result, factor)
            if rest:
                result = multiply(result, Form({((atom, rest),): Fraction(1)}))
    for atom, form in opened.items():
        result = multiply(result, power(form, sums[atom]))
    merged = total(exponents)
    if merged.terms:
        result = multiply(result, apply_form("exp", Form(merged.terms)))
    return Form(result.terms)


def _without_roots(factors: dict[Expression, int]) -> dict[Expression, int]:
    """|s|^k and √s^k of a sum s as powers of s, which may cancel against others."""
    found = dict(factors)
    for atom, k in factors.items():
        if not isinstance(atom, Apply) or atom.operator.name not in _ROOTS:
            continue
        inner = atom.arguments[0]
        whole, rest = divmod(k, _ROOTS[atom.operator.name])
        if whole and isinstance(inner, Apply) and inner.operator.name in ("add", "sub"):
            step = whole * (2 if atom.operator.name == "abs" else 1)
            found[inner] = found.get(inner, 0) + step
            found[atom] = rest
    return found


def atom_power(atom: Expression, exponent: int) -> Form:
    """atom**exponent, not opened."""
    return Form({((atom, exponent),): Fraction(1)})


def _is_exp(atom: Expression) -> bool:
    return isinstance(atom, Apply) and atom.operator.name == "exp"


def power(form: Form, exponent: int) -> Form:
    """A form to a whole power; a negative one is undefined where the form vanishes on a piece."""
    if form is NOWHERE or (exponent < 0 and not form.terms):
        return NOWHERE
    if exponent == 0:
        return ONE.on(form.domain)
    if exponent == 1 or not form.terms:
        return form
    domain = form.domain
    if exponent < 0 and not nonzero_almost_everywhere(form):
        domain |= _vanishing(form)
    single = form.single
    if single is not None:
        product, coefficient = single
        if _bits(coefficient) * abs(exponent) > _MAX_BITS:
            atom = call("pow", to_expression(form), exponent)
            return atom_form(atom, domain)
        raised = collected({atom: k * exponent for atom, k in product})
        return raised.scaled(coefficient**exponent).on(domain)
    if 0 < exponent <= _MAX_EXPANDED_POWER and len(form.terms) ** exponent <= MAX_TERMS:
        result = Form(form.terms)
        for _ in range(exponent - 1):
            result = multiply(result, Form(form.terms))
        return result.on(domain)
    atom, leading = _as_atom(form)
    if _bits(leading) * abs(exponent) > _MAX_BITS:
        return atom_form(call("pow", to_expression(form), exponent), domain)
    return atom_power(atom, exponent).scaled(leading**exponent).on(domain)


def _bits(value: Fraction) -> int:
    if abs(value) == 1:
        return 0
    return value.numerator.bit_length() + value.denominator.bit_length()


def _vanishing(form: Form) -> Domain:
    """The conditions `1/factor is defined` for the factors that may vanish on a piece."""
    single = form.single
    if single is None:
        atom, _ = _as_atom(form)
        return frozenset({call("pow", atom, -1)})
    return frozenset(
        call("pow", atom, -1)
        for atom, _ in single[0]
        if not nonzero_almost_everywhere(atom_form(atom))
    )


__all__ = [
    "EVERYWHERE", "NOWHERE", "UNIT", "atom_power", "collected", "monic", "multiply", "nowhere",
    "number", "power",
]  # fmt: skip
