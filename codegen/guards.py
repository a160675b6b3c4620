"""Guards: the NaN and overflow that stable forms leave, found and repaired by measurement.

A program is evaluated in simulated float32 along rays of probe points, from 0 through the subnormal
numbers to infinity, and compared with float64, continued to the ends of the line where that too
gives NaN. Where a value that should be finite is not, the operation where it went wrong gets other
forms, and the one that leaves the fewest bad points is kept:

    a*b*c     one of the forms of `FORMS`    (x*x overflows, x*exp(-x) does not)
    f(x)      f(max(x, -T)), f(min(x, T))    (a function that is constant in floats beyond T)
    a*b       where(a == 0, 0, a*b)          (a factor that vanishes faster than the other grows)

Where the terms of a sum cancel, the form of `ACCURATE` is kept that has the most digits right, on
the average, as in Herbie (Panchekha et al., "Automatically improving accuracy for floating point
expressions", 2015).

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
_SMALLEST = float(np.finfo(np.float32).tiny)
FORMS = Rules(
    # another order: x*x overflows where x*exp(-x) does not
    "a*b*c -> a*(b*c)",
    "a*b/c -> a*(b/c)",
    "a/b*c -> a*(c/b)",
    # infinities of opposite signs
    "a*b + a*c -> a*(b + c)",
    "a*b - a*c -> a*(b - c)",
    "a - a*b -> a*(1 - b)",
    "a - a/b -> a*(1 - 1/b)",
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

ACCURATE = Rules(
    # conjugates: (r + a)*(r - a) = b**2 for r = hypot(b, a), = b for r = sqrt(b + a**2)
    "a + hypot(b, a) -> where(a < 0, b*(b/(hypot(b, a) - a)), a + hypot(b, a))",
    "hypot(b, a) - a -> where(a > 0, b*(b/(hypot(b, a) + a)), hypot(b, a) - a)",
    "1 + a/hypot(b, a) -> where(a < 0, b/(hypot(b, a) - a)*(b/hypot(b, a)), 1 + a/hypot(b, a))",
    "1 - a/hypot(b, a) -> where(a > 0, b/(hypot(b, a) + a)*(b/hypot(b, a)), 1 - a/hypot(b, a))",
    "a/hypot(b, a) - 1 -> where(a > 0, -b/(hypot(b, a) + a)*(b/hypot(b, a)), a/hypot(b, a) - 1)",
    "a + sqrt(b + a**2) -> where(a < 0, b/(sqrt(b + a**2) - a), a + sqrt(b + a**2))",
    "sqrt(b + a**2) - a -> where(a > 0, b/(sqrt(b + a**2) + a), sqrt(b + a**2) - a)",
    "1 + a/sqrt(b + a**2)"
    " -> where(a < 0, b/(sqrt(b + a**2) - a)/sqrt(b + a**2), 1 + a/sqrt(b + a**2))",
    "1 - a/sqrt(b + a**2)"
    " -> where(a > 0, b/(sqrt(b + a**2) + a)/sqrt(b + a**2), 1 - a/sqrt(b + a**2))",
    "a/sqrt(b + a**2) - 1"
    " -> where(a > 0, -b/(sqrt(b + a**2) + a)/sqrt(b + a**2), a/sqrt(b + a**2) - 1)",
    "sqrt(a) - sqrt(b) -> (a - b)/(sqrt(a) + sqrt(b))",
    # the entropy of a logistic variable, which is even
    "a*sigmoid(a) - softplus(a) -> -(abs(a)*sigmoid(-abs(a)) + softplus(-abs(a)))",
    "b*sigmoid(a*b)/a - softplus(a*b)/a/a"
    " -> -(abs(a*b)*sigmoid(-abs(a*b)) + softplus(-abs(a*b)))/a/a",
    # differences of nearly equal values
    "exp(a) - exp(b) -> exp(b)*expm1(a - b)",
    "cosh(a) - 1 -> 2*sinh(a/2)**2",
    "1 - cosh(a) -> -2*sinh(a/2)**2",
    "cos(a) - 1 -> -2*sin(a/2)**2",
    "1 - cos(a) -> 2*sin(a/2)**2",
    "sigmoid(a) - 0.5 -> tanh(a/2)/2",
    "0.5 - sigmoid(a) -> -tanh(a/2)/2",
)
"""Forms of a sum or a difference that are tried where its terms cancel."""

_THRESHOLDS = (LARGEST, 2.0**60, 2.0**30, 2.0**20, 1024.0, 80.0, 40.0, 16.0)
_GATES = (-1.5, 0.5)  # what one input is while the other one runs along a ray
_FACTORS = (1.0, -1.0, 0.4375, 0.0)  # of the parameters' initial values
_ROUNDS = 4
_LARGEST_FORM = 200  # nodes; an operation over more of them is left as it is
_LARGEST_PROGRAM = 2_000  # nodes; a larger one is not measured at all
_BUDGET = 20_000  # nodes that the repairs of one expression may look at
_SETTLED = 8  # points that must agree for a value to count as the limit
_GROWS = 2.0**_SETTLED  # times, over those points, what grows to infinity
_NEGLIGIBLE = 1e-30
_BITS = 24  # of a float32
_BETTER = 0.5  # bits fewer that a form must lose


def guard(expressions: Sequence[Expression]) -> list[Expression]:
    """The expressions with guards where float32 needs them; they compute the same functions."""
    nodes = {node for expression in expressions for node in expression.postorder()}
    leaves = frozenset(node for node in nodes if isinstance(node, Input | Parameter))
    if len(nodes) > _LARGEST_PROGRAM or not any(isinstance(leaf, Input) for leaf in leaves):
        return list(expressions)
    trial = _Trial(leaves)
    with np.errstate(all="ignore"):
        return [
            _with_limits(trial, _guarded(trial, _accurate(trial, expression)))
            for expression in expressions
        ]


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

    @cached_property
    def vanishing(self) -> Array:
        """On which rays the parameters are 0."""
        ours = [leaf for leaf in self.leaves if isinstance(leaf, Parameter)]
        zero = [self.points[leaf][:, 0] == 0 for leaf in ours]
        return np.asarray(np.any([np.zeros(self.shape[0], bool), *zero], axis=0))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Rays and points on each."""
        shape: tuple[int, ...] = next(iter(self.points.values())).shape
        return shape

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
        values = np.broadcast_to(self.value(root, single=False), self.shape).copy()
        for row in values:
            _continue(row)
        values[self.vanishing, -1] = np.nan  # 0 times infinity
        values[np.abs(values) > LARGEST] *= np.inf
        return values

    def lost(self, node: Expression, expected: Array) -> Array:
        """Where float32 has no value, or infinity, for something that it could hold."""
        values = self.value(node, single=True)
        missing = np.isfinite(expected) & ~np.isfinite(values)
        return np.asarray(missing | (np.isinf(expected) & np.isnan(values)))

    def wrong(self, node: Expression, expected: Array) -> Array:
        """Where float32, or float64, has a value that is not even roughly right."""
        found = np.zeros(self.shape, bool)
        for single in (True, False):
            values = np.array(np.broadcast_to(self.value(node, single), self.shape))
            values[np.abs(values) > LARGEST] *= np.inf
            error = np.abs(values - expected)
            found |= np.isfinite(expected) & (error > 0.1 * np.abs(expected) + _NEGLIGIBLE)
            found |= np.isinf(expected) & (values != expected) & ~np.isnan(values)
        return found

    def bits_lost(self, node: Expression, reference: Expression) -> float:
        """How many bits float32 gets wrong, on the average, where the reference is normal."""
        exact = np.broadcast_to(self.value(reference, single=False), self.shape)
        counts = (np.abs(exact) > _SMALLEST) & (np.abs(exact) <= LARGEST)
        if not counts.any():
            return 0.0
        error = np.abs(self.value(node, single=True) - exact) / np.abs(exact)
        error = np.where(np.isnan(error), 1.0, np.minimum(error, 1.0))[counts]
        return float(np.log2(1 + error * 2.0**_BITS).mean())


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


def _accurate(trial: _Trial, root: Expression) -> Expression:
    """An expression, with the sums in other forms whose terms cancel."""

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        best = node.with_arguments(arguments)
        for form in ACCURATE.results(best, CLEAN):
            lost = trial.bits_lost(form, form) + _BETTER
            if lost < min(trial.bits_lost(best, form), trial.bits_lost(best, best) + _BETTER):
                best = form
        return best

    return root.fold(visit)


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


def _with_limits(trial: _Trial, root: Expression) -> Expression:
    """An expression, with its limit where an input is infinite and it has another value there."""
    exact = np.broadcast_to(trial.value(root, single=False), trial.shape)
    found = np.broadcast_to(trial.value(root, single=True), trial.shape)[:, -1]
    limits = np.array([_limit(row[:-1]) for row in exact])
    weights = [leaf for leaf in root.parameters if leaf.name.startswith("∂")]
    for leaf in root.inputs:
        for sign, compare in ((1, "gt"), (-1, "lt")):
            here = (trial.points[leaf][:, -1] == sign * np.inf) & ~trial.vanishing
            limit = limits[here][0]
            if np.all(found[here] == np.float32(limit)) or np.any(limits[here] != limit):
                continue
            if limit and len(weights) > 1:
                continue  # of a sum of products
            end: Expression = Number(float(limit)) if np.isfinite(limit) else leaf
            end = -end if np.isinf(limit) and np.sign(limit) != sign else end
            end = CLEAN.build("mul", end, weights[0]) if limit and weights else end
            beyond = call(compare, leaf, Number(sign * LARGEST))
            root = call("where", beyond, end, root)
    return root


def _limit(values: Array) -> float:
    """What values at ever larger x converge to: a constant, 0 or infinity; nan if nothing shows."""
    known = values
    if np.isnan(values[-1]):  # what overflowed, but not what left the domain
        known = values[: len(values) - int(np.argmin(np.isnan(values[::-1])))]
        if not np.abs(known[-1]) > LARGEST:
            return float("nan")
    last = known[-_SETTLED:]
    sizes = np.abs(last)
    if len(last) < _SETTLED:
        return float("nan")
    if np.all(last == last[-1]):
        return float(last[-1])
    if np.all(sizes[1:] < sizes[:-1]) and sizes[-1] < sizes[0] / _GROWS:
        return 0.0
    grows = np.all(sizes[1:] > sizes[:-1]) and sizes[-1] > sizes[0] * _GROWS
    if grows and np.all(np.sign(last) == np.sign(last[0])):
        return float(np.sign(last[0]) * np.inf)
    return float("nan")


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
            if (wrong & ~was_wrong).any():
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
        for below, above in ((low, high), (low, False), (False, high)):
            held: Expression = leaf
            if below:
                held = call("max", held, Number(-threshold))
            if above:
                held = call("min", held, Number(threshold))
            if held is not leaf:
                yield node.substitute({leaf: held, held: held})
            if not (low and high):
                break  # one end fails
