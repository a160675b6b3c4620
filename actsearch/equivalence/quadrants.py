"""Proofs quadrant by quadrant: where the signs of x and β are known, normal forms say more.

On a quadrant a function is written over the positive numbers |x| and |β|: |·| disappears, √x has a
domain or none, and most maxima are one of their operands (`orderings`). Functions that agree on
all quadrants agree up to x = 0 and β = 0, sets without interior.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

from actsearch.equivalence import algebra, orderings, samples
from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X, is_absolute
from actsearch.equivalence.normal_form import form_of
from actsearch.equivalence.points import Values
from actsearch.equivalence.polynomial import (
    Form,
    Monomial,
    TooLarge,
    maximal,
    monomial,
    monomial_order,
    order,
    to_expression,
    total,
)
from actsearch.equivalence.products import NOWHERE, multiply
from actsearch.grammar.expression import Expression, Input, Number, Parameter

QUADRANTS: tuple[tuple[int, int], ...] = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Signs of x and of β."""
_X = Input("x")
_ONE = Fraction(1)
_LARGEST_CLEARED = 12
_LARGEST_FORM = 60

Leaves = dict[Expression, Expression]
Key = tuple[frozenset[tuple[Monomial, Fraction]], frozenset[Expression]]


def proves_equal(a: Expression, b: Expression) -> bool:
    """Whether two functions of x and at most one parameter are proved equal on every quadrant.

    Parameters stand for themselves: rename them before.
    """
    parameters: set[Expression] = {parameter for e in (a, b) for parameter in e.parameters}
    if len(parameters) > 1 or any(node is not _X for e in (a, b) for node in e.inputs):
        return False
    try:
        return all(
            _equal_on(a.substitute(leaves), b.substitute(leaves)) for leaves in _leaves(parameters)
        )
    except TooLarge:
        return False


def _leaves(parameters: set[Expression]) -> Iterator[dict[Expression, Expression]]:
    for x_sign, beta_sign in QUADRANTS:
        if parameters or beta_sign > 0:
            beta = Number(beta_sign) * SIZE_OF_BETA
            yield {_X: Number(x_sign) * SIZE_OF_X, **dict.fromkeys(parameters, beta)}


def sizes(expressions: Sequence[Expression], values: Values) -> tuple[Leaves, Values] | None:
    """What x and the only parameter are, where a point lies, over |x| and |β|; and these there.

    Where balls only know that x·eˣ + |x|·eˣ may be 0, a normal form over |x| is 0 for negative x.

    Args:
        expressions: of x and any parameters; if there are several, these stay as they are.
        values: the point; None where x or the parameter is 0.
    """
    names: Leaves = {_X: SIZE_OF_X}
    parameters = {parameter for e in expressions for parameter in e.parameters}
    if len(parameters) == 1:
        names |= dict.fromkeys(parameters, SIZE_OF_BETA)
    leaves: Leaves = {}
    found = dict(values)
    for leaf, size in names.items():
        assert isinstance(leaf, Input | Parameter)
        assert isinstance(size, Parameter)
        value = values.get(leaf.name, Fraction(0))
        if value == 0:
            return None
        leaves[leaf] = size if value > 0 else -size
        found[size.name] = abs(value)
    return leaves, found


def _equal_on(a: Expression, b: Expression) -> bool:
    first, second = form_of(a), form_of(b)
    if max(len(first.terms), len(second.terms)) > _LARGEST_FORM:
        return False
    return key_of(first) == key_of(second) or same(first, second)


def key_of(form: Form) -> Key:
    """Forms with equal keys are equal functions: terms, and the conditions these do not show."""
    hidden: frozenset[Expression] = frozenset()
    if form.domain and form is not NOWHERE:
        shown: set[Expression] = set()
        for product in form.terms:
            for atom, k in product:
                shown.update(atom.postorder())
                if k < 0:
                    shown.add(atom**-1)
        hidden = frozenset(maximal(form.domain - shown))
    return frozenset(form.terms.items()), hidden


def _bars(form: Form) -> set[Expression]:
    return {atom for product in form.terms for atom, _ in product if is_absolute(atom)}


def same_under_bars(a: Form, b: Form) -> bool:
    """|s|·p = |t|·q for p, q ≥ 0 where s·p = ±t·q: |c·s| is c·|s|, however it is written."""
    opened = [_without_bar(form) for form in (a, b)]
    if None in opened:
        return False
    (first, p), (second, q) = (sides for sides in opened if sides is not None)
    equal = any(not total([(first, _ONE), (second, sign)]).terms for sign in (-_ONE, _ONE))
    return equal and orderings.sign(p)[0] and orderings.sign(q)[0]


def _without_bar(form: Form) -> tuple[Form, Form] | None:
    """For |s|·p the forms of s·p and p, if all terms have |s| in common; nothing else has one."""
    bars = _bars(form)
    if len(bars) != 1:
        return None
    (bar,) = bars
    rest: dict[Monomial, Fraction] = {}
    for product, coefficient in form.terms.items():
        factors = dict(product)
        if factors.pop(bar, 0) != 1:
            return None
        rest[monomial(factors)] = coefficient
    inside = Form(form_of(bar.arguments[0]).terms)
    return multiply(inside, Form(rest)), Form(rest)


def digest_of(key: Key | int) -> bytes:
    """16 bytes that stand for a key, or a row without one, the same in every process."""
    if isinstance(key, int):
        parts = [f"row {key}"]
    else:
        terms, hidden = key
        parts = sorted(repr((monomial_order(product), c)) for product, c in terms)
        parts += sorted(repr(order(condition)) for condition in hidden)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def comparable(a: Form, b: Form) -> bool:
    """Whether two forms have the same domain, not empty, and no sample tells them apart."""
    if NOWHERE in (a, b) or maximal(a.domain) != maximal(b.domain):
        return False
    return not samples.differ(a, b)


def same(a: Form, b: Form) -> bool:
    """Whether two forms on a quadrant are proved to be one function: same domain, same values."""
    if not comparable(a, b):
        return a is b
    try:
        if same_under_bars(a, b) or orderings.equal(a, b):
            return True
        if len(a.terms) + len(b.terms) > _LARGEST_CLEARED or _bars(a) != _bars(b):
            return False  # algebra opens no |·|
        return algebra.same(to_expression(Form(a.terms)), to_expression(Form(b.terms)))
    except TooLarge:
        return False
