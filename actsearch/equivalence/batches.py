"""Values of many terms at once, and the keys under which equal functions come to lie together.

A row is a function, a column a point (x, β) of a pool that is closed under x → −x and under β → −β.
Values are float64; what overflows or cancels there is computed again with 64 bits of mantissa and
an exponent range of 10^±4932 (numpy's longdouble, where the machine has one). A key is a weighted
sum of squashed values; "undefined" counts as a value.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.holes import SHARED_NAME
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter

Floats = NDArray[Any]

TOLERANCE = 5e-11
"""How far apart the keys of two equal functions may be."""
WIDE = 1e5
"""Rows with larger values are computed in longdouble: float64 would lose digits in sums."""
_UNDEFINED = 7.0
_PLACEHOLDER = "child_"


@dataclass(frozen=True)
class Points:
    """A pool of points (x, β), as exact fractions."""

    x: tuple[Fraction, ...]
    beta: tuple[Fraction, ...]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def weights(self) -> Floats:
        """Of the two keys, shape (points, 2)."""
        rng = np.random.default_rng(self.seed)
        return rng.uniform(0.2, 1.0, (len(self), 2))

    def leaves(self, dtype: Any = np.longdouble) -> dict[str, Floats]:
        """The values of `x` and of the shared parameter, each of shape (1, points)."""
        return {
            "x": _exactly(self.x, dtype)[None],
            SHARED_NAME: _exactly(self.beta, dtype)[None],
        }


def _exactly(values: Sequence[Fraction], dtype: Any) -> Floats:
    return np.array([dtype(v.numerator) / dtype(v.denominator) for v in values], dtype=dtype)


def points(
    count: int,
    smallest: float,
    largest: float,
    seed: int = 0,
    beta: tuple[float, float] = (0.2, 1.3),
) -> Points:
    """A pool of `count` points: |x| spread geometrically over a range, |β| over another.

    Args:
        count: a multiple of 4; each |x|, |β| comes with all four combinations of signs.
        smallest: least |x|.
        largest: greatest |x|.
        seed: another seed, other points.
        beta: least and greatest |β|.
    """
    generator = random.Random(f"points {seed} {count} {largest}")
    quarter = count // 4
    ratio = (largest / smallest) ** (1 / max(1, quarter - 1))
    spread = (beta[1] / beta[0]) ** (1 / max(1, quarter - 1))
    betas = [beta[0] * spread**place for place in range(quarter)]
    generator.shuffle(betas)
    sizes = [
        tuple(
            value * generator.uniform(0.93, 1.07)
            for value in (smallest * ratio**place, betas[place])
        )
        for place in range(quarter)
    ]
    return _with_signs(sizes, seed)


def crossings(count: int, seed: int = 0) -> Points:
    """A pool of `count` points where functions of sub-terms tend to cross.

    Half of them lie anywhere up to |x| = 13, others near multiples of π/2, and some have a large
    |β|; a window of max or min between two crossings is narrow next to a geometric pool's steps.

    Args:
        count: a multiple of 4; each |x|, |β| comes with all four combinations of signs.
        seed: another seed, other points.
    """
    generator = random.Random(f"crossings {seed} {count}")
    sizes = []
    for place in range(count // 4):
        x, beta = 13 * generator.random(), 0.003 * 2e4 ** generator.random()
        if place % 8 in (1, 3, 5):
            offset = 0.002 * 15 ** generator.random()
            x = math.pi / 2 * generator.randint(1, 8) + generator.choice((offset, -offset))
        elif place % 8 == 7:
            x, beta = 0.002 * 1250 ** generator.random(), 4 * 15 ** generator.random()
        sizes.append((x, beta))
    return _with_signs(sizes, seed)


def _with_signs(sizes: Sequence[tuple[float, ...]], seed: int) -> Points:
    """Points with these |x|, |β|, each with all four combinations of signs."""
    x: list[Fraction] = []
    b: list[Fraction] = []
    for pair in sizes:
        size, other = map(_generic, pair)
        x += [size, -size, size, -size]
        b += [other, other, -other, -other]
    return Points(tuple(x), tuple(b), seed)


def _generic(value: float) -> Fraction:
    """A dyadic number near a positive one, with 14 significant bits, the last one set."""
    mantissa, exponent = math.frexp(value)
    return Fraction(round(mantissa * 8192) * 2 + 1, 16384) * Fraction(2) ** exponent


# evaluation


@cache
def placeholder(number: int) -> Parameter:
    """What stands for the child with this number (from 0) in a production's template."""
    return Parameter(f"{_PLACEHOLDER}{number + 1}")


def evaluate_rows(
    template: Expression, values: Mapping[str, Floats], memo: dict[Expression, Floats]
) -> Floats:
    """A template's values; `values` has arrays for inputs, the parameter and the placeholders.

    Args:
        template: an expression over placeholders.
        values: arrays that broadcast against each other.
        memo: values of nodes, filled and reused.
    """
    for node in template.postorder():
        if node not in memo:
            memo[node] = _node(node, values, memo)
    return memo[template]


def _node(node: Expression, values: Mapping[str, Floats], memo: dict[Expression, Floats]) -> Floats:
    if isinstance(node, Apply):
        operands = [memo[argument] for argument in node.arguments]
        exponent = node.arguments[-1]
        if (
            node.operator.name == "pow"
            and isinstance(exponent, Number)
            and exponent.value in (2, 3)
        ):
            base = operands[0]
            return base * base if exponent.value == 2 else base * base * base
        return _applied(node, operands)
    dtype = next(iter(values.values())).dtype.type
    if isinstance(node, Number):
        return np.asarray(dtype(node.value.numerator) / dtype(node.value.denominator))
    if isinstance(node, Constant):
        return np.asarray(dtype(_CONSTANTS[node.name]))
    assert isinstance(node, Input | Parameter)
    return values[node.name]


def _applied(node: Apply, operands: list[Floats]) -> Floats:
    """An operator, nan wherever floats would cover up something undefined."""
    name = node.operator.name
    if name == "where":
        condition, first, second = operands
        return np.where(np.isnan(condition), np.nan, np.where(condition != 0, first, second))
    try:
        result = apply_numpy(name, *operands)
    except TypeError:  # a special function that has no longdouble version
        dtype = operands[0].dtype
        result = np.asarray(apply_numpy(name, *(o.astype(np.float64) for o in operands)), dtype)
    if name == "div":
        if not operands[1].all():
            result = np.where(operands[1] == 0, np.nan, result)
    elif node.operator.domain and name != "sqrt":
        result = np.where(np.isinf(result), np.nan, result)
    elif name in _SATURATING:
        unknown = np.isnan(operands[0])
        result = np.where(unknown, np.nan, result) if unknown.any() else result
    return np.asarray(result)


_SATURATING = frozenset({"sign", "relu", "pow"})
_CONSTANTS = {"pi": math.pi, "e": math.e}


# keys


def squash(values: Floats) -> Floats:
    """v/(1 + |v|), and 7 for what is undefined or infinite."""
    with np.errstate(invalid="ignore"):
        found = _squashed(values)
    np.copyto(found, _UNDEFINED, where=np.isnan(found))
    return found


def _squashed(values: Floats) -> Floats:
    sizes = np.abs(values)
    sizes += 1
    np.divide(values, sizes, out=sizes)
    return sizes


def keys(values: Floats, weights: Floats) -> Floats:
    """The two keys of each row, shape (rows, 2)."""
    with np.errstate(invalid="ignore"):
        found = _squashed(values).astype(np.float64, copy=False) @ weights
    odd = np.flatnonzero(np.isnan(found[:, 0]))
    found[odd] = squash(values[odd]).astype(np.float64, copy=False) @ weights
    return np.asarray(found)


def grouped(first: Floats, second: Floats) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows in an order in which those with nearly equal keys are neighbours.

    Returns:
        The order, and for each place in it whether a new group begins there.
    """
    order, close = _by_cell(first)
    begins = np.ones(len(order), dtype=bool)
    places = np.flatnonzero(np.append(close, False) | np.append(False, close))
    if not len(places):
        return order, begins
    rows = order[places]
    own = first[rows]
    inner = np.argsort(own)
    rows, own, other = rows[inner], own[inner], second[rows[inner]]
    apart = np.append(True, np.diff(own) > TOLERANCE)
    mixed = np.flatnonzero(_apart(other[:-1], other[1:]) & ~apart[1:])
    for start, end in _runs(apart, mixed):  # different functions with the same first key
        run = np.argsort(other[start:end], kind="stable")
        rows[start:end], other[start:end] = rows[start:end][run], other[start:end][run]
        apart[start + 1 : end] = _apart(other[start : end - 1], other[start + 1 : end])
    order[places], begins[places] = rows, apart
    return order, begins


def _by_cell(values: Floats) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows by value, those that differ by no more than the tolerance in any order, and whether two
    neighbours may be such ones.

    A cell's number and the row's share one whole number: these are sorted in half the time.
    """
    count = len(values)
    bits = max(1, count.bit_length())
    low, high = (float(values.min()), float(values.max())) if count else (0.0, 0.0)
    width = max(TOLERANCE, (high - low) / 2.0 ** (63 - bits))
    packed = np.empty(count, dtype=np.uint64)
    for start in range(0, count, _STRIDE):  # in strides: the arrays are long
        here = slice(start, min(start + _STRIDE, count))
        packed[here] = (np.asarray(values[here], dtype=np.float64) - low) / width
        packed[here] <<= np.uint64(bits)
        packed[here] |= np.arange(here.start, here.stop, dtype=np.uint64)
    packed.sort()
    order = np.empty(count, dtype=np.int32 if count < 2**31 else np.int64)
    np.bitwise_and(packed, np.uint64((1 << bits) - 1), out=order, casting="unsafe")
    packed >>= np.uint64(bits)
    return order, packed[1:] - packed[:-1] <= 1


_STRIDE = 1 << 20


def _apart(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Whether second keys differ by more than 32 bits leave open."""
    wide = b.astype(np.float64)
    return np.asarray(np.abs(wide - a) > 1e-6 * (1 + np.abs(wide)))


def _runs(begins: NDArray[np.bool_], inside: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The runs of neighbours that contain the places `inside` (and the ones after these)."""
    starts = np.flatnonzero(begins)
    number = np.unique(np.searchsorted(starts, inside, side="right") - 1)
    ends = np.append(starts[1:], len(begins))
    yield from zip(starts[number].tolist(), ends[number].tolist(), strict=True)
