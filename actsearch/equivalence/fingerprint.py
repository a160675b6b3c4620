"""Fingerprints: float64 values at a fixed pool of points. They propose merges; they decide none.

The pool is closed under x → −x and under a change of the sign of all parameters. Each operator's
result is computed three times, twice with its last digits disturbed; where the three disagree
(cancellation, overflow) or something is not finite, ball arithmetic gives the value. Equal
functions have fingerprints within a tolerance of each other. Parameters are treated alike: all have
one value, then each in turn has another.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.balls import Ball, ball_value, is_value, precision
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import order
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter
from actsearch.grammar.operators import CONSTANTS

Floats = NDArray[np.float64]

TOLERANCE = 1e-7
"""Largest difference of two equal functions' squashed values."""
_TRUSTED = 1e-9  # spread of the disturbed values up to which floats are taken
_DISTURBANCE = 2.0**-44
_MAGNITUDES = 6
_MEMO_SIZE = 20_000
_PRECISIONS = (128, 512, 2048)
_UNDEFINED, _UNDECIDED = 3.7, -5.1  # where squashed values of numbers rarely lie


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a function looks like at the pool.

    Attributes:
        base: squashed values with all parameters alike.
        parameters: name -> squashed values with this parameter set apart, for each parameter that
            makes a difference.
        key: one number, within `window` of that of every equal function.
    """

    base: Floats
    parameters: dict[str, Floats]
    key: float

    def matches(self, other: Fingerprint) -> bool:
        """Whether the functions may be equal."""
        if len(self.parameters) != len(other.parameters) or not close(self.base, other.base):
            return False
        return next(self.renamings(other), None) is not None

    def renamings(self, other: Fingerprint) -> Iterator[dict[str, str]]:
        """Ways to rename the other's parameters to these that both fingerprints allow."""
        names = list(self.parameters)

        def extend(place: int, taken: dict[str, str]) -> Iterator[dict[str, str]]:
            if place == len(names):
                yield dict(taken)
                return
            for candidate, values in other.parameters.items():
                if candidate not in taken and close(values, self.parameters[names[place]]):
                    taken[candidate] = names[place]
                    yield from extend(place + 1, taken)
                    del taken[candidate]

        if len(names) == len(other.parameters):
            yield from extend(0, {})


def close(a: Floats, b: Floats) -> bool:
    """Whether all squashed values agree within the tolerance."""
    return bool(np.all(np.abs(a - b) <= TOLERANCE))


class Pool:
    """The points, and the values of sub-expressions there.

    Args:
        seed: another seed, other points.
    """

    def __init__(self, seed: int = 0) -> None:
        generator = random.Random(f"pool {seed}")
        columns: dict[str, list[Fraction]] = {name: [] for name in ("x", "gate", "all", "one")}
        for place in range(_MAGNITUDES):
            size = 0.15 * 1.8**place
            for name in columns:
                value = Fraction(round(size * generator.uniform(0.8, 1.25) * 8192) * 2 + 1, 16384)
                if name == "one" or name == "gate":
                    value = value / 2 + Fraction(5, 16)
                signs = {"x": (1, 1, -1, -1), "gate": (1, 1, -1, -1)}.get(name, (1, -1, 1, -1))
                columns[name] += [sign * value for sign in signs]
        self._exact = columns
        self._floats = {name: np.array([float(v) for v in c]) for name, c in columns.items()}
        self.size = len(columns["x"])
        rng = np.random.default_rng(seed)
        self._weights = rng.uniform(0.2, 1.0, (2, self.size))
        noise = rng.uniform(-_DISTURBANCE, _DISTURBANCE, (61, 3, self.size))
        noise[:, 0] = 0.0
        self._noise = 1.0 + noise
        self._memo: Memo[tuple[Expression, str | None], Floats] = Memo(_MEMO_SIZE)
        self._names: dict[Expression, frozenset[str]] = {}

    @property
    def window(self) -> float:
        """How far apart the keys of two equal functions may be, per varied assignment."""
        return float(TOLERANCE * self.size)

    def fingerprint(self, expression: Expression) -> Fingerprint:
        """The fingerprint of an expression."""
        base = self._squashed(expression, None)
        apart = {
            name: self._squashed(expression, name)
            for name in (parameter.name for parameter in expression.parameters)
        }
        effective = {name: values for name, values in apart.items() if not close(values, base)}
        key = float(self._weights[0] @ base)
        key += sum(float(self._weights[1] @ values) for values in effective.values())
        return Fingerprint(base, effective, key)

    def _squashed(self, expression: Expression, apart: str | None) -> Floats:
        rows = self._values(expression, apart)
        squashed = squash(rows)
        with np.errstate(invalid="ignore"):  # inf - inf is nan, and nan is not trusted
            spread = np.max(np.abs(squashed - squashed[0]), axis=0)
        result: Floats = squashed[0].copy()
        for place in np.flatnonzero(~(spread <= _TRUSTED) | ~np.isfinite(rows[0])):
            result[place] = self._by_balls(expression, apart, int(place))
        return result

    def _by_balls(self, expression: Expression, apart: str | None, place: int) -> float:
        values = {name: self._exact[name][place] for name in ("x", "gate")}
        for parameter in expression.parameters:
            values[parameter.name] = self._exact["one" if parameter.name == apart else "all"][place]
        ball: Ball = None
        for bits in _PRECISIONS:
            with precision(bits):
                ball = ball_value(expression, values)
                if ball is UNDEFINED:
                    return _UNDEFINED
                if is_value(ball):
                    squashed = (1 + (1 + abs(ball)).log()).log()
                    if float(squashed.rad()) <= _TRUSTED and squashed.is_finite():
                        return math.copysign(float(squashed.mid()), float(ball.mid() > 0) - 0.5)
        return _UNDECIDED

    def _values(self, expression: Expression, apart: str | None) -> Floats:
        """Values of shape (3, size): plain, and twice disturbed. Shared nodes are computed once."""
        if self._memo.make_room():
            self._names.clear()
        with np.errstate(all="ignore"):
            for node in expression.postorder():
                names = self._parameter_names(node)
                key = (node, apart if apart in names else None)
                if key not in self._memo:
                    self._memo[key] = self._node(node, apart)
        names = self._parameter_names(expression)
        return self._memo[expression, apart if apart in names else None]

    def _parameter_names(self, node: Expression) -> frozenset[str]:
        known = self._names.get(node)
        if known is None:
            own = {node.name} if isinstance(node, Parameter) else set()
            known = frozenset(own.union(*(self._parameter_names(a) for a in node.arguments)))
            self._names[node] = known
        return known

    def _node(self, node: Expression, apart: str | None) -> Floats:
        if isinstance(node, Apply):
            operands = [
                self._memo[a, apart if apart in self._parameter_names(a) else None]
                for a in node.arguments
            ]
            result = _apply(node, operands)
            return np.asarray(result * self._noise[order(node)[2][0] % len(self._noise)])
        if isinstance(node, Number):
            return np.full((3, self.size), float(node.value))
        if isinstance(node, Constant):
            return np.full((3, self.size), CONSTANTS[node.name])
        if isinstance(node, Input):
            return np.tile(self._floats[node.name], (3, 1))
        assert isinstance(node, Parameter)
        return np.tile(self._floats["one" if node.name == apart else "all"], (3, 1))


def _apply(node: Apply, operands: list[Floats]) -> Floats:
    """An operator in floats, nan wherever floats would cover up something undefined."""
    name = node.operator.name
    if name == "where":
        condition, first, second = operands
        chosen = np.where(condition != 0, first, second)
        return np.where(np.isnan(condition), np.nan, chosen)
    result = np.asarray(apply_numpy(name, *operands), dtype=np.float64)
    if node.operator.domain:  # 1/0 is undefined, not inf
        result = np.where(np.isinf(result), np.nan, result)
    unknown = np.isnan(sum(operands))
    return np.where(unknown, np.nan, result) if unknown.any() else result


def squash(values: Floats) -> Floats:
    """sign(v)·log(1 + log(1 + |v|)): huge values stay comparable, small ones stay apart."""
    with np.errstate(all="ignore"):
        return np.asarray(np.copysign(np.log1p(np.log1p(np.abs(values))), values))


class SortedKeys:
    """Fingerprint keys in order, each with the class that it belongs to."""

    def __init__(self) -> None:
        self._keys: list[float] = []
        self._classes: list[int] = []

    def add(self, key: float, number: int) -> None:
        """Enter a class."""
        place = bisect.bisect_right(self._keys, key)
        self._keys.insert(place, key)
        self._classes.insert(place, number)

    def near(self, key: float, window: float) -> list[int]:
        """The classes whose key is within `window` of this one, oldest first."""
        low = bisect.bisect_left(self._keys, key - window)
        high = bisect.bisect_right(self._keys, key + window)
        return sorted(self._classes[low:high])
