"""Ball arithmetic: rigorous enclosures of an expression's value, by python-flint.

A value is a finite ball that contains the true value, UNDEFINED where mathematics defines none (the
square root of a negative number, a logarithm of zero, a division by zero), or UNDECIDED where the
balls are too wide to tell. Rational arithmetic stays exact: what switches at 3/10 is decided there.
Nothing finite ever comes out of something undefined: the library returns finite balls for some
undefined inputs (sinc of nan, tanh of an infinite ball), so operators only ever see finite balls.
On the way to a value numbers may be larger than balls can be (`huge`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from flint import arb, ctx, fmpq

from actsearch.equivalence.huge import Huge, apply_huge, grown, is_hopeless
from actsearch.equivalence.marks import UNDECIDED, UNDEFINED
from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
)
from actsearch.grammar.operators import COMPARISONS, OPERATORS

Ball = Any
"""A finite `flint.arb`, UNDEFINED or UNDECIDED; for a comparison also True or False."""

_PRECISION_LOCK = threading.RLock()


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with `bits` bits inside; flint's precision is global, so one thread at a time."""
    with _PRECISION_LOCK:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before


def is_value(ball: Ball) -> bool:
    """Whether the ball is a number (not UNDEFINED, not UNDECIDED)."""
    return isinstance(ball, arb)


def exact(value: Fraction) -> arb:
    """The ball around a fraction: a point where it is dyadic."""
    return arb(fmpq(value.numerator, value.denominator))


def ball_value(
    expression: Expression,
    values: Mapping[str, Fraction],
    memo: dict[Expression, Ball] | None = None,
) -> Ball:
    """The enclosure of an expression at exact values of its inputs and parameters.

    Call it inside `precision(bits)`.

    Args:
        expression: what to evaluate.
        values: a Fraction (or a ball) for each input and parameter, by name.
        memo: values of nodes at this very point, filled and reused.

    Returns:
        A finite ball, UNDEFINED, or UNDECIDED.
    """
    results = {} if memo is None else memo
    for node in _missing(expression, results):
        results[node] = _node_value(node, values, results)
    value = _as_ball(results[expression])
    return UNDECIDED if isinstance(value, Huge) else value


class Program:
    """Expressions as steps, for who evaluates them at many points.

    Args:
        expressions: whose common parts are computed once.

    Attributes:
        beyond: whether the last call met numbers beyond the range of balls that leave values
            undecided at any precision.
    """

    def __init__(self, *expressions: Expression) -> None:
        self.beyond = False
        nodes = list(dict.fromkeys(part for e in expressions for part in e.postorder()))
        self._leaves = [node for node in nodes if not isinstance(node, Apply)]
        applied = [node for node in nodes if isinstance(node, Apply)]
        places = {node: place for place, node in enumerate((*self._leaves, *applied))}
        self._steps = [
            (node.operator.name, tuple(places[argument] for argument in node.arguments))
            for node in applied
        ]
        self._results = [places[expression] for expression in expressions]

    def __call__(self, values: Mapping[str, Fraction]) -> list[Ball | Huge]:
        """The enclosures of the expressions at exact values, inside `precision(bits)`."""
        found = [_node_value(leaf, values, {}) for leaf in self._leaves]
        self.beyond = False
        for name, places in self._steps:
            operands = [found[place] for place in places]
            value = _exactly(name, operands) if name in _RATIONAL else None
            if value is None:
                value = apply_ball(name, *map(_as_ball, operands))
                if value is UNDECIDED and is_hopeless(name, *operands):
                    self.beyond = True
            found.append(value)
        return [_as_ball(found[place]) for place in self._results]


def _as_ball(value: Any) -> Ball | Huge:
    return arb(value) if isinstance(value, fmpq) else value


def _missing(expression: Expression, known: Mapping[Expression, Ball]) -> Iterator[Expression]:
    """`postorder`, without what is known already."""
    stack = [(expression, False)]
    while stack:
        node, expanded = stack.pop()
        if node in known:
            continue
        if expanded or not node.arguments:
            yield node
        else:
            stack.append((node, True))
            stack.extend((argument, False) for argument in reversed(node.arguments))


def _node_value(
    node: Expression, values: Mapping[str, Fraction], results: Mapping[Expression, Ball]
) -> Ball:
    if isinstance(node, Apply):
        operands = [results[argument] for argument in node.arguments]
        found = _exactly(node.operator.name, operands)
        if found is not None:
            return found
        return apply_ball(node.operator.name, *map(_as_ball, operands))
    if isinstance(node, Number):
        return fmpq(node.value.numerator, node.value.denominator)
    if isinstance(node, Constant):
        return _CONSTANTS[node.name]()
    assert isinstance(node, Input | Parameter)
    value = values[node.name]
    return fmpq(value.numerator, value.denominator) if isinstance(value, Fraction) else value


def _exactly(name: str, operands: list[Any]) -> Any:
    """An operator on rational numbers, where the result is one of moderate size; else None."""
    function = _RATIONAL.get(name)
    if function is None:
        return None
    for operand in operands:
        if not isinstance(operand, fmpq):
            return None
    result = function(*operands)
    if isinstance(result, fmpq) and result.height_bits() > _MAX_HEIGHT:
        return None
    return result


def apply_ball(name: str, *arguments: Ball | Huge) -> Ball | Huge:
    """An operator of the table applied to balls, or to huge numbers."""
    if name == "where":
        return _where(*arguments)
    for argument in arguments:
        if not isinstance(argument, arb):
            return _apply_marked(name, arguments)
    result = _BALLS[name](*arguments)
    if isinstance(result, arb) and not result.is_finite():
        return grown(name, *arguments[:1]) or UNDECIDED  # too wide, if it is not huge
    return result


def _apply_marked(name: str, arguments: Sequence[Any]) -> Ball | Huge:
    """An operator of which some operand is no ball."""
    for mark in (UNDEFINED, UNDECIDED):
        if any(argument is mark for argument in arguments):
            return mark
    if any(isinstance(argument, Huge) for argument in arguments):
        return apply_huge(name, *arguments)
    return _BALLS[name](*arguments)


def _where(condition: Ball, a: Ball, b: Ball) -> Ball:
    """Only the chosen branch has to be defined."""
    if condition is True:
        return a
    if condition is False:
        return b
    if condition is UNDEFINED:
        return UNDEFINED
    if a is UNDEFINED and b is UNDEFINED:
        return UNDEFINED
    return a.union(b) if is_value(a) and is_value(b) else UNDECIDED


def _zero(a: arb) -> bool | None:
    """Whether a is 0: None where the ball is too wide to tell."""
    if not a.contains(0):
        return False
    return True if a.is_zero() else None


def _div(a: arb, b: arb) -> Ball:
    zero = _zero(b)
    return UNDECIDED if zero is None else UNDEFINED if zero else a / b


def _when(condition: Callable[[arb], bool | None], value: Callable[[arb], arb]) -> Any:
    """A function with a domain: `condition` is True inside, False outside, None for unknown."""

    def function(a: arb) -> Ball:
        inside = condition(a)
        return UNDECIDED if inside is None else value(a) if inside else UNDEFINED

    return function


def _at_least(bound: int) -> Callable[[arb], bool | None]:
    return lambda a: True if a >= bound else False if a < bound else None


def _above(bound: int) -> Callable[[arb], bool | None]:
    return lambda a: True if a > bound else False if a <= bound else None


def _within(a: arb) -> bool | None:
    return _at_least(0)(1 - abs(a))


def _strictly_within(a: arb) -> bool | None:
    return _above(0)(1 - abs(a))


def _pow(a: arb, b: arb) -> Ball:
    """Powers over the reals: a negative base needs a whole exponent, and 0 a non-negative one."""
    if b.is_exact() and b.is_integer():
        exponent = b.unique_fmpz()
        assert exponent is not None
        if exponent >= 0:
            return a**exponent
        return _div(arb(1), a**-exponent)
    zero = _zero(a)
    if zero:
        return arb(0) if b > 0 else UNDEFINED if b < 0 else UNDECIDED
    if zero is None:
        return UNDECIDED
    if a > 0:
        return (b * a.log()).exp()
    return UNDEFINED if not b.contains_integer() else UNDECIDED


def _cbrt(a: arb) -> arb:
    if a > 0:
        return a.root(3)
    if a < 0:
        return -((-a).root(3))
    bound = a.abs_upper()
    return arb(0, 1) * bound.root(3) if bound > 0 else arb(0)


def _sigmoid(a: arb) -> arb:
    return a.exp() / (1 + a.exp()) if a < 0 else 1 / (1 + (-a).exp())  # neither overflows


def _softplus(a: arb) -> arb:
    return a + (-a).exp().log1p() if a > 0 else a.exp().log1p()


def _tan(a: arb) -> Ball:
    return _div(a.sin(), a.cos())


def _j1(a: arb) -> Ball:
    if a.abs_lower() > 1:
        return (a.sin() / a - a.cos()) / a
    return a / 3 * (-a * a / 4).hypgeom_0f1(arb(5) / 2)  # nothing cancels near 0


def _scaled_bessel(order: int) -> Callable[[arb], arb]:
    def even(a: arb) -> arb:
        return abs(a).bessel_i(arb(order), scaled=True)

    def odd(a: arb) -> arb:
        if a.contains(0):
            return arb(0, 1) * a.abs_upper() / 2  # |i1e(a)| <= |a|/2
        return even(a) if a > 0 else -even(a)

    return even if order == 0 else odd


def _sign(a: arb) -> arb:
    return arb(0) if a.is_zero() else a.sgn()


def _compare(less: bool, equal: bool, greater: bool) -> Callable[[arb, arb], Ball]:
    """A comparison by what it says for a < b, a == b and a > b."""

    def compare(a: arb, b: arb) -> Ball:
        if a < b:
            return less
        if a > b:
            return greater
        if a.is_exact() and b.is_exact():
            return equal
        possible = {
            answer
            for answer, excluded in (
                (less, a >= b),
                (greater, a <= b),
                (equal, not a.overlaps(b)),
            )
            if not excluded
        }
        return possible.pop() if len(possible) == 1 else UNDECIDED

    return compare


_CONSTANTS: Mapping[str, Callable[[], arb]] = {"pi": arb.pi, "e": arb.const_e}

# Every operator of the table, over finite balls. `where` looks at undefined operands: see above.
_BALLS: Mapping[str, Callable[..., Ball]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _div,
    "neg": lambda a: -a,
    "pow": _pow,
    "abs": abs,
    "sign": _sign,
    "relu": lambda a: a.max(arb(0)),
    "max": lambda a, b: a.max(b),
    "min": lambda a, b: a.min(b),
    "where": _where,
    "lt": _compare(True, False, False),
    "le": _compare(True, True, False),
    "gt": _compare(False, False, True),
    "ge": _compare(False, True, True),
    "eq": _compare(False, True, False),
    "ne": _compare(True, False, True),
    "sqrt": _when(_at_least(0), arb.sqrt),
    "cbrt": _cbrt,
    "hypot": lambda a, b: (a * a + b * b).nonnegative_part().sqrt(),
    "exp": arb.exp,
    "expm1": arb.expm1,
    "log": _when(_above(0), arb.log),
    "log1p": _when(_above(-1), arb.log1p),
    "sin": arb.sin,
    "cos": arb.cos,
    "tan": _tan,
    "asin": _when(_within, arb.asin),
    "acos": _when(_within, arb.acos),
    "atan": arb.atan,
    "sinc": arb.sinc,
    "j1": _j1,
    "sinh": arb.sinh,
    "cosh": arb.cosh,
    "tanh": arb.tanh,
    "asinh": arb.asinh,
    "acosh": _when(_at_least(1), arb.acosh),
    "atanh": _when(_strictly_within, arb.atanh),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "erf": arb.erf,
    "erfc": arb.erfc,
    "i0e": _scaled_bessel(0),
    "i1e": _scaled_bessel(1),
}

_MAX_HEIGHT = 1024
_ZERO = fmpq(0)


def _rational_power(a: fmpq, b: fmpq) -> Any:
    if b.q != 1 or abs(b.p) > 64:
        return None
    if b.p >= 0:
        return a**b.p
    return a**b.p if a else UNDEFINED


# What stays rational on rational numbers.
_RATIONAL: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b if b else UNDEFINED,
    "neg": lambda a: -a,
    "pow": _rational_power,
    "abs": abs,
    "sign": lambda a: fmpq((a > 0) - (a < 0)),
    "relu": lambda a: max(a, _ZERO),
    "max": max,
    "min": min,
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
}

if _missing_lines := (set(OPERATORS) ^ set(_BALLS)) | (COMPARISONS - set(_BALLS)):
    raise NotImplementedError(f"ball arithmetic lacks {', '.join(sorted(_missing_lines))}")
