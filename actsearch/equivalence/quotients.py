"""Quotients such as (tanh t)/t, bounded: what is left of a function that touches 0, or grows.

Near t = 0 a difference of functions cancels, and far out it is ∞ − ∞; written over f(0) + tⁿ·R(t)
with bounds of R, or over exponentials, it does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
from scipy import special

from actsearch.equivalence.intervals import FUNCTIONS, Floats, Interval

_SMALL = 1e-3
_LARGE = 600.0
_SLACK = 1e-12

Bounds = Callable[[Floats, Floats], Interval]


def _falling(at_zero: float, function: Callable[[Floats], Floats]) -> Bounds:
    """Bounds of an even quotient R that falls in |t| from R(0) to 0, with R ≥ R(0)·(1 − t²).

    `at_zero` is exact, or rounded upwards.
    """

    def at(t: Floats) -> Floats:
        safe = np.where((t > _SMALL) & np.isfinite(t), t, 1.0)
        near = at_zero * (1 - t * t)
        return np.where(t <= _SMALL, near, np.where(np.isinf(t), 0.0, function(safe)))

    def bounds(low: Floats, high: Floats) -> Interval:
        near, far = _magnitude(low, high)
        upper = np.where(near <= _SMALL, at_zero, at(near) * (1 + _SLACK))
        return at(far) * (1 - _SLACK), np.minimum(upper, at_zero)

    return bounds


def _rising(at_zero: float, function: Callable[[Floats], Floats]) -> Bounds:
    """Bounds of an even quotient R that rises in |t| from R(0), with R ≤ R(0)·(1 + t²) near 0."""

    def at(t: Floats) -> Floats:
        safe = np.where((t > _SMALL) & (t < _LARGE), t, 1.0)
        near = at_zero * (1 + t * t)
        return np.where(t <= _SMALL, near, np.where(t < _LARGE, function(safe), np.inf))

    def bounds(low: Floats, high: Floats) -> Interval:
        near, far = _magnitude(low, high)
        safe = np.minimum(near, _LARGE / 2)
        lower = np.where(near <= _SMALL, at_zero, at(safe) * (1 - _SLACK))
        return np.maximum(lower, at_zero), at(far) * (1 + _SLACK)

    return bounds


def _magnitude(low: Floats, high: Floats) -> Interval:
    return FUNCTIONS["abs"](low, high)


def _exp_quotient(low: Floats, high: Floats) -> Interval:
    """(exp t − 1)/t rises from 0 over 1 at t = 0; near 0 it is 1 + t/2 up to t²."""

    def at(t: Floats, direction: int) -> Floats:
        safe = np.where((np.abs(t) > _SMALL) & (t < _LARGE) & (t > -1e15), t, 1.0)
        value = np.expm1(safe) / safe * (1 + direction * _SLACK)
        near = 1 + t / 2 + direction * (t * t + 1e-15)
        near = np.where(t >= 0, np.maximum(near, 1.0), near) if direction < 0 else near
        near = np.where(t <= 0, np.minimum(near, 1.0), near) if direction > 0 else near
        value = np.where(np.abs(t) <= _SMALL, near, value)
        value = np.where(t <= -1e15, 0.0 if direction < 0 else 1.1e-15, value)
        top = math.expm1(_LARGE) / _LARGE * (1 - _SLACK) if direction < 0 else np.inf
        return np.where(t >= _LARGE, top, value)

    return at(low, -1), at(high, 1)


def _cos_quotient(low: Floats, high: Floats) -> Interval:
    """(cos t − 1)/t² = −sinc(t/2)²/2."""
    lower, upper = _magnitude(*FUNCTIONS["sinc"](low / 2, high / 2))
    return -upper * upper / 2 * (1 + _SLACK), -lower * lower / 2 * (1 - _SLACK)


def _sinc_quotient(low: Floats, high: Floats) -> Interval:
    """(sinc t − 1)/t²: rises from −1/6 for |t| ≤ 3; beyond, −0.2173 ≤ sinc t ≤ 0.1285."""
    near, far = _magnitude(low, high)

    def at(t: Floats) -> Floats:
        safe = np.where(t > _SMALL, t, 1.0)
        value = (1 - np.sin(safe) / safe) / (safe * safe)
        return np.where(t <= 0.05, 1 / 6 - t * t / 120, value)

    largest = np.where(near <= 3, at(np.minimum(near, 3.0)) + 2e-9, 1.2173 / (near * near))
    smallest = np.where(far <= 3, at(np.minimum(far, 3.0)) - 1e-11, 0.871 / (far * far))
    return -largest, -np.maximum(smallest, 0.0)


def log_quotient(low: Floats, high: Floats) -> Interval:
    """log(1 + u)/u falls from 1 at u = 0, for u ≥ 0."""

    def at(u: Floats, direction: int) -> Floats:
        safe = np.where((u > _SMALL) & np.isfinite(u), u, 1.0)
        value = np.log1p(safe) / safe * (1 + direction * _SLACK)
        small = 1 - u / 2 + (u * u + 1e-15 if direction > 0 else -1e-15)
        value = np.where(u <= _SMALL, np.minimum(small, 1.0), value)
        return np.where(np.isinf(u), 0.0, value)

    return np.where(low < 0, -np.inf, at(high, -1)), np.where(low < 0, np.inf, at(low, 1))


def _log_cosh(low: Floats, high: Floats) -> Interval:
    """log(cosh t) − t = log(1 + exp(−2t)) − log 2, which falls."""
    upper = np.log1p(np.exp(np.minimum(-2 * low, 700.0))) - math.log(2) + 1e-12
    lower = np.log1p(np.exp(np.minimum(-2 * high, 700.0))) - math.log(2) - 1e-12
    return np.where(high < -300, -np.inf, lower), np.where(low < -300, np.inf, upper)


def _log_sinh(low: Floats, high: Floats) -> Interval:
    """log(sinh t) − t = log(1 − exp(−2t)) − log 2, which rises, for t > 0."""
    at = [np.log(-np.expm1(-2 * np.maximum(t, 0.0))) - math.log(2) for t in (low, high)]
    return at[0] - 1e-9 * (1 + np.abs(at[0])), np.minimum(at[1] + 1e-9, -math.log(2) + 1e-12)


def log_share(low: Floats, high: Floats) -> Interval:
    """log(s)/s, which falls for s ≥ e; other bounds only where s is that large."""
    safe = np.maximum(low, 3.0)
    upper = np.log(safe) / safe * (1 + _SLACK)
    lower = np.where(np.isinf(high), 0.0, np.log(np.maximum(high, 3.0)) / np.maximum(high, 3.0))
    clear = low >= 3
    return np.where(clear, lower * (1 - _SLACK), -np.inf), np.where(clear, upper, np.inf)


QUOTIENTS: Mapping[str, tuple[int | Fraction, int, Bounds]] = {
    "tanh": (0, 1, _falling(1.0, lambda t: np.tanh(t) / t)),
    "atan": (0, 1, _falling(1.0, lambda t: np.arctan(t) / t)),
    "asinh": (0, 1, _falling(1.0, lambda t: np.arcsinh(t) / t)),
    "erf": (
        0,
        1,
        _falling(math.nextafter(2 / math.sqrt(math.pi), 2), lambda t: special.erf(t) / t),
    ),
    "sin": (0, 1, FUNCTIONS["sinc"]),
    "sinh": (0, 1, _rising(1.0, lambda t: np.sinh(t) / t)),
    "exp": (1, 1, _exp_quotient),
    "sigmoid": (Fraction(1, 2), 1, _falling(0.25, lambda t: np.tanh(t / 2) / (2 * t))),
    "cosh": (1, 2, _rising(0.5, lambda t: 2 * (np.sinh(t / 2) / t) ** 2)),
    "cos": (1, 2, _cos_quotient),
    "sinc": (1, 2, _sinc_quotient),
}
"""f: f(0), the power n, and bounds of (f(t) − f(0))/tⁿ from bounds of t."""

LOGARITHMS: Mapping[str, Bounds] = {"cosh": _log_cosh, "sinh": _log_sinh}
SIGNED = frozenset(
    {FUNCTIONS["sinc"], _cos_quotient, _sinc_quotient, log_share, _log_cosh, _log_sinh}
)
"""Quotients that are not positive."""

TAILS: Mapping[str, str] = {
    "sigmoid": "1 - exp(-a)*sigmoid(a)",
    "tanh": "1 - exp(-2*a)*(1 + tanh(a))",
    "sinh": "exp(a)*(1 - exp(-2*a))/2",
    "cosh": "exp(a)*(1 + exp(-2*a))/2",
}
"""Identities that show how a function of a large argument behaves."""
