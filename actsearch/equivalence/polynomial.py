"""Sums of products with exact coefficients, and the conditions under which they are defined.

A `Form` is a polynomial over atoms (inputs, parameters, constants, applied functions) with rational
coefficients and whole, possibly negative, exponents. Cancelling may remove the only place where a
function is undefined (√x − √x), so a Form carries its domain: the expressions that must be defined
for it to be defined. Two Forms with equal terms and equal domains are the same partial function, up
to isolated points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from typing import Any

from actsearch.equivalence.memo import Memo
from actsearch.grammar.errors import BadNumber
from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
    call,
)

Monomial = tuple[tuple[Expression, int], ...]
"""Atoms with non-zero exponents, in canonical order."""
Domain = frozenset[Expression]
EVERYWHERE: Domain = frozenset()
UNIT: Monomial = ()

_RANK = {Number: 0, Constant: 1, Parameter: 2, Input: 3, Apply: 4}
_MEMO_SIZE = 200_000
_orders: Memo[Expression, tuple[int, str, bytes]] = Memo(_MEMO_SIZE)


class TooLarge(Exception):
    """A form would have more terms than are worth writing out."""


def order(node: Expression) -> tuple[int, str, bytes]:
    """A sort key by structure, the same in every process."""
    known = _orders.get(node)
    if known is None:
        _orders.make_room()
        for part in node.postorder():
            if part not in _orders:
                _orders[part] = _order(part)
        known = _orders[node]
    return known


def _order(node: Expression) -> tuple[int, str, bytes]:
    if isinstance(node, Apply):
        name = node.operator.name
        parts = [name.encode(), *(order(argument)[2] for argument in node.arguments)]
    else:
        name = str(node.value) if isinstance(node, Number) else getattr(node, "name", "")
        parts = [repr(node._fields()).encode()]
    digest = hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()
    return _RANK[type(node)], name, digest


def monomial(factors: Mapping[Expression, int]) -> Monomial:
    """The product of atoms to their powers."""
    kept = [(atom, power) for atom, power in factors.items() if power]
    kept.sort(key=lambda factor: order(factor[0]))
    return tuple(kept)


def monomial_order(product: Monomial) -> tuple[tuple[tuple[int, str, bytes], int], ...]:
    """A sort key for monomials."""
    return tuple((order(atom), power) for atom, power in product)


@dataclass(frozen=True, eq=False)
class Form:
    """A polynomial over atoms together with its domain.

    Attributes:
        terms: monomial -> coefficient, never zero.
        domain: expressions that are undefined somewhere; the form is defined where all of them are.
    """

    terms: Mapping[Monomial, Fraction]
    domain: Domain = EVERYWHERE

    @property
    def constant(self) -> Fraction | None:
        """Its value, if it is one rational number (wherever it is defined)."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(UNIT) if len(self.terms) == 1 else None

    @property
    def single(self) -> tuple[Monomial, Fraction] | None:
        """Its only term, if it has just one."""
        return next(iter(self.terms.items())) if len(self.terms) == 1 else None

    def ordered(self) -> list[tuple[Monomial, Fraction]]:
        """The terms in canonical order: the leading one first."""
        return sorted(self.terms.items(), key=_place)

    def leading(self) -> Fraction:
        """The coefficient of the first term in canonical order; 1 for the zero form."""
        return min(self.terms.items(), key=_place)[1] if self.terms else Fraction(1)

    def scaled(self, factor: Fraction) -> Form:
        """factor · self."""
        if factor == 1:
            return self
        if factor == -1:
            return Form({m: -c for m, c in self.terms.items()}, self.domain)
        if factor == 0:
            return Form({}, self.domain)
        return Form({m: c * factor for m, c in self.terms.items()}, self.domain)

    def on(self, domain: Domain) -> Form:
        """The same values, on a domain that is smaller by these conditions."""
        return Form(self.terms, self.domain | domain)

    def same_as(self, other: Form) -> bool:
        """Equal terms and equal domains."""
        return self.terms == other.terms and self.domain == other.domain


def _place(term: tuple[Monomial, Fraction]) -> tuple[Any, ...]:
    """Where a term stands in canonical order: a number on its own comes last."""
    return not term[0], monomial_order(term[0])


ZERO = Form({})
ONE = Form({UNIT: Fraction(1)})


def number(value: Fraction | int) -> Form:
    """A rational number."""
    return Form({UNIT: Fraction(value)}) if value else ZERO


def atom_form(atom: Expression, domain: Domain = EVERYWHERE) -> Form:
    """An atom on its own."""
    return Form({((atom, 1),): Fraction(1)}, domain)


def total(weighted: Iterable[tuple[Form, Fraction]]) -> Form:
    """The sum of forms times weights, like terms collected."""
    terms: dict[Monomial, Fraction] = {}
    domain: set[Expression] = set()
    for form, weight in weighted:
        domain |= form.domain
        for product, share in form.scaled(weight).terms.items():
            known = terms.get(product)
            terms[product] = share if known is None else known + share
    return Form({m: c for m, c in terms.items() if c}, frozenset(domain))


def to_expression(form: Form) -> Expression:
    """The form as an expression; conditions that no term shows are added as `0*condition`."""
    shown: set[Expression] = set()
    for product in form.terms:
        for atom, power in product:
            shown.update(atom.postorder() if form.domain else ())
            if power < 0:
                shown.add(atom**-1)
    hidden = sorted(maximal(form.domain - shown), key=order)
    terms = [*form.ordered(), *((((condition, 1),), Fraction(0)) for condition in hidden)]
    if not terms:
        return Number(0)
    head, *rest = terms
    result = _term(*head)
    for product, coefficient in rest:
        if coefficient < 0:
            result = result - _term(product, -coefficient)
        else:
            result = result + _term(product, coefficient)
    return result


def maximal(domain: Iterable[Expression]) -> set[Expression]:
    """The conditions that no other condition implies by containing it."""
    conditions = set(domain)
    inner = {part for c in conditions for part in c.postorder() if part is not c}
    return {condition for condition in conditions if condition not in inner}


def rational(value: Fraction) -> Expression:
    """A rational number as an expression: a quotient where it has no finite decimals.

    Raises:
        TooLarge: it is beyond float64.
    """
    try:
        return Number(value)
    except BadNumber:
        pass
    try:
        return Number(value.numerator) / Number(value.denominator)
    except BadNumber:
        raise TooLarge from None


@lru_cache(maxsize=20_000)
def _term(product: Monomial, coefficient: Fraction) -> Expression:
    return _weighted(_product(product), coefficient)


def _product(product: Monomial) -> Expression | None:
    """A monomial as a fraction; None for the empty one."""
    above = [_power(atom, power) for atom, power in product if power > 0]
    below = [_power(atom, -power) for atom, power in product if power < 0]
    if not above and not below:
        return None
    top = reduce(lambda a, b: a * b, above) if above else Number(1)
    return top / reduce(lambda a, b: a * b, below) if below else top


def _power(atom: Expression, power: int) -> Expression:
    return atom if power == 1 else call("pow", atom, power)


def _weighted(node: Expression | None, coefficient: Fraction) -> Expression:
    if node is None:
        return rational(coefficient)
    if coefficient == 1:
        return node
    if coefficient == -1:
        return -node
    return rational(coefficient) * node
