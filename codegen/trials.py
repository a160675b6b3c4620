"""Trials: what expressions are worth at probe points, in simulated float32 and in float64.

Probe points lie along rays, from 0 through the subnormal numbers to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter, call
from actsearch.grammar.operators import CONSTANTS

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)
SETTLED = 8  # points that must agree for a value to count as the limit
THRESHOLDS = (LARGEST, 2.0**60, 2.0**30, 2.0**20, 1024.0, 80.0, 40.0, 16.0)
_SMALLEST = float(np.finfo(np.float32).tiny)
_GATES = (-1.5, 0.5)  # what one input is while the other one runs along a ray
_FACTORS = (1.0, -1.0, 0.4375, 0.0)  # of the parameters' initial values
_NEGLIGIBLE = 1e-30
_BITS = 24  # of a float32


@lru_cache(maxsize=1)
def _magnitudes() -> Array:
    """|x| along a ray, ascending."""
    small = [0.0, 1.5e-45, 1e-40, *(2.0**k for k in range(-126, -2, 12))]
    large = [2.0**k for k in range(7, 128, 3)]
    middle = {*np.arange(0.25, 128, 1.25), *np.arange(86, 100, 0.5)}  # exp overflows at 88.7
    values = [*small, *sorted(middle), *large, LARGEST, np.inf]
    return np.asarray(values, np.float32).astype(np.float64)


@dataclass(frozen=True)
class Clamp:
    """An input held within a threshold, below, above or at both ends."""

    threshold: float
    below: bool
    above: bool

    def of(self, leaf: Expression) -> Expression:
        """The input, held."""
        if self.below:
            leaf = call("max", leaf, Number(-self.threshold))
        return call("min", leaf, Number(self.threshold)) if self.above else leaf

    def within(self, node: Expression, leaf: Expression) -> Expression:
        """An expression of the input, held."""
        held = self.of(leaf)
        low, high = Number(-self.threshold), Number(self.threshold)
        already = (
            held,
            call("min", call("max", leaf, low), high),
            call("max", call("min", leaf, high), low),
        )
        return node.substitute({leaf: held} | {form: form for form in already})


@dataclass
class _Values:
    """Values of nodes in float64 and in simulated float32, from those of the leaves.

    Attributes:
        leaves: the value of each leaf: a row for each ray, a column for each point on it.
        spent: how many nodes were evaluated.
    """

    leaves: dict[Expression, Array]
    exact: dict[Expression, Array] = field(default_factory=dict)
    single: dict[Expression, Array] = field(default_factory=dict)
    spent: int = 0

    def of(self, root: Expression, single: bool) -> Array:
        """An expression, in simulated float32 or in float64; no more rows than it needs."""
        known = self.single if single else self.exact
        if root in known:
            return known[root]
        if all(argument in known for argument in root.arguments):
            known[root] = self._value(root, known, single)
            return known[root]
        for node in root.postorder():
            if node not in known:
                known[node] = self._value(node, known, single)
        return known[root]

    def _value(self, node: Expression, known: dict[Expression, Array], single: bool) -> Array:
        self.spent += 1
        if isinstance(node, Apply):
            value = np.asarray(apply_numpy(node.operator.name, *(known[a] for a in node.arguments)))
        elif isinstance(node, Number):
            value = np.array(float(node.value))
        elif isinstance(node, Constant):
            value = np.array(CONSTANTS[node.name])
        else:
            return self.leaves[node]
        return rounded(value) if single else value


class Trial:
    """Values of nodes at the probe points, ordered by |x| along rays, and at the bounds of clamps.

    Args:
        leaves: the inputs and the parameters.
    """

    def __init__(self, leaves: Collection[Expression]) -> None:
        self.inputs = sorted((leaf for leaf in leaves if isinstance(leaf, Input)), key=str)
        self._parameters = [leaf for leaf in leaves if isinstance(leaf, Parameter)]
        self._at_probes = _Values(self._rays(_magnitudes()))
        self._at_bounds = _Values(self._rays(np.array(THRESHOLDS)))
        self.points = self._at_probes.leaves
        self.forms = 0  # that were tried
        self._beyond: dict[tuple[Expression, Clamp], Array] = {}  # where a clamp holds an input

    def _rays(self, sizes: Array) -> dict[Expression, Array]:
        """The value of every leaf where an input has these sizes, on every ray."""
        ours = [p for p in self._parameters if not p.name.startswith("∂")]
        factors = _FACTORS if ours else _FACTORS[:1]
        rows: list[dict[Expression, Array | float]] = []
        for running in self.inputs:
            for others in _GATES if len(self.inputs) > 1 else _GATES[:1]:
                for sign in (1.0, -1.0):
                    for factor in factors:
                        row: dict[Expression, Array | float] = dict.fromkeys(self.inputs, others)
                        row[running] = sign * sizes
                        row |= {p: factor * (p.initial or 1.0) for p in ours}
                        row |= {p: 1.0 for p in self._parameters if p not in ours}
                        rows.append(row)
        return {
            leaf: rounded(np.array([np.broadcast_to(row[leaf], sizes.shape) for row in rows]))
            for leaf in rows[0]
        }

    @cached_property
    def vanishing(self) -> Array:
        """On which rays the parameters are 0."""
        zero = [self.points[leaf][:, 0] == 0 for leaf in self._parameters]
        return np.asarray(np.any([np.zeros(self.shape[0], bool), *zero], axis=0))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Rays and points on each."""
        shape: tuple[int, ...] = next(iter(self.points.values())).shape
        return shape

    @property
    def spent(self) -> int:
        """How many nodes were evaluated and forms tried."""
        return self._at_probes.spent + self._at_bounds.spent + self.forms

    def value(self, root: Expression, single: bool) -> Array:
        """An expression at the probe points, in simulated float32 or in float64."""
        return self._at_probes.of(root, single)

    def held(self, root: Expression, leaf: Expression, clamp: Clamp, single: bool) -> Array:
        """`value` of the expression with an input held: beyond a bound it has its value there."""
        if (leaf, clamp) not in self._beyond:
            x = self.points[leaf]
            beyond = (x < -clamp.threshold) & clamp.below | (x > clamp.threshold) & clamp.above
            self._beyond[leaf, clamp] = beyond
        there = self._at_bounds.of(root, single)
        if there.ndim:
            place = THRESHOLDS.index(clamp.threshold)
            there = there[:, place : place + 1]
        return np.where(self._beyond[leaf, clamp], there, self.value(root, single))

    def expected(self, root: Expression) -> Array:
        """The values that float32 should have, nan where nothing is known."""
        values = np.broadcast_to(self.value(root, single=False), self.shape).copy()
        for ray in np.flatnonzero(np.isnan(values[:, -1])):
            _continue(values[ray])
        values[self.vanishing, -1] = np.nan  # 0 times infinity
        values[np.abs(values) > LARGEST] *= np.inf
        return values

    def bits_lost(self, node: Expression, reference: Expression) -> float:
        """How many bits float32 gets wrong, on the average, where the reference is normal."""
        exact = np.broadcast_to(self.value(reference, single=False), self.shape)
        counts = (np.abs(exact) > _SMALLEST) & (np.abs(exact) <= LARGEST)
        if not counts.any():
            return 0.0
        error = np.abs(self.value(node, single=True) - exact) / np.abs(exact)
        error = np.where(np.isnan(error), 1.0, np.minimum(error, 1.0))[counts]
        return float(np.log2(1 + error * 2.0**_BITS).mean())


def rounded(values: Array) -> Array:
    """Simulated float32: its values as float64."""
    return values if values.dtype == bool else values.astype(np.float32).astype(np.float64)


def lost_values(single: Array, expected: Array) -> Array:
    """Where float32 has no value, or infinity, for something that it could hold."""
    missing = np.isfinite(expected) & ~np.isfinite(single)
    return np.asarray(missing | (np.isinf(expected) & np.isnan(single)))


def wrong_values(expected: Array, *found: Array) -> Array:
    """Where a value is not even roughly right."""
    finite, infinite = np.isfinite(expected), np.isinf(expected)
    tolerated = 0.1 * np.abs(expected) + _NEGLIGIBLE
    wrong = np.zeros(expected.shape, bool)
    for values in found:
        values = np.where(np.abs(values) > LARGEST, np.sign(values) * np.inf, values)
        wrong |= finite & (np.abs(values - expected) > tolerated)
        wrong |= infinite & (values != expected) & ~np.isnan(values)
    return wrong


def _continue(row: Array) -> None:
    """Extend a ray's values to infinity where they have settled: to a constant, 0, or infinity."""
    unknown = np.isnan(row)
    first = len(row) - int(np.argmin(unknown[::-1])) if not unknown.all() else 0
    last = row[max(0, first - SETTLED) : first].tolist()
    if len(last) < SETTLED:
        return
    sizes = [abs(value) for value in last]
    end = last[-1]
    if max(sizes) < _NEGLIGIBLE:
        row[first:] = 0.0
    elif all(v == end or abs(v - end) <= 1e-7 * sizes[-1] < math.inf for v in last):
        row[first:] = end
    elif sizes[-1] > LARGEST and sizes == sorted(sizes) and one_sign(last):
        row[first:] = math.copysign(math.inf, end)


def one_sign(values: Sequence[float]) -> bool:
    return all(value > 0 for value in values) or all(value < 0 for value in values)
