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

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from actsearch.codegen.gradients import CLEAN
from actsearch.codegen.limits import with_limits
from actsearch.codegen.rewriting import Rules
from actsearch.codegen.trials import (
    LARGEST,
    THRESHOLDS,
    Array,
    Clamp,
    Trial,
    lost_values,
    rounded,
    wrong_values,
)
from actsearch.grammar.expression import Apply, Expression, Input, Number, Parameter, call
from actsearch.grammar.operators import COMPARISONS

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
    # sigmoid(b) = exp(-softplus(-b)), which vanishes as fast as an exponential grows
    "exp(a)*sigmoid(b) -> exp(a - softplus(-b))",
    "sinh(a)*sigmoid(b)"
    " -> where(abs(a) < 80, sinh(a)*sigmoid(b), sign(a)*exp(abs(a) - softplus(-b) - log(2)))",
    "cosh(a)*sigmoid(b)"
    " -> where(abs(a) < 80, cosh(a)*sigmoid(b), exp(abs(a) - softplus(-b) - log(2)))",
    "exp(a)*(c*(sigmoid(b)*sigmoid(-b))) -> c*exp(a - softplus(b) - softplus(-b))",
    "sinh(a)*(c*(sigmoid(b)*sigmoid(-b)))"
    " -> where(abs(a) < 80, sinh(a)*(c*(sigmoid(b)*sigmoid(-b))),"
    " sign(a)*c*exp(abs(a) - softplus(b) - softplus(-b) - log(2)))",
    "cosh(a)*(c*(sigmoid(b)*sigmoid(-b)))"
    " -> where(abs(a) < 80, cosh(a)*(c*(sigmoid(b)*sigmoid(-b))),"
    " c*exp(abs(a) - softplus(b) - softplus(-b) - log(2)))",
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

_ROUNDS = 4
_LARGEST_FORM = 200  # nodes; an operation over more of them is left as it is
_LARGEST_PROGRAM = 2_000  # nodes; a larger one is not measured at all
_BUDGET = 20_000  # nodes and forms that the repairs of one expression may look at
_BETTER = 0.5  # bits fewer that a form must lose


def guard(expressions: Sequence[Expression]) -> list[Expression]:
    """The expressions with guards where float32 needs them; they compute the same functions."""
    nodes = {node for expression in expressions for node in expression.postorder()}
    leaves = frozenset(node for node in nodes if isinstance(node, Input | Parameter))
    if len(nodes) > _LARGEST_PROGRAM or not any(isinstance(leaf, Input) for leaf in leaves):
        return list(expressions)
    trial = Trial(leaves)
    with np.errstate(all="ignore"):
        repaired = [_guarded(trial, _accurate(trial, expression)) for expression in expressions]
        return with_limits(trial, repaired)


def _accurate(trial: Trial, root: Expression) -> Expression:
    """An expression, with the sums in other forms whose terms cancel."""

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        best = node.with_arguments(arguments)
        for form in ACCURATE.results(best, CLEAN):
            lost = trial.bits_lost(form, form) + _BETTER
            if lost < min(trial.bits_lost(best, form), trial.bits_lost(best, best) + _BETTER):
                best = form
        return best

    return root.fold(visit)


def _guarded(trial: Trial, root: Expression) -> Expression:
    """An expression, with the operations repaired that lose values which it needs."""
    if np.isfinite(trial.value(root, single=True)).all():
        return root
    lost = lost_values(trial.value(root, single=True), trial.expected(root))
    if not lost.any():
        return root
    limit = trial.spent + _BUDGET

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        if not isinstance(node, Apply):
            return node
        built = call(node.operator.name, *arguments)
        if node.operator.name in COMPARISONS or trial.spent > limit:
            return built
        where = lost & ~np.isfinite(trial.value(built, single=True))
        for argument in built.arguments:  # what came in lost was lost before
            where &= ~np.isnan(trial.value(argument, single=True))
        if not where.any():
            return built
        expected = trial.expected(node)
        where &= lost_values(trial.value(built, single=True), expected)
        return _best_form(trial, built, expected, where) if where.any() else built

    return root.fold(visit)


_Form = tuple[Callable[[bool], Array], Callable[[], Expression]]
"""Another form of an operation: its values, in simulated float32 or not, and the form itself."""


def _best_form(trial: Trial, node: Expression, expected: Array, where: Array) -> Expression:
    """The operation, put into forms that lose fewer and fewer values, until none is lost."""
    if node.size > _LARGEST_FORM:
        return node

    for _ in range(_ROUNDS):
        was_lost = lost_values(trial.value(node, single=True), expected)
        if not (was_lost & where).any():
            break
        most = int(was_lost.sum())
        best, score, right = None, (most, 0), None
        for values, form in _forms(trial, node, was_lost & where):
            trial.forms += 1
            lost = int(lost_values(values(True), expected).sum())
            if lost == most or lost > score[0]:
                continue
            if right is None:
                right = ~wrong_values(expected, trial.value(node, True), trial.value(node, False))
            if (right & wrong_values(expected, values(True))).any():
                continue
            wrong = wrong_values(expected, values(True), values(False))
            if (right & wrong).any():
                continue
            if (lost, int(wrong.sum())) < score:
                best, score = form, (lost, int(wrong.sum()))
                if score == (0, 0):
                    break
        if best is None:
            break
        node = best()
    return node


def _forms(trial: Trial, node: Expression, where: Array) -> Iterator[_Form]:
    """Other forms of one operation, cheap ones first."""
    for form in FORMS.results(node, CLEAN):
        yield _written(trial, form)
    if isinstance(node, Apply) and node.operator.name == "mul":
        for place, factor in enumerate(node.arguments):
            for leaf, clamp in _clamps(trial, factor, where, [LARGEST]):
                yield _held_factor(trial, node, place, leaf, clamp)
        for factor in node.arguments:
            zero = Number(0)
            yield _written(trial, call("where", Apply("eq", factor, zero), zero, node))
    for leaf, clamp in _clamps(trial, node, where, THRESHOLDS):
        yield partial(trial.held, node, leaf, clamp), partial(clamp.within, node, leaf)


def _written(trial: Trial, form: Expression) -> _Form:
    return partial(trial.value, form), lambda: form


def _held_factor(
    trial: Trial, node: Expression, place: int, leaf: Expression, clamp: Clamp
) -> _Form:
    """A product, with an input held in one of its factors."""

    def values(single: bool) -> Array:
        left, right = (
            trial.held(factor, leaf, clamp, single) if k == place else trial.value(factor, single)
            for k, factor in enumerate(node.arguments)
        )
        return rounded(left * right) if single else left * right

    def form() -> Expression:
        factors = list(node.arguments)
        factors[place] = clamp.within(factors[place], leaf)
        return call("mul", *factors)

    return values, form


def _clamps(
    trial: Trial, node: Expression, where: Array, thresholds: Sequence[float]
) -> Iterator[tuple[Expression, Clamp]]:
    """The inputs of an operation, held within each threshold at the ends where it fails."""
    ends = [(leaf, trial.points[leaf][where]) for leaf in node.inputs]
    for threshold in thresholds:
        for leaf, failing in ends:
            low, high = bool(failing.min() <= -threshold), bool(failing.max() >= threshold)
            for below, above in ((low, high), (low, False), (False, high)):
                if below or above:
                    yield leaf, Clamp(threshold, below, above)
                if not (low and high):
                    break  # one end fails
