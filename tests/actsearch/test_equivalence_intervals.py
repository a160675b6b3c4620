"""Interval arithmetic in floats encloses the exact results, however small or large these are."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actsearch.equivalence.intervals import (
    Interval,
    exactly,
    multiplied,
    plus,
    power,
    rounded,
    scaled,
    times,
)

ENDS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-1074, 1023).map(lambda exponent: 2.0**exponent),
    st.integers(-1074, 1023).map(lambda exponent: -(2.0**exponent)),
    st.just(0.0),
)
SHARES = (Fraction(0), Fraction(1, 3), Fraction(1))


def interval(ends: tuple[float, float]) -> Interval:
    low, high = (np.full((1, 1), end) for end in sorted(ends))
    return low, high


def members(ends: tuple[float, float]) -> list[Fraction]:
    low, high = map(Fraction, sorted(ends))
    return [low + share * (high - low) for share in SHARES]


def encloses(bounds: Interval, value: Fraction) -> bool:
    low, high = (float(end[0, 0]) for end in bounds)
    above = low == -np.inf or (low != np.inf and Fraction(low) <= value)
    return above and (high == np.inf or (high != -np.inf and value <= Fraction(high)))


@given(st.fractions() | st.builds(Fraction, ENDS), st.integers(-1200, 1200))
def test_fractions_of_every_size(value: Fraction, exponent: int) -> None:
    moved = value * Fraction(2) ** exponent
    assert encloses(exactly(moved), moved)
    low, high = rounded(moved, -math.inf), rounded(moved, math.inf)
    assert low == high or math.nextafter(low, math.inf) == high


@given(st.tuples(ENDS, ENDS), st.sampled_from([-4, -3, -2, -1, 0, 1, 2, 3, 4]))
def test_powers(ends: tuple[float, float], k: int) -> None:
    with np.errstate(all="ignore"):
        bounds = power(interval(ends), k)
    for member in members(ends):
        assert (k < 0 and not member) or encloses(bounds, member**k)


@given(st.tuples(ENDS, ENDS), st.tuples(ENDS, ENDS))
@pytest.mark.parametrize(
    ("bounds_of", "exact"),
    [(times, Fraction.__mul__), (scaled, Fraction.__mul__), (plus, Fraction.__add__)],
)
def test_sums_and_products(
    bounds_of: Callable[[Interval, Interval], Interval],
    exact: Callable[[Fraction, Fraction], Fraction],
    first: tuple[float, float],
    second: tuple[float, float],
) -> None:
    with np.errstate(all="ignore"):
        bounds = bounds_of(interval(first), interval(second))
    for a in members(first):
        for b in members(second):
            assert encloses(bounds, exact(a, b))


@given(
    st.tuples(ENDS, ENDS),
    st.fractions(-(10**6), 10**6, max_denominator=10**6).filter(bool),
)
def test_multiples(ends: tuple[float, float], factor: Fraction) -> None:
    with np.errstate(all="ignore"):
        found = multiplied(interval(ends), factor)
    assert all(encloses(found, factor * value) for value in members(ends))
    assert all(
        found[side] == 0 for side in (0, 1) if sorted(ends)[side if factor > 0 else ~side] == 0
    )


def test_a_power_that_underflows_is_not_zero() -> None:
    tiny = interval((1e-200, 1e-190))
    with np.errstate(all="ignore"):
        assert float(power(tiny, 2)[1][0, 0]) > 0
        low, high = power(tiny, -2)
    assert low <= high
