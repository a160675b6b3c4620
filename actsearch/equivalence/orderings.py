"""Which of two functions is the larger on a whole quadrant: proofs of d ≥ 0 for their difference d.

From cheap to dear: bounds on all cells (`enclosures`); |s| split into s and −s, which turns the
normal form of a maximum back into its operands; and where d touches 0 or grows beyond bounds at the
end of a quadrant, d divided by one of its own terms after each f(t) has been written as
f(0) + t·R(t), with bounds of the quotient R. Every answer True is a proof; False only says that
none was found.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence import samples
from actsearch.equivalence.enclosures import (
    LEAVES,
    branches,
    enclosure,
    is_absolute,
    pseudo_atoms,
)
from actsearch.equivalence.intervals import Interval, minus
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import (
    Form,
    Monomial,
    TooLarge,
    atom_form,
    monomial,
    number,
    order,
    total,
)
from actsearch.equivalence.quotients import (
    LOGARITHMS,
    QUOTIENTS,
    SIGNED,
    TAILS,
    Bounds,
    log_quotient,
    log_share,
)
from actsearch.grammar.expression import Apply, Expression, Input, Parameter
from actsearch.grammar.language import parse_template

_MAX_SPLITS = 4
_MAX_TERMS = 12
_MEMO_SIZE = 60_000
_HASTY = 5  # forms in turn that decide no cell more, after which who is in a hurry gives up
_patience: ContextVar[int] = ContextVar("patience", default=1_000)
_signs: Memo[tuple[int, frozenset[tuple[Monomial, Fraction]]], tuple[bool, bool]] = Memo(_MEMO_SIZE)
_positive: Memo[frozenset[tuple[Monomial, Fraction]], bool] = Memo(_MEMO_SIZE)
_within: Memo[Expression, bool] = Memo(_MEMO_SIZE)


@contextmanager
def hasty() -> Iterator[None]:
    """Inside, proofs are looked for that cost little: for who asks for thousands of them."""
    before = _patience.set(_HASTY)
    try:
        yield
    finally:
        _patience.reset(before)


class _Bound(Form):
    """A form that is a lower (else an upper) bound of the one asked for."""

    def __init__(self, terms: Mapping[Monomial, Fraction], lower: bool) -> None:
        super().__init__(terms)
        object.__setattr__(self, "lower", lower)

    lower: bool


def on_quadrant(form: Form) -> bool:
    """Whether a form is one over |x| and |β|."""
    return bool(form.terms) and all(_inside(atom) for product in form.terms for atom, _ in product)


def _inside(atom: Expression) -> bool:
    known = _within.get(atom)
    if known is None:
        _within.make_room()
        leaves = [n for n in atom.postorder() if isinstance(n, Input | Parameter)]
        known = _within[atom] = bool(leaves) and all(leaf in LEAVES for leaf in leaves)
    return known


def sign(form: Form) -> tuple[bool, bool]:
    """Whether a form on a quadrant is proved to be ≥ 0, and to be ≤ 0, wherever it is defined."""
    patience = _patience.get()
    key = patience, frozenset(form.terms.items())
    known = _signs.get(key)
    if known is None:
        _signs.make_room()
        known = _signs[key] = False, False  # what is asked again on the way there stays open
        if not all(samples.signs(form)):
            try:
                known = _sign(Form(form.terms), _MAX_SPLITS)
            except TooLarge:
                known = False, False
        _signs[key] = known
        _signs[patience, frozenset((m, -c) for m, c in form.terms.items())] = known[::-1]
    return known


def positive(form: Form) -> bool:
    """Whether a form on a quadrant is proved to be > 0, by a bound away from 0."""
    key = frozenset(form.terms.items())
    known = _positive.get(key)
    if known is None:
        _positive.make_room()
        known = False
        if not samples.signs(form)[1]:
            with np.errstate(all="ignore"):
                low, _ = enclosure(Form(form.terms))
            known = bool((low > 0).all())
        _positive[key] = known
    return known


def equal(a: Form, b: Form) -> bool:
    """Whether two forms on a quadrant are proved to have the same values where both are defined."""
    difference = Form(total([(a, Fraction(1)), (b, Fraction(-1))]).terms)
    if not difference.terms:
        return True
    if not on_quadrant(difference) or not any(_absolute(product) for product in difference.terms):
        return False
    if any(samples.signs(difference)):
        return False
    with np.errstate(all="ignore"):
        low, high = bounds = enclosure(difference, 0)
    if (low > 0).any() or (high < 0).any():
        return False
    sides = (difference, bounds), (difference.scaled(Fraction(-1)), minus(bounds))
    return all(_nonnegative_within(*side, _MAX_SPLITS + 2) for side in sides)


def _sign(form: Form, splits: int) -> tuple[bool, bool]:
    if not form.terms:
        return True, True
    with np.errstate(all="ignore"):
        low, high = bounds = enclosure(form, 0)
    rising, falling = low >= 0, high <= 0
    if rising.all() or falling.all():
        return bool(rising.all()), bool(falling.all())
    if (low > 0).any() and (high < 0).any():
        return False, False
    if any(_absolute(product) for product in form.terms):
        risen, fallen = samples.signs(form)
        above = not fallen and _nonnegative_within(form, bounds, splits, thorough=True)
        if above or risen:
            return above, False
        negative = form.scaled(Fraction(-1))
        return above, _nonnegative_within(negative, minus(bounds), splits, thorough=True)
    return _divided_sign(form, rising, falling)


def _nonnegative(form: Form, splits: int, thorough: bool = False) -> bool:
    """Whether a form is ≥ 0, |s| split into s and −s: it is the larger, or the smaller, of two."""
    if not form.terms:
        return True
    if samples.signs(form)[1]:
        return False
    with np.errstate(all="ignore"):
        bounds = enclosure(form, 0)
    return _nonnegative_within(form, bounds, splits, thorough)


def _nonnegative_within(form: Form, bounds: Interval, splits: int, thorough: bool = False) -> bool:
    """`_nonnegative` of a form that has these bounds, and that no sample refutes."""
    low, high = bounds
    if (low >= 0).all():
        return True
    if (high < 0).any():
        return False
    parts = _parts(form) if splits else None
    if parts is None:
        if not thorough:
            return False
        return _divided_sign(form, low >= 0, high <= 0)[0]
    needed, sides = parts
    return needed(_nonnegative(side, splits - 1, thorough) for side in sides)


def _parts(form: Form) -> tuple[Callable[..., bool], tuple[Form, Form]] | None:
    """The two sides of an outermost |s|, and whether all or any of them have to be ≥ 0.

    Where both have to be, nothing is lost by the split: such ones come first.
    """
    bars = [product for product in form.terms if _absolute(product)]
    inside = {
        part
        for product in bars
        for atom, _ in product
        for part in atom.postorder()
        if part is not atom
    }
    outer = [product for product in bars if not any(atom in inside for atom, _ in product)]
    for product in sorted(outer, key=lambda m: (form.terms[m] > 0, -_absolute(m))):
        sides = branches(form, product, form.terms[product])
        if sides is not None:
            return (any if form.terms[product] > 0 else all), sides
    return None


def _absolute(product: Monomial) -> int:
    """Size of what stands between bars in a term; 0 where nothing does."""
    return max((atom.size for atom, k in product if k == 1 and is_absolute(atom)), default=0)


def _divided_sign(
    form: Form, rising: NDArray[np.bool_], falling: NDArray[np.bool_]
) -> tuple[bool, bool]:
    if len(form.terms) > _MAX_TERMS:
        return False, False
    inner = _inner(form)
    if inner is not None and any(found := sign(inner)):
        return found
    patience, open_cells, in_vain = _patience.get(), math.inf, 0
    with np.errstate(all="ignore"):
        for other in _divided(form):
            lower, upper = enclosure(other, 1)
            if isinstance(other, _Bound):
                lower = lower if other.lower else np.full_like(lower, -np.inf)
                upper = np.full_like(upper, np.inf) if other.lower else upper
            elif (lower > 0).any() and (upper < 0).any():
                return False, False
            rising, falling = rising | (lower >= 0), falling | (upper <= 0)
            if rising.all() or falling.all():
                return bool(rising.all()), bool(falling.all())
            left = min((~rising).mean(), (~falling).mean())
            in_vain = 0 if left < open_cells else in_vain + 1
            open_cells = min(left, open_cells)
            if in_vain >= patience:
                return False, False
    return False, False


def _divided(form: Form) -> Iterator[Form]:
    """Forms of the same sign, which are easier to enclose at one end or the other."""
    yield from _quotients(form)
    near = _opened(form, _near)
    if near is not None:
        near = _opened(near, _near) or near  # f(g(t)): g, too
        yield near
        yield from _quotients(near)
    far = _opened(form, _tail)
    if far is not None:
        yield far
    for other in (form, far):
        if other is not None:
            for quotient in _quotients(other):
                slow = _opened(quotient, _slow)
                yield quotient if slow is None else slow
    logarithms = _logarithms(form)
    if logarithms is not None:
        yield logarithms
        slow = _opened(logarithms, _slow)
        if slow is not None:
            yield slow
            yield from _quotients(slow)
    squares = _squares(form)
    if squares is not None:
        yield squares
        opened = _opened(squares, _near)
        if opened is not None:
            yield opened
    yield from _lemmas(form)


positive_quotients: Memo[Expression, None] = Memo(_MEMO_SIZE)
"""What `_quotient` has made of quotients that are positive everywhere."""
RISING = frozenset({"sinh", "tanh", "asinh", "atan", "erf", "sigmoid", "exp", "log", "sqrt"})


def _inner(form: Form) -> Form | None:
    """a − b, of the sign of f(a) − f(b), where f rises."""
    from actsearch.equivalence.normal_form import form_of

    if len(form.terms) != 2 or sum(form.terms.values()) != 0:
        return None
    sides = []
    for product, coefficient in form.terms.items():
        if len(product) != 1 or product[0][1] != 1 or not isinstance(product[0][0], Apply):
            return None
        sides.append((product[0][0].operator.name, product[0][0], coefficient))
    (name, first, c), (other, second, d) = sides
    if name != other or name not in RISING:
        return None
    parts = ((form_of(e.arguments[0]), e_sign) for e, e_sign in ((first, c), (second, d)))
    return Form(total((form, Fraction(1 if k > 0 else -1)) for form, k in parts).terms)


def _logarithms(form: Form) -> Form | None:
    """log a − log b, of the sign of a − b for positive products a and b."""
    from actsearch.equivalence.normal_form import apply_form, form_of
    from actsearch.equivalence.signs import atom_positive

    if len(form.terms) != 2 or not all(
        atom_positive(atom) for product in form.terms for atom, _ in product
    ):
        return None
    (first, c), (second, d) = form.terms.items()
    if c * d > 0:
        return None
    parts: list[tuple[Form, Fraction]] = []
    for product, coefficient in ((first, c), (second, d)):
        side = Fraction(1 if coefficient > 0 else -1)
        parts.append((apply_form("log", number(abs(coefficient))), side))
        for atom, k in product:
            name = atom.operator.name if isinstance(atom, Apply) else ""
            if name in LOGARITHMS and isinstance(atom, Apply):
                argument = form_of(atom.arguments[0])
                rest = atom_form(_quotient(atom, argument, LOGARITHMS[name]))
                parts += [(argument, side * k), (rest, side * k)]
            else:
                parts.append((apply_form("log", atom_form(atom)), side * k))
    return Form(total(parts).terms)


def _squares(form: Form) -> Form | None:
    """a² − b² for a − b with a and b positive products, one of them with a root."""
    from actsearch.equivalence.products import power
    from actsearch.equivalence.signs import atom_positive

    if len(form.terms) != 2 or not any(
        isinstance(atom, Apply) and atom.operator.name == "sqrt"
        for product in form.terms
        for atom, _ in product
    ):
        return None
    (first, c), (second, d) = form.terms.items()
    if c * d > 0 or not all(atom_positive(atom) for atom, _ in (*first, *second)):
        return None
    parts = [
        (power(Form({product: abs(coefficient)}), 2), Fraction(1 if coefficient > 0 else -1))
        for product, coefficient in ((first, c), (second, d))
    ]
    return Form(total(parts).terms)


def _lemmas(form: Form) -> Iterator[Form]:
    """The form with f(t) replaced by g(t) where f ≥ g, if what comes out has f's cofactor's sign.

    It is yielded only where it is a bound on the side that could still be proved: f(t) with a
    positive cofactor makes the form larger, so that the new one is a lower bound.
    """
    from actsearch.equivalence.normal_form import apply_form, form_of
    from actsearch.equivalence.products import multiply
    from actsearch.equivalence.signs import atom_positive, nonnegative

    atoms = {
        (atom.operator.name, atom.arguments[0]): (product, coefficient)
        for product, coefficient in form.terms.items()
        for atom, k in product
        if k == 1 and isinstance(atom, Apply) and len(atom.arguments) == 1
    }
    for larger, smaller in LARGER:
        for (name, argument), (product, coefficient) in atoms.items():
            if name != larger or (smaller, argument) not in atoms:
                continue
            other = atoms[smaller, argument][1]
            rest = monomial({a: k for a, k in product if not _is(a, larger, argument)})
            if coefficient * other > 0 or not all(atom_positive(a) for a, _ in rest):
                continue
            inner = form_of(argument)
            if not nonnegative(inner):
                continue
            replaced = multiply(Form({rest: Fraction(1)}), apply_form(smaller, inner))
            others = Form({m: c for m, c in form.terms.items() if m != product})
            yield _Bound(
                total([(others, Fraction(1)), (replaced, coefficient)]).terms,
                lower=coefficient > 0,
            )


def _is(atom: Expression, name: str, argument: Expression) -> bool:
    return isinstance(atom, Apply) and atom.operator.name == name and atom.arguments[0] is argument


def _quotients(form: Form) -> Iterator[Form]:
    from actsearch.equivalence.products import collected, multiply
    from actsearch.equivalence.signs import atom_positive

    if len(form.terms) > _MAX_TERMS:
        return
    for product in form.terms:
        if product and all(k % 2 == 0 or atom_positive(atom) for atom, k in product):
            inverse = collected({atom: -k for atom, k in product})
            yield Form(multiply(form, inverse).terms)


def _opened(form: Form, expansion_of: Callable[[Expression], Form | None]) -> Form | None:
    """The form with its atoms expanded."""
    from actsearch.equivalence.products import multiply, power

    changed = False
    parts: list[tuple[Form, Fraction]] = []
    for product, coefficient in form.terms.items():
        result = number(1)
        for atom, k in product:
            expansion = expansion_of(atom) if k > 0 else None
            if expansion is None:
                result = multiply(result, Form({((atom, k),): Fraction(1)}))
            else:
                changed = True
                result = multiply(result, power(expansion, k))
        parts.append((result, coefficient))
    return Form(total(parts).terms) if changed else None


def _near(atom: Expression) -> Form | None:
    """f(t) of `QUOTIENTS` as f(0) + tⁿ·R(t), and log(1 + u) as u·L(u) for a single term u."""
    from actsearch.equivalence.normal_form import form_of
    from actsearch.equivalence.products import multiply, power

    if not isinstance(atom, Apply):
        return None
    name = atom.operator.name
    if name == "log":
        argument = Form(form_of(atom.arguments[0] - 1).terms)
        if argument.single is None or argument.single[1] < 0:
            return None
        return multiply(argument, atom_form(_quotient(atom, argument, log_quotient)))
    if name not in QUOTIENTS:
        return None
    at_zero, degree, bounds = QUOTIENTS[name]
    argument = Form(form_of(atom.arguments[0]).terms)
    changed = multiply(power(argument, degree), atom_form(_quotient(atom, argument, bounds)))
    return total([(number(at_zero), Fraction(1)), (changed, Fraction(1))])


def _quotient(atom: Apply, argument: Form, bounds: Bounds) -> Parameter:
    """What stands for the quotient of an atom, its bounds entered."""
    digest = hashlib.sha1(order(atom)[2]).hexdigest()
    quotient = Parameter(f"|{atom.operator.name}/|{digest} {bounds.__name__}")
    if bounds not in SIGNED:
        positive_quotients.make_room()
        positive_quotients[quotient] = None
    if quotient not in pseudo_atoms:
        pseudo_atoms.make_room()
        with np.errstate(all="ignore"):
            pseudo_atoms[quotient] = bounds(*enclosure(argument))
    return quotient


def _slow(atom: Expression) -> Form | None:
    """What grows more slowly than its argument, as its argument times a falling quotient."""
    from actsearch.equivalence.normal_form import form_of
    from actsearch.equivalence.products import multiply

    if not isinstance(atom, Apply):
        return None
    if atom.operator.name == "log":
        found = _near(atom)
        if found is not None:
            return found
        argument = Form(form_of(atom.arguments[0]).terms)
        if argument.constant is not None:
            return None
        return multiply(argument, atom_form(_quotient(atom, argument, log_share)))
    slow = ("asinh", "atan", "tanh", "erf", "sin")
    return _near(atom) if atom.operator.name in slow else None


def _tail(atom: Expression) -> Form | None:
    from actsearch.equivalence.normal_form import expand, form_of

    if not isinstance(atom, Apply) or atom.operator.name not in TAILS:
        return None
    found = expand(_templates()[atom.operator.name], form_of(atom.arguments[0]))
    return Form(found.terms)


@cache
def _templates() -> Mapping[str, Expression]:
    return {name: parse_template(text) for name, text in TAILS.items()}


LARGER: tuple[tuple[str, str], ...] = (
    ("asinh", "atan"),
    ("asinh", "sin"),
    ("asinh", "tanh"),
    ("atan", "tanh"),
    ("erf", "tanh"),
    ("sinh", "asinh"),
)
"""(f, g): f(t) ≥ g(t) for all t ≥ 0, where no quotient shows it. The tests prove them."""
