"""Bounds of a function on a whole quadrant: interval arithmetic over cells that cover it.

On a quadrant (x and β of known sign) a function is written over the positive numbers |x| and |β|.
Cells cover them from 0 to ∞, and on each the values are enclosed in floats that are rounded
outwards; a sign that all cells have is proved. What touches 0 at the end of a quadrant (sinh x − x)
is divided by its leading factor there (`_divided`). Points at which a function is undefined count
for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

import numpy as np

from actsearch.equivalence.intervals import (
    ALL,
    FUNCTIONS,
    Floats,
    Interval,
    added,
    exactly,
    finite_ends,
    meet,
    multiplied,
    power,
    rounded,
    times,
    widened,
)
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import (
    Form,
    Monomial,
    TooLarge,
    monomial,
    total,
)
from actsearch.grammar.expression import Apply, Constant, Expression, Number, Parameter
from actsearch.grammar.operators import Operator

SIZE_OF_X = Parameter("|x|")
SIZE_OF_BETA = Parameter("|beta|")
LEAVES: frozenset[Parameter] = frozenset({SIZE_OF_X, SIZE_OF_BETA})
"""Positive numbers, under names that no text can spell."""

_X_EDGES = np.concatenate(
    [
        [0.0],
        10.0 ** np.arange(-16, -8.0),
        10.0 ** np.arange(-8, -1.4, 0.25),
        np.arange(0.05, 1.0, 0.05),
        np.arange(1.0, 4.0, 0.125),
        np.arange(4.0, 8.0, 0.5),
        [8.0, 10.0, 12.0, 15.0, 18.0, 19.0, 24.0, 40.0, 100.0, 700.0, 1e4, 1e8, np.inf],
    ]
)
_BETA_EDGES = np.array(
    [0, 1e-8, 1e-3, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 100, 1e8, np.inf]
)
_MAX_SPLITS = 3
_MEMO_SIZE = 60_000
_PRODUCTS = 1_000  # whose bounds are kept, 22 kB each at most

pseudo_atoms: Memo[Expression, Interval] = Memo(_MEMO_SIZE)
"""Bounds of what stands for a quotient such as (f(t) − f(0))/t: `orderings` enters them."""
_atoms: Memo[Expression, Interval] = Memo(_MEMO_SIZE)
_powers: Memo[tuple[Expression, int], Interval] = Memo(_PRODUCTS)
_products: Memo[Monomial, Interval] = Memo(_PRODUCTS)


def enclosure(form: Form, splits: int = _MAX_SPLITS) -> Interval:
    """Lower and upper bounds on all cells, of shape (cells of |x|, cells of |β|) or broadcast.

    Where |s| is a term, the form is the larger (or the smaller) of the two forms with s and −s in
    its place; so max(a, b), which is written (a + b + |a − b|)/2, gets the bounds of a and b.
    """
    if not form.terms:
        return np.zeros((1, 1)), np.zeros((1, 1))
    found = _factored(form)
    if len(form.terms) > 1:
        found = meet(found, _square(form))
    if splits:
        for product, coefficient in form.terms.items():
            parts = branches(form, product, coefficient)
            if parts is None:
                continue
            first, second = (enclosure(part, splits - 1) for part in parts)
            bound = np.maximum if coefficient > 0 else np.minimum
            found = meet(found, (bound(first[0], second[0]), bound(first[1], second[1])))
            break
    return found


def branches(form: Form, product: Monomial, coefficient: Fraction) -> tuple[Form, Form] | None:
    """The form with |s| replaced by s, and by −s, in a term m·|s| with m ≥ 0."""
    inner = [(atom, k) for atom, k in product if _is(atom, "abs") and k == 1]
    if len(inner) != 1 or len(form.terms) < 2:
        return None
    from actsearch.equivalence.normal_form import form_of
    from actsearch.equivalence.products import multiply
    from actsearch.equivalence.signs import atom_nonnegative

    atom = inner[0][0]
    rest = monomial({other: k for other, k in product if other is not atom})
    if not all(k % 2 == 0 or atom_nonnegative(other) for other, k in rest):
        return None
    assert isinstance(atom, Apply)
    inside = multiply(Form({rest: Fraction(1)}), Form(form_of(atom.arguments[0]).terms))
    others = Form({m: c for m, c in form.terms.items() if m != product})
    first, second = (
        total([(others, Fraction(1)), (inside, direction * coefficient)])
        for direction in (Fraction(1), Fraction(-1))
    )
    return Form(first.terms), Form(second.terms)


def _factored(form: Form) -> Interval:
    """The common factor's bounds times those of the sum that is left."""
    shared = _common(form)
    if shared and len(form.terms) > 1:
        rest = {_quotient(product, shared): c for product, c in form.terms.items()}
        found = times(_product(shared), _sum(rest.items()))
        return meet(found, _sum(form.terms.items())) if any(k < 0 for _, k in shared) else found
    return _sum(form.terms.items())


def _common(form: Form) -> Monomial:
    """What all terms have in common, below a fraction bar, too."""
    products = [dict(product) for product in form.terms]
    atoms = set(products[0]).union(*products[1:]) if products else set()
    lowest = {a: min(product.get(a, 0) for product in products) for a in atoms}
    return monomial({a: k for a, k in lowest.items() if k})


def _square(form: Form) -> Interval:
    """Bounds of c·m·(a ± b)², which is written as a sum of three terms."""
    if len(form.terms) != 3:
        return ALL
    shared = _common(form)
    rest = [(_quotient(product, shared), c) for product, c in form.terms.items()]
    for place in range(3):
        mixed, double = rest[place]
        (first, c), (second, d) = rest[:place] + rest[place + 1 :]
        if c * d <= 0 or double * double != 4 * c * d:
            continue
        roots = _root(first), _root(second)
        if roots[0] is None or roots[1] is None:
            continue
        factors = dict(roots[0])
        for atom, k in roots[1]:
            factors[atom] = factors.get(atom, 0) + k
        if not _same_product(monomial(factors), mixed):
            continue
        sign = Fraction(1 if c > 0 else -1)
        ratio = rounded(abs(d / c), np.inf)
        if math.isinf(ratio):
            return ALL
        scale = math.sqrt(ratio) * (1 if double * sign > 0 else -1)
        a, b = _product(roots[0]), _product(roots[1])
        near = times(b, widened(np.full((1, 1), scale), np.full((1, 1), scale)))
        root = added(a[0], near[0], -np.inf), added(a[1], near[1], np.inf)
        outside = multiplied(_product(shared), c)
        return times(outside, power(finite_ends(*root), 2))
    return ALL


def _root(product: Monomial) -> Monomial | None:
    """A monomial whose square this one is (as a number that may have the other sign)."""
    from actsearch.equivalence.normal_form import form_of
    from actsearch.grammar.expression import call

    found: dict[Expression, int] = {}
    for atom, k in product:
        if k % 2 == 0:
            found[atom] = k // 2
        elif atom in LEAVES:
            found[call("sqrt", atom)] = k
        elif _is(atom, "exp") and isinstance(atom, Apply):
            half = form_of(call("exp", atom.arguments[0] / 2)).single
            if half is None:
                return None
            for inner, j in half[0]:
                found[inner] = found.get(inner, 0) + j * k
        else:
            return None
    return monomial(found)


def _same_product(a: Monomial, b: Monomial) -> bool:
    from actsearch.equivalence.products import collected

    if a == b:
        return True
    single = collected(dict(a)).single
    return single is not None and single[0] == b and single[1] == 1


def _quotient(product: Monomial, factor: Monomial) -> Monomial:
    left = dict(product)
    for atom, k in factor:
        left[atom] = left.get(atom, 0) - k
    return monomial(left)


def _sum(terms: Iterable[tuple[Monomial, Fraction]]) -> Interval:
    found: Interval | None = None
    for product, coefficient in terms:
        own = multiplied(_product(product), coefficient)
        if found is not None:
            own = added(found[0], own[0], -np.inf), added(found[1], own[1], np.inf)
        found = own
    return finite_ends(*found) if found else (np.zeros((1, 1)), np.zeros((1, 1)))


def _product(product: Monomial) -> Interval:
    known = _products.get(product)
    if known is None:
        known = _multiplied(product)
        _products.make_room()
        _products[product] = known
    return known


def _multiplied(product: Monomial) -> Interval:
    pair = _decaying_pair(product)
    result: Interval | None = None
    if pair:
        bounds = [_powered(atom, k) for atom, k in pair]
        result = meet(times(*bounds), _decaying(pair))
    for atom, k in product:
        if (atom, k) not in pair:
            own = _powered(atom, k)
            result = own if result is None else times(result, own)
    return result or (np.ones((1, 1)), np.ones((1, 1)))


def _decaying_pair(product: Monomial) -> Monomial:
    """A power of |x| and an exponential of a product."""
    leaf = next(((a, k) for a, k in product if a is SIZE_OF_X and k > 0), None)
    decay = next(((a, k) for a, k in product if _is(a, "exp") and k == 1), None)
    return (leaf, decay) if leaf and decay else ()


def _decaying(product: Monomial) -> Interval:
    """|x|^k·exp(−c·|x|^j) falls beyond |x| = (k/(c·j))^(1/j): its value at a cell's lower end."""
    for (leaf, k), (atom, m) in (product, product[::-1]):
        if leaf is not SIZE_OF_X or k < 0 or m != 1 or not _is(atom, "exp"):
            continue
        assert isinstance(atom, Apply)
        rate = _rate(atom.arguments[0])
        if rate is None:
            continue
        c, j = rate
        start = _X_EDGES[:-1, None]
        upper = np.where(
            c * j * start**j > k * (1 + 1e-9), start**k * np.exp(-c * start**j) * 1.000001, np.inf
        )
        return np.zeros_like(upper), np.where(np.isnan(upper), np.inf, upper) + 1e-300
    return ALL


@lru_cache(maxsize=10_000)
def _rate(exponent: Expression) -> tuple[float, int] | None:
    from actsearch.equivalence.normal_form import form_of

    single = form_of(exponent).single
    if single is None or single[1] >= 0 or len(single[0]) != 1:
        return None
    (leaf, j), c = single[0][0], single[1]
    return (-rounded(c, np.inf), j) if leaf is SIZE_OF_X and j > 0 else None


def is_absolute(atom: Expression) -> bool:
    """Whether an atom is an absolute value."""
    return _is(atom, "abs")


def _is(atom: Expression, name: str) -> bool:
    return isinstance(atom, Apply) and atom.operator.name == name


# atoms


def _powered(atom: Expression, k: int) -> Interval:
    """The bounds of an atom's whole power."""
    if k == 1:
        return _atom(atom)
    known = _powers.get((atom, k))
    if known is None:
        _powers.make_room()
        known = _powers[atom, k] = power(_atom(atom), k)
    return known


def _atom(atom: Expression) -> Interval:
    known = _atoms.get(atom)
    if known is None:
        _atoms.make_room()
        known = _atoms[atom] = enclosed(atom)
    return known


def enclosed(atom: Expression) -> Interval:
    """The bounds of an atom on all cells, computed anew."""
    if atom is SIZE_OF_X:
        return _X_EDGES[:-1, None], _X_EDGES[1:, None]
    if atom is SIZE_OF_BETA:
        return _BETA_EDGES[None, :-1], _BETA_EDGES[None, 1:]
    if isinstance(atom, Number):
        return exactly(atom.value)
    if isinstance(atom, Constant):
        value = {"pi": math.pi, "e": math.e}[atom.name]
        return np.full((1, 1), value * (1 - 1e-15)), np.full((1, 1), value * (1 + 1e-15))
    if isinstance(atom, Parameter):
        return pseudo_atoms.get(atom, ALL)
    if not isinstance(atom, Apply):
        return ALL
    from actsearch.equivalence.normal_form import form_of

    name = atom.operator.name
    if name in ("add", "sub", "mul", "div", "neg") or (
        name == "pow" and whole_exponent(atom) is not None
    ):
        try:
            form = form_of(atom)
        except TooLarge:
            return ALL
        if form.single is not None and form.single[0] == ((atom, 1),) and form.single[1] == 1:
            if name == "pow":
                exponent = whole_exponent(atom)
                assert exponent is not None
                return power(enclosure(form_of(atom.arguments[0])), exponent)
            return ALL
        return enclosure(Form(form.terms))
    function = FUNCTIONS.get(name)
    if function is None:
        return range_of(atom.operator)
    inner = enclosure(Form(form_of(atom.arguments[0]).terms))
    with np.errstate(all="ignore"):
        found = function(*inner)
    return meet(found, range_of(atom.operator))


def range_of(operator: Operator) -> Interval:
    """The bounds of an operator's values; an end that is no whole number is itself rounded."""
    low, high = (np.full((1, 1), float(end)) for end in operator.range)
    return _bound(low, -1), _bound(high, 1)


def _bound(end: Floats, direction: int) -> Floats:
    whole = np.isinf(end) | (end == np.round(end))
    return np.where(whole, end, end + direction * 1e-12)


def whole_exponent(power_: Apply) -> int | None:
    """The exponent of a power, if that is a whole number."""
    exponent = power_.arguments[1]
    if isinstance(exponent, Number) and exponent.value.denominator == 1:
        return int(exponent.value)
    return None
