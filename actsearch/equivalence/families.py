"""The canonical member of a family of functions that differ by a change of a coarser level.

Every place where a parameter p occurs linearly, as in p·A + B, proposes the scale and the shift of
p that make it simplest there: leading coefficient 1, and as little as possible of B along A.
Which places there are does not depend on how the family is parameterised; so the simplest of all
the results is the same for every member. Signs of parameters and of x are tried in all
combinations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache

from actsearch.equivalence.changes import Change, plain, substituted
from actsearch.equivalence.normal_form import form_of, normal_form
from actsearch.equivalence.polynomial import (
    Form,
    Monomial,
    TooLarge,
    monomial,
    order,
    to_expression,
)
from actsearch.grammar.errors import BadNumber
from actsearch.grammar.expression import Apply, Expression, Input, Number, Parameter, call
from actsearch.grammar.language import as_expression

_BIJECTIONS = {"sinh": "asinh", "asinh": "sinh"}
"""Bijections of the real line, and their inverses."""
_MAX_SIGNS = 5  # beyond so many parameters signs are tried one at a time
_ROUNDS = 12
_MAX_PLACES = 24
_MAX_TRIED = 5

Member = tuple[Expression, Change]


@lru_cache(maxsize=20_000)
def canonical(expression: Expression, level: str) -> Member:
    """The canonical member of an expression's family, and the change that leads to it.

    The change is checked: the normal form of what it makes of the expression is the member.

    Args:
        expression: any expression.
        level: "reparameterised" or "affine".
    """
    start = plain(expression)
    try:
        best = _settled((normal_form(start), Change()), level)
        for _ in range(_ROUNDS):
            found = min(_moves(best, level), key=_simplicity, default=best)
            if _simplicity(found) >= _simplicity(best):
                break
            best = found
        if normal_form(best[1].applied(start)) is best[0]:
            return best
    except (TooLarge, BadNumber):
        pass
    return start, Change()


def replayed(expression: Expression, member: str, change: Mapping[str, str]) -> Member | None:
    """A member as it was written down, with its change; None unless the change leads to it.

    Args:
        expression: whose member it is.
        member: its text.
        change: what `Change.to_pairs` wrote.
    """
    found, steps = as_expression(member), Change.from_pairs(change)
    moved = steps.applied(plain(expression))
    try:
        return (found, steps) if found in (moved, normal_form(moved)) else None
    except (TooLarge, BadNumber):
        return None


def _simplicity(member: Member) -> tuple[int, int, tuple[int, str, bytes]]:
    expression = member[0]
    return len(expression.parameters), expression.size, order(expression)


def _moves(member: Member, level: str) -> Iterator[Member]:
    """What one step leads to."""
    expression, _ = member
    names = [parameter.name for parameter in expression.parameters]
    mirrors = (False, True) if level == "affine" and expression.inputs else (False,)
    for name in names:
        for value in dict.fromkeys(_proposals(expression, name)):
            opposite = substituted(value, {name: -Parameter(name)})
            for changed, mirrored in itertools.product((value, opposite), mirrors):
                yield from _step(member, {name: changed}, mirrored, level)
    subsets = _subsets(names) if len(names) <= _MAX_SIGNS else [(), *((name,) for name in names)]
    for mirrored, flipped in itertools.product(mirrors, subsets):
        if mirrored or flipped:
            values: dict[str, Expression] = {name: -Parameter(name) for name in flipped}
            yield from _step(member, values, mirrored, level)


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    sizes = range(len(names) + 1)
    return [chosen for size in sizes for chosen in itertools.combinations(names, size)]


def _step(
    member: Member, values: dict[str, Expression], mirrored: bool, level: str
) -> Iterator[Member]:
    """The member after a substitution, brought to normal form; nothing where that is too large."""
    expression, change = member
    moved = substituted(expression, values)
    for name, value in values.items():
        change = change.then_parameter(name, value)
    if mirrored:
        moved, change = moved.substitute({Input("x"): -Input("x")}), change.then_mirrored()
    try:
        yield _settled((normal_form(moved), change), level)
    except (TooLarge, BadNumber):
        return


# bijections of one parameter


def _proposals(expression: Expression, name: str) -> Iterator[Expression]:
    """What may be put in place of a parameter: always a bijection of it, the others fixed."""
    parameter = Parameter(name)
    for node in expression.postorder():
        if isinstance(node, Apply) and node.arguments[0] is parameter:
            if node.operator.name in _BIJECTIONS:  # sinh(p) -> p
                yield call(_BIJECTIONS[node.operator.name], parameter)
            elif node.operator.name == "cbrt":
                yield parameter**3
            elif node.operator.name == "pow" and node.arguments[1] is Number(3):
                yield call("cbrt", parameter)
    scales: dict[Fraction, None] = {Fraction(1): None}
    shifts: dict[Expression, None] = {Number(0): None}
    for place in itertools.islice(_sums(expression), _MAX_PLACES):
        for scale, shift in _linear(place, parameter):
            scales[scale] = None
            shifts[shift] = None
    for scale, shift in itertools.product(list(scales)[:_MAX_TRIED], list(shifts)[:_MAX_TRIED]):
        moved: Expression = parameter if scale == 1 else _scaled(parameter, scale)
        if shift is not Number(0):
            moved = moved + shift
        if moved is not parameter:
            yield moved


def _sums(expression: Expression) -> Iterator[Form]:
    """The sums and products inside of an expression in normal form, itself first."""
    seen: set[Expression] = set()
    stack = [expression]
    while stack:
        node = stack.pop()
        if node in seen or not node.parameters:
            continue
        seen.add(node)
        form = form_of(node)
        yield form
        atoms = [atom for product, _ in form.ordered() for atom, _ in product]
        for atom in atoms:
            if atom is not node:
                stack.extend([atom] if _is_sum(atom) else atom.arguments)
            elif not _is_sum(atom):
                stack.extend(atom.arguments)


def _is_sum(atom: Expression) -> bool:
    return isinstance(atom, Apply) and atom.operator.name in ("add", "sub", "neg")


def _linear(form: Form, parameter: Parameter) -> Iterator[tuple[Fraction, Expression]]:
    """The s and t with which p := s·p + t makes the part p·A + B of a form simplest.

    s is a positive number; t holds no input and not p itself: a number, or a formula over other
    parameters.
    """
    slope: dict[Monomial, Fraction] = {}
    square: dict[Monomial, Fraction] = {}
    rest: dict[Monomial, Fraction] = {}
    for product, coefficient in form.terms.items():
        factors = dict(product)
        degree = factors.pop(parameter, 0)
        place = {0: rest, 1: slope, 2: square}.get(degree)
        if place is not None:
            place[monomial(factors)] = coefficient
    for high, low, factor in ((slope, rest, 1), (square, slope, 2)):
        for lead, coefficient in sorted(high.items(), key=lambda t: order_of(t[0]))[:2]:
            shift = _quotient(low, lead, parameter).scaled(Fraction(-1, factor) / coefficient)
            scales = [Fraction(1)]
            if factor == 1:
                # Sums inside of functions are made monic, so the other part has a say, too.
                others = sorted((m for m in low if _inputs(m)), key=order_of)[:1]
                scales = [Fraction(1) / coefficient, *(low[m] / coefficient for m in others)]
            for scale in scales:
                yield abs(scale), to_expression(shift)


def order_of(product: Monomial) -> tuple[tuple[tuple[int, str, bytes], int], ...]:
    """A sort key for monomials."""
    return tuple((order(atom), exponent) for atom, exponent in product)


def _scaled(parameter: Parameter, scale: Fraction) -> Expression:
    top = parameter if scale.numerator == 1 else Number(scale.numerator) * parameter
    return top if scale.denominator == 1 else top / Number(scale.denominator)


def _quotient(terms: dict[Monomial, Fraction], lead: Monomial, parameter: Parameter) -> Form:
    """The part of terms/lead that holds neither an input nor the parameter, nor a pole."""
    found: dict[Monomial, Fraction] = {}
    for product, coefficient in terms.items():
        factors = dict(product)
        for atom, exponent in lead:
            factors[atom] = factors.get(atom, 0) - exponent
        ratio = monomial(factors)
        if all(exponent > 0 and _total(atom, parameter) for atom, exponent in ratio):
            found[ratio] = coefficient
    return Form(found)


def _total(atom: Expression, parameter: Parameter) -> bool:
    """Whether it is defined everywhere and depends on parameters other than this one only."""
    return not form_of(atom).domain and not any(
        isinstance(node, Input) or node is parameter or _may_be_undefined(node)
        for node in atom.postorder()
    )


def _may_be_undefined(node: Expression) -> bool:
    return isinstance(node, Apply) and bool(node.operator.domain)


# scale and offset


def _settled(member: Member, level: str) -> Member:
    """At the level "affine": without scale and offset."""
    if level != "affine":
        return member
    expression, change = member
    form = form_of(expression)
    offset = _offset(form)
    if offset:
        form = Form({m: c for m, c in form.terms.items() if m not in offset}, form.domain)
    factor = _factor(form)
    content = _content(form)
    if factor:
        form = Form({_without(m, factor): c for m, c in form.terms.items()}, form.domain)
    form = form.scaled(1 / content)
    scale = to_expression(Form({factor: content}))
    settled = normal_form(to_expression(form))
    return settled, change.then_rescaled(scale, to_expression(Form(offset)))


def _content(form: Form) -> Fraction:
    """The coefficient that becomes 1: that of a term without parameters, if there is one."""
    terms = form.ordered()
    return next((c for m, c in terms if not _names(m)), form.leading())


def _offset(form: Form) -> dict[Monomial, Fraction]:
    """The terms without an input whose parameters occur in no other term."""
    found = {m: c for m, c in form.terms.items() if not _inputs(m)}
    while True:
        others = {name for m in form.terms if m not in found for name in _names(m)}
        others.update(p.name for condition in form.domain for p in condition.parameters)
        kept = {m: c for m, c in found.items() if not _names(m) & others}
        if len(kept) == len(found):
            return kept
        found = kept


def _factor(form: Form) -> Monomial:
    """The common factor of all terms that is constant, or free: its parameters occur only there."""
    products = list(form.terms)
    if not products:
        return ()
    common = dict(products[0])
    for product in products[1:]:
        other = dict(product)
        common = {
            atom: min(exponent, other[atom], key=abs)
            for atom, exponent in common.items()
            if atom in other and exponent * other[atom] > 0
        }
    common = {atom: k for atom, k in common.items() if not _inputs(((atom, k),))}
    while True:
        left = monomial(common)
        elsewhere = {name for m in products for name in _names(_without(m, left))}
        elsewhere.update(p.name for condition in form.domain for p in condition.parameters)
        kept = {a: k for a, k in common.items() if not _names(((a, k),)) & elsewhere}
        if len(kept) == len(common):
            return left
        common = kept


def _without(product: Monomial, factor: Monomial) -> Monomial:
    factors = dict(product)
    for atom, exponent in factor:
        factors[atom] = factors.get(atom, 0) - exponent
    return monomial(factors)


def _inputs(product: Monomial) -> bool:
    return any(isinstance(node, Input) for atom, _ in product for node in atom.postorder())


def _names(product: Monomial) -> set[str]:
    return {p.name for atom, _ in product for p in atom.parameters}
