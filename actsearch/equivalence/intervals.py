"""Interval arithmetic in floats, rounded outwards: bounds of values from bounds of operands.

An interval is a pair of arrays, lower and upper bounds, one element for each cell. Bounds are not
values: 0·∞ is 0 here. Points at which an operator is undefined count for nothing, so that √ of
[−1, 4] is [0, 2].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]

ALL: Interval = (np.full((1, 1), -np.inf), np.full((1, 1), np.inf))
_SLACK = 1e-13  # relative; library functions err by a few units in the last of 53 bits
_TINY = 1e-300
_LARGEST = float(np.finfo(np.float64).max)


def added(a: Floats, b: Floats, direction: float) -> Floats:
    """a + b, rounded in a direction unless it is exact (Knuth's error-free sum)."""
    result = a + b
    part = result - a
    error = (a - (result - part)) + (b - part)
    return np.where(error == 0, result, np.nextafter(result, direction))


def rounded(value: Fraction | int, direction: float) -> float:
    """A fraction as a float, rounded towards −∞ or ∞ unless it is exact."""
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    if (near > value) if direction < 0 else (near < value):
        return math.nextafter(near, direction)
    return near


@lru_cache(maxsize=4096)
def exactly(value: Fraction) -> Interval:
    """The bounds of a fraction."""
    return np.full((1, 1), rounded(value, -np.inf)), np.full((1, 1), rounded(value, np.inf))


def meet(a: Interval, b: Interval) -> Interval:
    """Both bounds, of one quantity."""
    return np.maximum(a[0], b[0]), np.minimum(a[1], b[1])


def times(a: Interval, b: Interval) -> Interval:
    """Products of bounds; 0·∞ is 0, since bounds are not values."""
    if (a[0] >= 0).all() and (b[0] >= 0).all():
        # fmax makes 0 of a nan, too
        lower = np.fmax(np.nextafter(a[0] * b[0], -np.inf), 0.0)
        high = _finite(a[1] * b[1])
    else:
        corners = [_finite(left * right) for left in a for right in b]
        low = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
        high = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
        lower = np.nextafter(low, -np.inf)
        if (low == 0).any():  # an exact 0 stays one: rounding cannot lead across it
            lower = np.where(low == 0, _lowest_zero(a, b, low), lower)
    upper = np.nextafter(high, np.inf)
    if (high == 0).any():
        upper = np.where(high == 0, _highest_zero(a, b, high), upper)
    return lower, upper


def multiplied(a: Interval, factor: Fraction) -> Interval:
    """An interval times a number other than 0."""
    if abs(factor) == 1:
        return a if factor > 0 else minus(a)
    (least,), (most,) = (end[0].tolist() for end in exactly(abs(factor)))
    low, high = a if factor > 0 else minus(a)
    lower, upper = np.minimum(low * least, low * most), np.maximum(high * least, high * most)
    return (  # an exact 0 stays one
        np.where(low == 0, low, np.nextafter(lower, -np.inf)),
        np.where(high == 0, high, np.nextafter(upper, np.inf)),
    )


def scaled(a: Interval, b: Interval) -> Interval:
    """`times`, where a factor between 0 and 1, or ≥ 1, does not round past the other one."""
    low, high = times(a, b)
    for factor, other in ((a, b), (b, a)):
        shrinks, grows = (factor[0] >= 0) & (factor[1] <= 1), factor[0] >= 1
        above, below = other[0] >= 0, other[1] <= 0
        low = np.where((grows & above) | (shrinks & below), np.maximum(low, other[0]), low)
        high = np.where((shrinks & above) | (grows & below), np.minimum(high, other[1]), high)
    return low, high


def plus(a: Interval, b: Interval) -> Interval:
    """Sums."""
    return finite_ends(added(a[0], b[0], -np.inf), added(a[1], b[1], np.inf))


def minus(a: Interval) -> Interval:
    """Negatives."""
    return -a[1], -a[0]


def larger(a: Interval, b: Interval) -> Interval:
    """The larger one of two quantities."""
    return np.maximum(a[0], b[0]), np.maximum(a[1], b[1])


def _finite(values: Floats) -> Floats:
    return np.where(np.isnan(values), 0.0, values)


def _lowest_zero(a: Interval, b: Interval, low: Floats) -> Floats:
    """0 as a lower bound, which a product of tiny negative numbers may have been rounded to."""
    safe = ((a[0] >= 0) & (b[0] >= 0)) | ((a[1] <= 0) & (b[1] <= 0))
    zero = (a[0] == 0) & (a[1] == 0) | (b[0] == 0) & (b[1] == 0)
    return np.where(safe | zero, 0.0, -_TINY) + 0 * _finite(low)


def _highest_zero(a: Interval, b: Interval, high: Floats) -> Floats:
    safe = ((a[0] >= 0) & (b[1] <= 0)) | ((a[1] <= 0) & (b[0] >= 0))
    zero = (a[0] == 0) & (a[1] == 0) | (b[0] == 0) & (b[1] == 0)
    return np.where(safe | zero, 0.0, _TINY) + 0 * _finite(high)


def power(a: Interval, k: int) -> Interval:
    """A whole power."""
    if k == 1:
        return a
    if k < 0:
        low, high = power(a, -k)
        with np.errstate(all="ignore"):
            upper = np.where(low > 0, np.nextafter(1 / low, np.inf), np.inf)
            lower = np.where(high < 0, np.nextafter(1 / high, -np.inf), -np.inf)
            positive, negative = low >= 0, high <= 0
            below = np.where(positive, np.maximum(0.0, np.nextafter(1 / high, -np.inf)), lower)
            above = np.where(negative, np.minimum(0.0, np.nextafter(1 / low, np.inf)), upper)
        below = np.where(positive, below, np.where(negative, lower, -np.inf))
        above = np.where(negative, above, np.where(positive, upper, np.inf))
        return finite_ends(below, above)
    low, high = a if k % 2 else _magnitude(*a)
    lower, upper = widened(low**k, high**k)
    if k == 0:
        return lower, upper
    # what underflows is not 0
    return np.where((low < 0) & (lower == 0), -_TINY, lower), np.where(
        (high > 0) & (upper == 0), _TINY, upper
    )


def finite_ends(low: Floats, high: Floats) -> Interval:
    """Bounds that are not numbers say nothing; a lower one that overflowed is the largest float."""
    return (
        np.minimum(np.fmax(low, -np.inf), _LARGEST),
        np.maximum(np.fmin(high, np.inf), -_LARGEST),
    )


def _magnitude(low: Floats, high: Floats) -> Interval:
    inside = (low <= 0) & (high >= 0)
    smallest = np.where(inside, 0.0, np.minimum(np.abs(low), np.abs(high)))
    return smallest, np.maximum(np.abs(low), np.abs(high))


def widened(low: Floats, high: Floats) -> Interval:
    """Room for the errors of library functions; an exact 0 stays one."""
    lower = np.where(np.isinf(low) | (low == 0), low, low - _SLACK * np.abs(low) - _TINY)
    upper = np.where(np.isinf(high) | (high == 0), high, high + _SLACK * np.abs(high) + _TINY)
    return finite_ends(lower, upper)


def _rising(function: Callable[[Any], Any]) -> Callable[[Floats, Floats], Interval]:
    return lambda low, high: widened(function(low), function(high))


def _exp(low: Floats, high: Floats) -> Interval:
    lower, upper = widened(np.exp(low), np.exp(high))
    # What overflows is finite; what underflows is positive.
    lower = np.where(np.isinf(lower) & np.isfinite(low), _LARGEST, np.maximum(lower, 0.0))
    lower = np.where(low >= 0, np.maximum(lower, 1.0), lower)
    upper = np.where(high <= 0, np.minimum(upper, 1.0), upper)
    return lower, np.maximum(upper, _TINY)


def _log(low: Floats, high: Floats) -> Interval:
    lower = np.where(low > 0, np.log(np.where(low > 0, low, 1.0)), -np.inf)
    upper = np.where(high > 0, np.log(np.where(high > 0, high, 1.0)), -np.inf)
    return widened(lower, upper)


def _sqrt(low: Floats, high: Floats) -> Interval:
    return widened(np.sqrt(np.maximum(low, 0.0)), np.sqrt(np.maximum(high, 0.0)))


def _cosh(low: Floats, high: Floats) -> Interval:
    return _sinh_like(np.cosh, *_magnitude(low, high))


def _sinh_like(function: Any, low: Floats, high: Floats) -> Interval:
    lower, upper = widened(function(low), function(high))
    lower = np.where(np.isposinf(lower) & np.isfinite(low), _LARGEST, lower)
    upper = np.where(np.isneginf(upper) & np.isfinite(high), -_LARGEST, upper)
    return lower, upper


def _cos(low: Floats, high: Floats) -> Interval:
    lower, upper = _sin(low + math.pi / 2, high + math.pi / 2)
    slack = 1e-15 * (1 + np.where(np.abs(low) < 1e5, np.abs(low), 0.0))  # of the shift by π/2
    return lower - slack, upper + slack


def _sin(low: Floats, high: Floats) -> Interval:
    slack = 1e-9
    clear = np.isfinite(low) & np.isfinite(high) & (np.abs(low) < 1e5) & (np.abs(high) < 1e5)
    a, b = np.where(clear, low, 0.0) - slack, np.where(clear, high, 7.0) + slack
    ends = np.sin(a), np.sin(b)
    turn = 2 * math.pi
    top = np.floor((b - math.pi / 2) / turn) >= np.ceil((a - math.pi / 2) / turn)
    bottom = np.floor((b + math.pi / 2) / turn) >= np.ceil((a + math.pi / 2) / turn)
    lower = np.where(bottom | ~clear, -1.0, np.minimum(*ends) - 2 * slack)
    upper = np.where(top | ~clear, 1.0, np.maximum(*ends) + 2 * slack)
    rising = (low >= -1.5) & (high <= 1.5)
    direct = widened(np.sin(np.where(rising, low, 0.0)), np.sin(np.where(rising, high, 0.0)))
    lower, upper = np.where(rising, direct[0], lower), np.where(rising, direct[1], upper)
    return np.maximum(lower, -1.0), np.minimum(upper, 1.0)


_FIRST_LOW = 4.4934  # sinc falls up to its first minimum, just beyond this
_LOWEST = -0.2172337


def _sinc(low: Floats, high: Floats) -> Interval:
    near, far = _magnitude(low, high)
    with np.errstate(all="ignore"):
        decay = np.where(near > 0, np.nextafter(1 / near, np.inf), np.inf)

        def at(t: Floats) -> Floats:
            safe = np.where((t > 0) & (t < 1e3), t, 1.0)
            return np.where(t > 0, np.sin(safe) / safe, 1.0)

        falling = far <= _FIRST_LOW
        lower = np.where(falling, at(far) - 1e-14, np.maximum(_LOWEST, -decay))
        upper = np.where(falling | (near <= _FIRST_LOW), at(near) + 1e-14, decay)
    upper = np.where((near <= _FIRST_LOW) & ~falling, np.maximum(upper, 0.13), upper)
    return lower, np.minimum(upper, 1.0)


def _sigmoid(low: Floats, high: Floats) -> Interval:
    lower, upper = widened(special.expit(low), special.expit(high))
    lower = np.where(low >= 0, np.maximum(lower, 0.5), lower)
    upper = np.where(high <= 0, np.minimum(upper, 0.5), upper)
    return lower, np.maximum(upper, _TINY)


def _softplus(low: Floats, high: Floats) -> Interval:
    lower, upper = widened(*(np.where(t > 700, t, np.logaddexp(0.0, t)) for t in (low, high)))
    return lower, np.maximum(upper, _TINY)  # what underflows is positive


FUNCTIONS: Mapping[str, Callable[[Floats, Floats], Interval]] = {
    "abs": _magnitude,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "cbrt": _rising(np.cbrt),
    "sin": _sin,
    "cos": _cos,
    "sinc": _sinc,
    "sinh": lambda low, high: _sinh_like(np.sinh, low, high),
    "cosh": _cosh,
    "tanh": _rising(np.tanh),
    "asinh": _rising(np.arcsinh),
    "atan": _rising(np.arctan),
    "erf": _rising(special.erf),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}
"""Operator -> bounds of its values from bounds of its argument."""
