"""What can be said of a form without evaluating it: its sign, and whether it vanishes on a piece.

Every answer True is a proof; False only says that none was found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

from actsearch.equivalence import enclosures, orderings
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.intervals import rounded
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import Form, Monomial, TooLarge, to_expression
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter

POSITIVE = frozenset({"exp", "cosh", "sigmoid", "softplus", "erfc", "i0e"})
ANALYTIC = frozenset(
    "add sub mul neg exp expm1 sin cos sinc j1 sinh cosh tanh asinh atan sigmoid softplus "
    "erf erfc".split()
)
"""Operators that are analytic on the whole line."""
ANALYTIC_ABOVE_ZERO = frozenset({"sqrt", "cbrt", "log", "abs"})
ODD_RISING = frozenset({"sinh", "tanh", "asinh", "atan", "erf"})
"""Positive where their argument is."""
_MARGIN = Fraction(1, 10**12)  # the table's irrational bounds are floats
_MEMO_SIZE = 50_000
_MAX_BARS = 4
_analytic: Memo[Expression, bool] = Memo(_MEMO_SIZE)
_nonzero: Memo[frozenset[tuple[Monomial, Fraction]], bool] = Memo(_MEMO_SIZE)


def _form(node: Expression) -> Form:
    from actsearch.equivalence.normal_form import form_of

    return form_of(node)


def positive(form: Form) -> bool:
    """Proved > 0 wherever it is defined."""
    return _lower_bound(form, strict=True)


def nonnegative(form: Form) -> bool:
    """Proved >= 0 wherever it is defined."""
    return _lower_bound(form, strict=False)


def bounds(form: Form) -> tuple[float, float]:
    """Proved lower and upper bound of its values; infinite where none is known."""
    return _least(form), -_least(form.scaled(Fraction(-1)))


def _least(form: Form) -> float:
    """A lower bound; most forms have none, which their first terms show."""
    ends: list[tuple[Fraction, float, int]] = []
    for product, coefficient in form.terms.items():
        direction = -1 if coefficient > 0 else 1
        end = _interval(product)[direction > 0]
        if math.isinf(end):
            return -math.inf
        ends.append((coefficient, end, direction))
    return rounded(sum(c * _exact(end, direction) for c, end, direction in ends), -math.inf)


def _exact(end: float, direction: int) -> Fraction:
    value = Fraction(end)
    return value if value.denominator == 1 else value + direction * _MARGIN


def _lower_bound(form: Form, strict: bool) -> bool:
    if not form.terms:
        return not strict
    signs = (_monomial_sign(product) if c > 0 else 0 for product, c in form.terms.items())
    known = list(itertools.takewhile(bool, signs))
    if len(known) == len(form.terms):
        return not strict or 2 in known
    low = _least(form)
    if low > 0 or (not strict and (low >= 0 or _absorbed(form))):
        return True
    if not orderings.on_quadrant(form):
        return False
    return orderings.positive(form) if strict else orderings.sign(form)[0]


def _absorbed(form: Form) -> bool:
    """c·|s| + d·s + rest >= 0 where |d| <= c and every term of the rest is >= 0."""
    for product, coefficient in form.terms.items():
        if coefficient < 0 or len(product) != 1 or product[0][1] != 1:
            continue
        atom = product[0][0]
        if not isinstance(atom, Apply) or atom.operator.name != "abs":
            continue
        rest = {m: c for m, c in form.terms.items() if m != product}
        inside = _form(atom.arguments[0]).terms
        shares = {rest.get(m, Fraction(0)) / c for m, c in inside.items()}
        if len(shares) > 1 or max(map(abs, shares)) > coefficient:
            continue
        if all(c > 0 and _monomial_sign(m) for m, c in rest.items() if m not in inside):
            return True
    return False


def _monomial_sign(product: Monomial) -> int:
    """2: positive, 1: non-negative, 0: unknown."""
    sign = 2
    for atom, power in product:
        if atom_positive(atom):
            continue
        if power % 2 == 0 or atom_nonnegative(atom):
            sign = min(sign, 1)
        else:
            return 0
    return sign


def atom_positive(atom: Expression) -> bool:
    """Proved > 0 wherever it is defined."""
    if isinstance(atom, Constant):
        return True
    if isinstance(atom, Number):
        return atom.value > 0
    if not isinstance(atom, Apply):
        return atom in enclosures.LEAVES or atom in orderings.positive_quotients
    name = atom.operator.name
    if name in POSITIVE:
        return True
    if name in ("abs", "sqrt", "cbrt"):
        return positive(_form(atom.arguments[0]))
    if name == "log":
        return positive(_shifted(atom.arguments[0]))
    if name in ODD_RISING and _has_leaf(atom):
        return positive(_form(atom.arguments[0]))
    return name in ("add", "sub") and positive(_form(atom))


def _has_leaf(atom: Expression) -> bool:
    return not enclosures.LEAVES.isdisjoint(atom.parameters)


def atom_nonnegative(atom: Expression) -> bool:
    """Proved >= 0 wherever it is defined."""
    if atom_positive(atom):
        return True
    if not isinstance(atom, Apply):
        return False
    name = atom.operator.name
    if name in ("add", "sub"):
        return nonnegative(_form(atom))
    if name == "cbrt" or (name in ODD_RISING and _has_leaf(atom)):
        return nonnegative(_form(atom.arguments[0]))
    if name == "log":
        return nonnegative(_shifted(atom.arguments[0]))
    if name == "pow":  # defined for a >= 0 only, where the exponent is no whole number
        exponent = atom.arguments[1]
        return isinstance(exponent, Number) and exponent.value.denominator != 1
    if atom.operator.range[0] >= 0:
        return True
    return _has_leaf(atom) and orderings.sign(Form({((atom, 1),): Fraction(1)}))[0]


def _shifted(node: Expression) -> Form:
    """node - 1."""
    return _form(node - 1)


def _interval(product: Monomial) -> tuple[float, float]:
    if not product:
        return 1.0, 1.0
    if len(product) == 1 and product[0][1] == 1:
        atom = product[0][0]
        if isinstance(atom, Apply) and atom.operator.name not in ("add", "sub"):
            return atom.operator.range
    if len(product) == 1 and product[0][1] == 2:
        atom = product[0][0]
        if isinstance(atom, Apply):
            largest = max(map(abs, atom.operator.range))
            return 0.0, math.nextafter(largest**2, math.inf)
    return (0.0, math.inf) if _monomial_sign(product) else (-math.inf, math.inf)


def nonzero_almost_everywhere(form: Form) -> bool:
    """Proved: the form vanishes on no open set inside its domain."""
    key = frozenset(form.terms.items())
    known = _nonzero.get(key)
    if known is None:
        _nonzero.make_room()
        known = _nonzero[key] = _nonzero_form(form)
    return known


def _nonzero_form(form: Form) -> bool:
    if not form.terms:
        return False
    if form.constant is not None or positive(form) or positive(form.scaled(Fraction(-1))):
        return True
    single = form.single
    if single is not None:
        return all(_atom_nonzero(atom) for atom, _ in single[0])
    expression = to_expression(Form(form.terms))
    if _is_analytic(form):
        return _somewhere_nonzero(expression)
    return orderings.on_quadrant(form) and all(map(_piece_nonzero, _pieces(expression)))


def _pieces(expression: Expression) -> Iterator[Expression]:
    """What an expression is where each |s| of it is s, or −s: one of these on a part of any set.

    An expression without |·|, or with too many, is its only piece.
    """
    bars = [node for node in expression.postorder() if enclosures.is_absolute(node)]
    if len(bars) > _MAX_BARS:
        bars = []
    for chosen in itertools.product((1, -1), repeat=len(bars)):
        opened: dict[Expression, Expression] = {}
        for node, side in zip(bars, chosen, strict=True):  # innermost first
            inner = node.arguments[0].substitute(opened)
            opened[node] = inner if side > 0 else -inner
        yield expression.substitute(opened)


def _piece_nonzero(piece: Expression) -> bool:
    """Whether a piece vanishes on no open set: it is analytic on the quadrant and not zero."""
    try:
        form = _form(piece)
    except TooLarge:
        return False
    if form.single is not None:
        return all(_atom_nonzero(atom) for atom, _ in form.single[0])
    return _is_analytic(form) and _somewhere_nonzero(to_expression(Form(form.terms)))


def _atom_nonzero(atom: Expression) -> bool:
    if isinstance(atom, Input | Parameter | Constant):
        return True
    if isinstance(atom, Number):
        return atom.value != 0
    if atom_positive(atom):
        return True
    assert isinstance(atom, Apply)
    if atom.operator.name in ("abs", "sqrt", "cbrt", "sign"):
        return nonzero_almost_everywhere(_form(atom.arguments[0]))
    if atom.operator.name == "log":
        return nonzero_almost_everywhere(_shifted(atom.arguments[0]))
    return is_analytic(atom) and _somewhere_nonzero(atom)


def _is_analytic(form: Form) -> bool:
    return all(
        (power > 0 or atom_positive(atom)) and is_analytic(atom)
        for product in form.terms
        for atom, power in product
    )


def is_analytic(expression: Expression) -> bool:
    """Proved real-analytic in its inputs and parameters on the whole space, or quadrant.

    By the identity theorem such a function is zero everywhere or on no open set.
    """
    _analytic.make_room()
    for node in _unknown(expression):
        if not isinstance(node, Apply):
            _analytic[node] = True
        elif not all(_analytic[argument] for argument in node.arguments):
            _analytic[node] = False
        elif node.operator.name == "pow":
            exponent = node.arguments[1]
            _analytic[node] = (
                isinstance(exponent, Number)
                and exponent.value >= 0
                and exponent.value.denominator == 1
            )
        elif node.operator.name == "div":
            below = node.arguments[1]
            _analytic[node] = isinstance(below, Number | Constant | Apply) and atom_positive(below)
        elif node.operator.name in ANALYTIC_ABOVE_ZERO:
            _analytic[node] = positive(_form(node.arguments[0]))
        else:
            _analytic[node] = node.operator.name in ANALYTIC
    return _analytic[expression]


def _unknown(expression: Expression) -> Iterator[Expression]:
    return (node for node in expression.postorder() if node not in _analytic)


def _somewhere_nonzero(expression: Expression) -> bool:
    """A point, found by ball arithmetic, at which the expression is not zero."""
    leaves = [n for n in expression.postorder() if isinstance(n, Input | Parameter)]
    for attempt in range(3):
        values = {
            leaf.name: Fraction((place * 7919 + attempt * 104729 + 3331) % 4001 - 2000, 1024)
            for place, leaf in enumerate(leaves)
        }
        values |= {
            leaf.name: abs(values[leaf.name]) for leaf in enclosures.LEAVES.intersection(leaves)
        }
        with precision(128):
            ball = ball_value(expression, values)
        if is_value(ball) and not ball.contains(0):
            return True
    return False
