"""Guards: the NaN and overflow that stable forms leave, found and repaired by measurement.

A program is evaluated in simulated float32 along rays of probe points, from 0 through the subnormal
numbers to infinity, and compared with float64, continued to the ends of the line where that too
gives NaN. Where a value that should be finite is not, the operation where it went wrong gets other
forms, and the one that leaves the fewest bad points is kept:

    a*b*c     in another order                 (x*x overflows, x*exp(-x) does not)
    a*b       where(a == 0, 0, a*b)            (a factor that vanishes faster than the other grows)
    f(x)      f(max(x, -T)), f(min(x, T))      (a function that is constant in floats beyond T)

There is no list of functions here: what was measured decides, and a program that needs no repair
gets none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_THRESHOLDS = (LARGEST, 2.0**60, 2.0**30, 2.0**20, 1024.0, 80.0, 40.0, 16.0)
_GATES = (-1.5, 0.5)  # what one input is while the other one runs along a ray
_FACTORS = (1.0, -1.0, 0.4375)  # of the parameters' initial values
_ROUNDS = 12
_BUDGET = 20_000  # node evaluations that repairs of one program may cost
_SETTLED = 8  # points that must agree for a value to count as the limit
_NEGLIGIBLE = 1e-30


def guard(expressions: Sequence[Expression]) -> list[Expression]:
    """The expressions with guards where float32 needs them; they compute the same functions."""
    leaves = {
        leaf
        for expression in expressions
        for leaf in expression.postorder()
        if isinstance(leaf, Input | Parameter)
    }
    if not any(isinstance(leaf, Input) for leaf in leaves):
        return list(expressions)
    trial = _Trial(frozenset(leaves))
    with np.errstate(all="ignore"):
        return [_repaired(trial, expression) for expression in expressions]


@lru_cache(maxsize=1)
def _magnitudes() -> Array:
    """|x| along a ray, ascending."""
    small = [0.0, 1.5e-45, 1e-40, *(2.0**k for k in range(-126, -2, 12))]
    large = [2.0**k for k in range(7, 128, 2)]
    values = [*small, *np.arange(0.25, 128, 0.5), *large, LARGEST, np.inf]
    return np.float64(np.float32(values))


@dataclass
class _Trial:
    """Values of nodes at the probe points: one row for each ray, ordered by |x|."""

    leaves: frozenset[Expression]
    exact: dict[Expression, Array] = field(default_factory=dict)
    single: dict[Expression, Array] = field(default_factory=dict)
    spent: int = 0

    @cached_property
    def points(self) -> dict[Expression, Array]:
        """The value of every leaf at every probe point."""
        inputs = sorted((leaf for leaf in self.leaves if isinstance(leaf, Input)), key=str)
        parameters = [leaf for leaf in self.leaves if isinstance(leaf, Parameter)]
        ours = [leaf for leaf in parameters if not leaf.name.startswith("∂")]
        factors = _FACTORS if ours else _FACTORS[:1]
        rows: list[dict[Expression, Array | float]] = []
        for running in inputs:
            for others in _GATES if len(inputs) > 1 else _GATES[:1]:
                for sign in (1.0, -1.0):
                    for factor in factors:
                        row: dict[Expression, Array | float] = dict.fromkeys(inputs, others)
                        row[running] = sign * _magnitudes()
                        row |= {p: factor * (p.initial or 1.0) for p in ours}
                        row |= {p: 1.0 for p in parameters if p not in ours}
                        rows.append(row)
        width = len(_magnitudes())
        return {
            leaf: np.float64(
                np.float32([np.broadcast_to(np.asarray(row[leaf]), width) for row in rows])
            )
            for leaf in self.leaves
        }

    def value(self, root: Expression, single: bool) -> Array:
        """An expression at the probe points, in simulated float32 or in float64."""
        known = self.single if single else self.exact
        if root not in known:
            for node in root.postorder():
                if node not in known:
                    known[node] = self._value(node, known, single)
        return known[root]

    def _value(self, node: Expression, known: dict[Expression, Array], single: bool) -> Array:
        self.spent += 1
        if isinstance(node, Apply):
            value = np.asarray(apply_numpy(node.operator.name, *(known[a] for a in node.arguments)))
        elif isinstance(node, Number):
            value = np.float64(float(node.value))
        elif isinstance(node, Constant):
            value = np.float64(CONSTANTS[node.name])
        else:
            return self.points[node]
        if single and value.dtype != bool:
            value = np.asarray(value, dtype=np.float32)
        return np.asarray(value, dtype=bool if value.dtype == bool else np.float64)

    def expected(self, root: Expression) -> Array:
        """The values that float32 should have, nan where nothing is known."""
        shape = next(iter(self.points.values())).shape
        values = np.broadcast_to(self.value(root, single=False), shape).copy()
        for row in values:
            _continue(row)
        values[np.abs(values) > LARGEST] *= np.inf
        return values

    def badness(self, root: Expression, expected: Array) -> tuple[int, int, Array]:
        """How many values should be finite and are not, how many are wrong; where the first are."""
        values = np.broadcast_to(self.value(root, single=True), expected.shape)
        wanted = np.isfinite(expected)
        lost = (wanted & ~np.isfinite(values)) | (np.isinf(expected) & np.isnan(values))
        error = np.abs(values - expected)
        wrong = wanted & ~lost & (error > 0.1 * np.abs(expected) + _NEGLIGIBLE)
        wrong |= np.isinf(expected) & ~lost & (values != expected)
        return int(lost.sum()), int(wrong.sum()), lost


def _continue(row: Array) -> None:
    """Extend a ray's values to infinity where they have settled: to a constant, 0, or infinity."""
    unknown = np.isnan(row)
    if not unknown[-1]:
        return
    first = len(row) - int(np.argmin(unknown[::-1])) if not unknown.all() else 0
    last = row[max(0, first - _SETTLED) : first]
    if len(last) < _SETTLED:
        return
    sizes = np.abs(last)
    growing = bool(np.all(sizes[1:] >= sizes[:-1]) and np.all(np.sign(last) == np.sign(last[0])))
    if np.all(sizes < _NEGLIGIBLE):
        row[first:] = 0.0
    elif np.all(last == last[-1]) or np.all(np.abs(last - last[-1]) <= 1e-7 * sizes[-1]):
        row[first:] = last[-1]
    elif growing and sizes[-1] > LARGEST:
        row[first:] = np.sign(last[-1]) * np.inf


def _repaired(trial: _Trial, root: Expression) -> Expression:
    """An expression with the best repairs found, one operation at a time."""
    if not isinstance(root, Apply):
        return root
    expected = trial.expected(root)
    lost, wrong, where = trial.badness(root, expected)
    limit = trial.spent + _BUDGET
    for _ in range(_ROUNDS):
        if not lost or trial.spent > limit:
            break
        best = None
        for candidate in _candidates(trial, root, where):
            scores = trial.badness(candidate, expected)
            if (scores[0], scores[1] + scores[0]) < (lost, wrong + lost) and (
                best is None or scores[:2] < best[1][:2]
            ):
                best = candidate, scores
                if not scores[0] and scores[1] <= wrong:
                    break
            if trial.spent > limit:
                break
        if best is None:
            break
        root, (lost, wrong, where) = best
    return root


def _candidates(trial: _Trial, root: Expression, where: Array) -> Iterator[Expression]:
    """The expression with one operation in another form, cheap forms first."""
    origin = _origin(trial, root, where)
    for node in root.postorder():
        for form in _reassociated(node):
            yield root.substitute({node: form})
    if origin is None:
        return
    if origin.operator.name == "mul":
        for factor in origin.arguments:
            form = call("where", Apply("eq", factor, Number(0)), Number(0), origin)
            yield root.substitute({origin: form})
    for threshold in _THRESHOLDS:
        for form in _clamped(trial, origin, where, threshold):
            yield root.substitute({origin: form})


def _origin(trial: _Trial, root: Expression, where: Array) -> Apply | None:
    """The first operation that makes a value that is lost out of values that are not."""
    for node in root.postorder():
        if isinstance(node, Apply):
            lost = where & ~np.isfinite(trial.value(node, single=True))
            for argument in node.arguments:
                value = trial.value(argument, single=True)
                lost &= ~np.isnan(value)
            if lost.any() and np.isnan(trial.value(node, single=True) * np.ones(where.shape))[lost].any():
                return node
    return None


def _reassociated(node: Expression) -> Iterator[Expression]:
    """Products and quotients of three, in another order."""
    if not isinstance(node, Apply) or node.operator.name not in ("mul", "div"):
        return
    left, right = node.arguments
    outer = node.operator.name
    for inner, other in ((left, right), (right, left)) if outer == "mul" else ((left, right),):
        if isinstance(inner, Apply) and inner.operator.name == "mul":
            a, b = inner.arguments
            yield a * call(outer, b, other)
            yield b * call(outer, a, other)
        if isinstance(inner, Apply) and inner.operator.name == "div" and outer == "mul":
            yield inner.arguments[0] * (other / inner.arguments[1])


def _clamped(
    trial: _Trial, node: Expression, where: Array, threshold: float
) -> Iterator[Expression]:
    """The operation with its inputs held within the threshold, at the ends where it fails."""
    for leaf in node.inputs:
        values = trial.points[leaf][where]
        low, high = bool((values <= -threshold).any()), bool((values >= threshold).any())
        held: Expression = leaf
        if low:
            held = call("max", held, Number(-threshold))
        if high:
            held = call("min", held, Number(threshold))
        if held is not leaf:
            yield node.substitute({leaf: held})
