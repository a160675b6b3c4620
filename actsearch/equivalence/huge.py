"""Numbers beyond the range of balls, of which only the sign is known.

exp(exp(exp(10))) has no ball, but exp(−exp(exp(exp(10)))) has one: it lies next to 0. A huge number
is at least exp(2^30000) in size. It comes into being as exp t, sinh t or cosh t with |t| > 2^33000,
and an operator takes at most two bits off the exponent 33000, as ∛ does, so that more than a
thousand of them may follow on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

from flint import arb

from actsearch.equivalence.marks import UNDECIDED, UNDEFINED, Mark


class Huge(Mark):
    """A huge number, which is positive or negative."""


POSITIVE: Final = Huge("POSITIVE")
NEGATIVE: Final = Huge("NEGATIVE")
_BEYOND = arb(2) ** 33_000
"""With b bits the library has exp t for |t| < 4^b about; b is hardly ever above 2^14."""
_MODERATE = reduce(lambda power, _: power * power, range(1000), arb(2))  # 2^(2^1000)
"""What is between this and its inverse in size cannot make a huge number a moderate one."""
_STEEP = frozenset({"exp", "expm1", "sinh", "cosh"})


def grown(name: str, operand: Any) -> Huge | None:
    """What an operator without a finite ball gives at a ball, if that is a huge number."""
    if name not in _STEEP or not isinstance(operand, arb) or not operand.abs_lower() > _BEYOND:
        return None
    return NEGATIVE if name == "sinh" and operand < 0 else POSITIVE


def is_hopeless(name: str, *operands: Any) -> bool:
    """Whether UNDECIDED is what an operator gives of huge numbers at any precision."""
    return (
        name != "where"
        and any(isinstance(operand, Huge) for operand in operands)
        and all(_is_settled(operand) for operand in operands)
    )


def _is_settled(operand: Any) -> bool:
    """Whether more bits leave an operand as it is."""
    return operand.is_exact() if isinstance(operand, arb) else operand is not UNDECIDED


def is_moderate(ball: arb) -> bool:
    """Whether a ball is certainly smaller than any huge number."""
    return bool(ball.abs_upper() < _MODERATE)


def apply_huge(name: str, *operands: Any) -> Any:
    """An operator on operands one of which is huge at least, the others balls."""
    if name in _UNARY:
        below, above = _UNARY[name]
        return (below if operands[0] is NEGATIVE else above)()
    if name in _BINARY:
        return _BINARY[name](*operands)
    return UNDECIDED


def _tiny() -> arb:
    """A ball around 0 in which the inverses of huge numbers lie."""
    size = (-(arb(2) ** 400)).exp()
    return size.union(-size)


def _opposite(a: Any) -> Any:
    if isinstance(a, Huge):
        return NEGATIVE if a is POSITIVE else POSITIVE
    return a if a is UNDECIDED else -a


def _sum(a: Any, b: Any) -> Any:
    if isinstance(a, Huge) and isinstance(b, Huge):
        return a if a is b else UNDECIDED
    large, other = (a, b) if isinstance(a, Huge) else (b, a)
    return large if is_moderate(other) else UNDECIDED


def _sign(a: Any) -> int:
    """1 or -1 for what is not 0 and leaves huge numbers huge; else 0."""
    if isinstance(a, Huge):
        return 1 if a is POSITIVE else -1
    if not (a.abs_lower() * _MODERATE > 1 and is_moderate(a)):
        return 0
    return 1 if a > 0 else -1


def _product(a: Any, b: Any) -> Any:
    sign = _sign(a) * _sign(b)
    if sign:
        return POSITIVE if sign > 0 else NEGATIVE
    zero = any(isinstance(factor, arb) and factor.is_zero() for factor in (a, b))
    return arb(0) if zero else UNDECIDED


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(b, Huge):
        return _tiny() if isinstance(a, arb) and is_moderate(a) else UNDECIDED
    return UNDEFINED if b.is_zero() else _product(a, b)


def _power(a: Any, b: Any) -> Any:
    """Whole powers of a huge number."""
    is_moderate_power = isinstance(b, arb) and b.is_exact() and abs(b) <= 1000
    exponent = b.unique_fmpz() if is_moderate_power else None
    if exponent is None:
        return UNDECIDED
    if exponent <= 0:
        return _tiny() if exponent else arb(1)
    return a if exponent % 2 else POSITIVE


def _larger(a: Any, b: Any) -> Any:
    if a is POSITIVE or b is POSITIVE:
        return POSITIVE
    other = b if a is NEGATIVE else a
    return other if other is NEGATIVE or is_moderate(other) else UNDECIDED


_UNARY: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "neg": (lambda: POSITIVE, lambda: NEGATIVE),
    "abs": (lambda: POSITIVE, lambda: POSITIVE),
    "sign": (lambda: arb(-1), lambda: arb(1)),
    "relu": (lambda: arb(0), lambda: POSITIVE),
    "sqrt": (lambda: UNDEFINED, lambda: POSITIVE),
    "cbrt": (lambda: NEGATIVE, lambda: POSITIVE),
    "exp": (_tiny, lambda: POSITIVE),
    "expm1": (lambda: _tiny() - 1, lambda: POSITIVE),
    "log": (lambda: UNDEFINED, lambda: UNDECIDED),
    "log1p": (lambda: UNDEFINED, lambda: UNDECIDED),
    "sinh": (lambda: NEGATIVE, lambda: POSITIVE),
    "cosh": (lambda: POSITIVE, lambda: POSITIVE),
    "tanh": (lambda: _tiny() - 1, lambda: _tiny() + 1),
    "erf": (lambda: _tiny() - 1, lambda: _tiny() + 1),
    "erfc": (lambda: _tiny() + 2, _tiny),
    "atan": (lambda: _tiny() - arb.pi() / 2, lambda: _tiny() + arb.pi() / 2),
    "sigmoid": (_tiny, lambda: _tiny() + 1),
    "softplus": (_tiny, lambda: POSITIVE),
    "sinc": (_tiny, _tiny),
}
"""What operators are at a negative, and at a positive huge number."""
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": _sum,
    "sub": lambda a, b: _sum(a, _opposite(b)),
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "max": _larger,
    "min": lambda a, b: _opposite(_larger(_opposite(a), _opposite(b))),
    "hypot": lambda a, b: POSITIVE,
}
