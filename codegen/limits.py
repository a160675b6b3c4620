"""Limits: what an expression is where an input is infinite, found by measurement.

Formulas give NaN there, as inf - inf, where functions converge: to a number or to infinity, which
is written down, or to something that depends on parameters, which values at the largest number
tell.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from actsearch.codegen.gradients import CLEAN
from actsearch.codegen.trials import LARGEST, SETTLED, THRESHOLDS, Array, Clamp, Trial, one_sign
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.expression import Apply, Expression, Number, Parameter, call
from actsearch.grammar.operators import PERIODIC

_GROWS = 2.0**SETTLED  # times, over those points, what grows to infinity
_GROWN = 2.0**64  # a value at the largest number that has grown and will go on
_FASTER = 1.5  # times as large as at a smaller input is what will be infinite, or will have been 0
_RESIDUE = 2.0**-40  # what terms of float64 that cancel may leave
_DIGITS = 60  # to tell a limit from a residue
_OSCILLATING = PERIODIC | {"sinc", "j1"}
_FAR = -2  # up to which thresholds a sign there may stand for that at infinity
_STEADY = 0.99  # of the step before, by which values grow without bound


def with_limits(trial: Trial, roots: Sequence[Expression]) -> list[Expression]:
    """Expressions, with their limits where an input is infinite and they are something else."""
    found = list(roots)
    for leaf in trial.inputs:
        for clamp in (Clamp(LARGEST, False, True), Clamp(LARGEST, True, False)):
            limited = [_with_limit(trial, root, leaf, clamp) for root in found]
            changed = [root for root, old in zip(limited, found, strict=True) if root is not old]
            if any(_weights(root) and clamp.of(leaf) in root.postorder() for root in changed):
                for k, root in enumerate(limited):  # what gradients share stays shared
                    if root is found[k] and _weights(root) and _holds(trial, root, leaf, clamp):
                        limited[k] = clamp.within(root, leaf)
            found = limited
    return found


def _with_limit(trial: Trial, root: Expression, leaf: Expression, clamp: Clamp) -> Expression:
    """An expression with its limit at one end of one input.

    The limit is a number or infinity, which is written down; or it depends on parameters. Then it
    is taken from the value at the largest number, which is multiplied by infinity where it grows;
    or, where terms overflow there, from the value at a smaller one.
    """
    sign = 1 if clamp.above else -1
    here = (trial.points[leaf][:, -1] == sign * np.inf) & ~trial.vanishing
    found = np.broadcast_to(trial.value(root, single=True), trial.shape)[here, -1]
    exact = np.broadcast_to(trial.value(root, single=False), trial.shape)[here]
    limits = np.array([_limit(row[:-1]) for row in exact])
    small = np.flatnonzero((np.abs(limits) < _RESIDUE) & (limits != 0))
    residues = [k for k in small if _is_residue(trial, root, int(np.flatnonzero(here)[k]))]
    limits[residues] = exact[residues] = 0.0
    limits = limits.astype(np.float32)
    known = ~np.isnan(limits)
    if np.all((found == limits)[known]):
        return root
    weights = _weights(root)
    limit = float(limits[0])
    beyond = call("gt" if clamp.above else "lt", leaf, Number(sign * LARGEST))
    written = root
    if np.all(limits == limit) and not (limit and len(weights) > 1):
        end: Expression = Number(float(_limit(exact[0, :-1]))) if np.isfinite(limit) else leaf
        end = -end if np.isinf(limit) and np.sign(limit) != sign else end
        end = CLEAN.build("mul", end, weights[0]) if limit and weights else end
        written = call("where", beyond, end, root)
        is_all = np.isfinite(limit) or len(weights) == len(root.parameters)
        if is_all and not (residues and len(weights) < len(root.parameters)):
            return written
    there = trial.held(root, leaf, clamp, single=True)[here, -1]
    held = clamp.within(root, leaf)
    grown = call("mul", held, leaf if clamp.above else -leaf)
    large = call("gt", call("abs", held), Number(_GROWN))
    for values, form in (
        (there, held),
        (there * np.inf, call("where", beyond, grown, held)),
        (
            np.where(np.abs(there) > _GROWN, there * np.inf, there),
            call("where", beyond, call("where", large, grown, held), held),
        ),
    ):
        if np.all((values == limits)[known] | (np.abs(values - limits) <= 1e-6)[known]):
            return form
    for threshold in THRESHOLDS[1:_FAR]:
        there = trial.held(root, leaf, replace(clamp, threshold=threshold), single=True)[here, -1]
        nearer = root.substitute({leaf: call("where", beyond, Number(sign * threshold), leaf)})
        grown = call("mul", nearer, leaf if clamp.above else -leaf)
        if np.all((there * np.inf == limits)[known]):
            return call("where", beyond, grown, nearer)
        if not known.all():
            continue
        less = replace(clamp, threshold=THRESHOLDS[THRESHOLDS.index(threshold) + 1])
        before = np.abs(trial.held(root, leaf, less, single=True)[here, -1])
        size = np.abs(there)
        values = np.where(size > _FASTER * before, there * np.inf, there)
        values = np.where(_FASTER * size < before, 0.0, values)
        if np.all((values == limits) | (np.abs(values - limits) <= 1e-5 * np.abs(limits))):
            nearest = root.substitute(
                {leaf: call("where", beyond, Number(sign * less.threshold), leaf)}
            )
            size, before = call("abs", nearer), call("abs", nearest)
            is_small = call("lt", call("mul", Number(_FASTER), size), before)
            is_large = call("gt", size, call("mul", Number(_FASTER), before))
            end = call("where", is_large, grown, call("where", is_small, Number(0), nearer))
            return call("where", beyond, end, nearer)
    return written


def _is_residue(trial: Trial, root: Expression, ray: int) -> bool:
    """Whether only rounding keeps an expression from 0 at the largest number of a ray.

    Not if something oscillates there: all digits of its argument would be needed to tell.
    """
    for node in root.postorder():
        if isinstance(node, Apply) and node.operator.name in _OSCILLATING:
            argument = np.broadcast_to(trial.value(node.arguments[0], single=False), trial.shape)
            if not abs(argument[ray, -2]) < 1 / _RESIDUE:
                return False
    names = {leaf: leaf.name for leaf in root.inputs} | {p: p.name for p in root.parameters}
    at = {name: float(trial.points[leaf][ray, -2]) for leaf, name in names.items()}
    value = evaluate(root, at, backend="mpmath", digits=_DIGITS)[()]
    return bool(abs(value) < 10.0 ** -(_DIGITS // 2))


def _weights(root: Expression) -> list[Parameter]:
    """What a gradient is multiplied by."""
    return [leaf for leaf in root.parameters if leaf.name.startswith("∂")]


def _holds(trial: Trial, root: Expression, leaf: Expression, clamp: Clamp) -> bool:
    """Whether it is all the same to an expression that an input is held."""
    values = np.broadcast_to(trial.value(root, single=True), trial.shape)
    held = trial.held(root, leaf, clamp, single=True)
    return np.array_equal(values, np.broadcast_to(held, trial.shape), equal_nan=True)


def _limit(values: Array) -> float:
    """What values at ever larger x converge to: a constant, 0 or infinity; nan if nothing shows."""
    known = values
    if np.isnan(values[-SETTLED:]).any():  # what overflowed, but not what left the domain
        known = values[: len(values) - int(np.argmax(np.isfinite(values[::-1])))]
        if not np.abs(known[-1]) > LARGEST:
            return math.nan
    last = known[-SETTLED:].tolist()
    sizes = [abs(value) for value in last]
    if len(last) < SETTLED:
        return math.nan
    end, near = last[-1], 1e-12 * sizes[-1]
    if all(value == end or abs(value - end) <= near < math.inf for value in last):
        return end  # type: ignore[no-any-return]
    # each beside the last but one: a factor may oscillate
    if all(map(operator.lt, sizes[2:], sizes)):
        if sizes[-1] < sizes[0] / _GROWS or _is_steady([1 / size for size in sizes]):
            return 0.0
        return math.nan
    grows = sizes[-1] > sizes[0] * _GROWS or _is_steady(sizes)
    if grows and all(map(operator.gt, sizes[2:], sizes)) and one_sign(last):
        return math.copysign(math.inf, last[0])
    return math.nan


def _is_steady(sizes: Sequence[float]) -> bool:
    """Whether values grow with each octave of x but the last, as a logarithm does."""
    steps = [b - a for a, b in itertools.pairwise(sizes[:-1])]
    return all(b >= _STEADY * a > 0 for a, b in itertools.pairwise(steps))
