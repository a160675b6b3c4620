"""Guards: the NaN and overflow that stable forms leave, found and repaired by measurement.

A program is evaluated in simulated float32 along rays of probe points, from 0 through the subnormal
numbers to infinity, and compared with float64, continued to the ends of the line where that too
gives NaN. Where a value that should be finite is not, the operation where it went wrong gets other
forms, and the one that leaves the fewest bad points is kept:

    a*b*c     one of the forms of `FORMS`    (x*x overflows, x*exp(-x) does not)
    f(x)      f(max(x, -T)), f(min(x, T))    (a function that is constant in floats beyond T)
    a*b       where(a == 0, 0, a*b)          (a factor that vanishes faster than the other grows)

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

from actsearch.codegen.gradients import CLEAN
from actsearch.codegen.rewriting import Rules
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter, call
from actsearch.grammar.operators import COMPARISONS, CONSTANTS

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)
FORMS = Rules(
    # another order: x*x overflows where x*exp(-x) does not
    "a*b*c -> a*(b*c)",
    "a*b/c -> a*(b/c)",
    "a/b*c -> a*(c/b)",
    # an exponential that overflows where its product with another factor does not
    "exp(a)*b -> exp(a/2)*b*exp(a/2)",
    "exp(a)/b -> exp(a/2)/b*exp(a/2)",
    "exp(a) - b -> 2*(exp(a - log(2)) - 0.5*b)",
    "b - exp(a) -> 2*(0.5*b - exp(a - log(2)))",
    "sinh(a)*b -> where(abs(a) < 80, sinh(a)*b, sign(a)/2*exp(abs(a)/2)*b*exp(abs(a)/2))",
    "sinh(a)/b -> where(abs(a) < 80, sinh(a)/b, sign(a)/2*exp(abs(a)/2)/b*exp(abs(a)/2))",
    "cosh(a)*b -> where(abs(a) < 80, cosh(a)*b, exp(abs(a)/2)/2*b*exp(abs(a)/2))",
    "cosh(a)/b -> where(abs(a) < 80, cosh(a)/b, exp(abs(a)/2)/2/b*exp(abs(a)/2))",
)
"""Forms of a product or a quotient that are tried where it loses values."""

_THRESHOLDS = (LARGEST, 2.0**60, 2.0**30, 2.0**20, 1024.0, 80.0, 40.0, 16.0)
_GATES = (-1.5, 0.5)  # what one input is while the other one runs along a ray
_FACTORS = (1.0, -1.0, 0.4375)  # of the parameters' initial values
_ROUNDS = 4
_LARGEST_FORM = 200  # nodes; an operation over more of them is left as it is
_LARGEST_PROGRAM = 2_000  # nodes; a larger one is not measured at all
_BUDGET = 20_000  # nodes that the repairs of one expression may look at
_SETTLED = 8  # points that must agree for a value to count as the limit
_NEGLIGIBLE = 1e-30


def guard(expressions: Sequence[Expression]) -> list[Expression]:
    """The expressions with guards where float32 needs them; they compute the same functions."""
    nodes = {node for expression in expressions for node in expression.postorder()}
    leaves = frozenset(node for node in nodes if isinstance(node, Input | Parameter))
    if len(nodes) > _LARGEST_PROGRAM or not any(isinstance(leaf, Input) for leaf in leaves):
        return list(expressions)
    trial = _Trial(leaves)
    with np.errstate(all="ignore"):
        return [_guarded(trial, expression) for expression in expressions]


@lru_cache(maxsize=1)
def _magnitudes() -> Array:
    """|x| along a ray, ascending."""
    small = [0.0, 1.5e-45, 1e-40, *(2.0**k for k in range(-126, -2, 12))]
    large = [2.0**k for k in range(7, 128, 3)]
    middle = {*np.arange(0.25, 128, 1.25), *np.arange(86, 100, 0.5)}  # exp overflows at 88.7
    values = [*small, *sorted(middle), *large, LARGEST, np.inf]
    return np.asarray(values, np.float32).astype(np.float64)


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
            leaf: np.array([np.broadcast_to(row[leaf], width) for row in rows], np.float32).astype(
                np.float64
            )
            for leaf in self.leaves
        }

    def value(self, root: Expression, single: bool) -> Array:
        """An expression at the probe points, in simulated float32 or in float64."""
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

    def lost(self, node: Expression, expected: Array) -> Array:
        """Where float32 has no value, or infinity, for something that it could hold."""
        values = self.value(node, single=True)
        missing = np.isfinite(expected) & ~np.isfinite(values)
        return np.asarray(missing | (np.isinf(expected) & np.isnan(values)))

    def wrong(self, node: Expression, expected: Array) -> Array:
        """Where float32 has a value that is not even roughly right."""
        values = self.value(node, single=True)
        error = np.abs(values - expected)
        far = np.isfinite(expected) & (error > 0.1 * np.abs(expected) + _NEGLIGIBLE)
        return np.asarray(far | (np.isinf(expected) & (values != expected)))


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


def _guarded(trial: _Trial, root: Expression) -> Expression:
    """An expression, with the operations repaired that lose values which it needs."""
    lost = trial.lost(root, trial.expected(root))
    if not lost.any():
        return root
    limit = trial.spent + _BUDGET

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        if not isinstance(node, Apply):
            return node
        built = call(node.operator.name, *arguments)
        if node.operator.name in COMPARISONS or trial.spent > limit:
            return built
        expected = trial.expected(node)
        where = trial.lost(built, expected) & lost
        for argument in built.arguments:  # what came in lost was lost before
            where &= ~np.isnan(trial.value(argument, single=True))
        return _best_form(trial, built, expected, where) if where.any() else built

    return root.fold(visit)


def _best_form(trial: _Trial, node: Expression, expected: Array, where: Array) -> Expression:
    """The operation, put into forms that lose fewer and fewer values, until none is lost."""
    if node.size > _LARGEST_FORM:
        return node
    for _ in range(_ROUNDS):
        was_lost, was_wrong = trial.lost(node, expected), trial.wrong(node, expected)
        if not (was_lost & where).any():
            break
        best, score = node, (int(was_lost.sum()), 0)
        for form in _forms(trial, node, was_lost & where):
            trial.spent += form.size
            wrong = trial.wrong(form, expected)
            if (wrong & ~was_wrong & ~was_lost).any():
                continue
            new_score = int(trial.lost(form, expected).sum()), int(wrong.sum())
            if new_score < score and new_score[0] < int(was_lost.sum()):
                best, score = form, new_score
                if score == (0, 0):
                    break
        if best is node:
            break
        node = best
    return node


def _forms(trial: _Trial, node: Expression, where: Array) -> Iterator[Expression]:
    """Other forms of one operation, cheap ones first."""
    yield from FORMS.results(node, CLEAN)
    if isinstance(node, Apply) and node.operator.name == "mul":
        left, right = node.arguments
        yield from (form * right for form in _clamped(trial, left, where, LARGEST))
        yield from (left * form for form in _clamped(trial, right, where, LARGEST))
        for factor in node.arguments:
            yield call("where", Apply("eq", factor, Number(0)), Number(0), node)
    for threshold in _THRESHOLDS:
        yield from _clamped(trial, node, where, threshold)


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
            yield node.substitute({leaf: held, held: held})
