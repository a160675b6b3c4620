"""No value is lost: no NaN or infinity where the exact result is finite and fits into float32.

And where an input is infinite the result is the limit. `python -m tests.codegen.lost_values` checks
the target `cpu` over the one-unit space, 6,250 expressions, in half an hour on one core; the tests
check a sample.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch

from actsearch.codegen import gradient
from actsearch.codegen.programs import Program, program
from actsearch.codegen.targets.cpu import build, kernels
from actsearch.grammar import Expression, Parameter, parse
from actsearch.grammar.evaluate import evaluate, evaluate_numpy
from actsearch.grammar.search_space import space

DIGITS = 150
FACTORS = (1.0, -1.0, 0.4375, 2.0, 0.0)  # of the parameters' initial values
LIMITS_AT = (1.0, -1.0, 0.4375)  # of these; 0 times infinity has no limit
LARGEST = float(np.finfo(np.float32).max)
GROUP = 16  # a group is computed in float64 as a whole
BATCH = 64  # expressions compiled in one go
EXPONENTIAL = [150 * 1.27**k for k in range(13)]  # exp(exp(x)) has digits here
ALGEBRAIC = [2.0 ** (12 + 4 * k) for k in range(13)]  # x/(x + 1000) is 1 here
GROWN, NEGLIGIBLE = 1e30, 1e-30  # what is larger will be infinite; what is smaller, 0
CLOSE = 1e-5  # how near, relatively, the last two values there are where there is a limit

_SMALL = [0.0, 1.4e-45, 1e-40, 2.0**-126, 1e-30, 1e-20, 1e-10, 1e-7, 1e-6, 1e-3, 0.03]
_MIDDLE = [0.25, 0.5, 0.7, 1, 1.2, 1.6, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.6, 7, 8, 9, 9.2, 9.4]
_ENDS = [10, 12, 13, 15, 17, 20, 25, 30, 35, 40, 43, 44, 44.5, 46, 50, 60, 70, 80, 85, 87, 88, 88.4]
_ENDS += [88.7, 88.8, 89, 89.3, 90, 92, 95, 100, 103, 104, 105, 110, 150, 170, 177, 178, 180, 190]
_ENDS += [200, 210, 250, 300, 400, 500, 700, 709, 710, 745, 800, 1000, 1400, 1500, 2000]
_LARGE = [1e4, 3e4, 1e5, 1e6, 1e7, 1e8, 1e10, 1e12, 6.9e12, 7e12, 1e15, 1e18, 1.8e19, 1.9e19, 1e20]
_LARGE += [1e25, 1e30, 1e35, 1e37, 1.2e38, 1.7e38, 2e38, 3e38, LARGEST]


@dataclass(frozen=True)
class Loss:
    """A result that is not finite although the exact one is, and fits.

    Attributes:
        expression: the activation.
        of: "value", or the variable that it is the gradient for.
        values: of the input and the parameters.
        found: what was computed.
        exact: what it should be.
    """

    expression: Expression
    of: str
    values: dict[str, float]
    found: float
    exact: float


def points() -> np.ndarray:
    """Inputs of every size and both signs, a whole number of groups."""
    sizes = np.array([*_SMALL, *_MIDDLE, *_ENDS, *_LARGE], np.float32)
    both = np.concatenate([sizes, -sizes])
    return np.pad(both, (0, -len(both) % GROUP), "edge")


def losses(texts: Iterable[str], factors: Sequence[float] = FACTORS) -> Iterator[Loss]:
    """What the target `cpu` loses of value and gradients of some activations, and their limits."""
    expressions = [_one_parameter_an_element(parse(text)) for text in texts]
    programs = [program(expression) for expression in expressions]
    _compile(programs)
    x = torch.from_numpy(points())
    for compiled in programs:
        function = build(compiled)
        formulas = {"value": compiled.expression, **gradient(compiled.expression)}
        for factor in factors if compiled.parameters else factors[:1]:
            held = {p.name: float(np.float32(p.initial * factor)) for p in compiled.parameters}
            found = _computed(function, compiled, x, held)
            for of, formula in formulas.items():
                yield from _losses(compiled.expression, of, formula, found[of], held)
            if factor in LIMITS_AT:
                ends = torch.tensor([np.inf, -np.inf, LARGEST, -LARGEST]).repeat_interleave(GROUP)
                found = _computed(function, compiled, ends, held)
                for of, formula in formulas.items():
                    there = found[of][::GROUP]
                    yield from _wrong_limits(compiled.expression, of, formula, there, held)


def _one_parameter_an_element(expression: Expression) -> Expression:
    """The same function with parameters per channel, so that gradients are not summed."""
    return expression.substitute(
        {p: Parameter(p.name, p.initial, "per channel", -1) for p in expression.parameters}
    )


def _compile(programs: Sequence[Program]) -> None:
    """In one go, which is faster than one by one where they are needed."""
    numbered = dict(zip(kernels.load(programs, "accurate"), programs, strict=True))
    variants = [(routine, type_) for routine in ("forward", "backward") for type_ in ("f32", "f64")]
    kernels.compiled(
        [
            kernels.Piece(number, compiled, "accurate", variant)
            for number, compiled in numbered.items()
            for variant in variants
        ]
    )


def _computed(
    function: Any, compiled: Program, x: torch.Tensor, held: dict[str, float]
) -> dict[str, np.ndarray]:
    """Value and gradients, group by group."""
    parameters = [torch.full((GROUP,), held[p.name]) for p in compiled.parameters]
    names = ["value", *(variable.name for variable in compiled.variables)]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for group in x.split(GROUP):
        results = [function(group, *parameters)]
        results += function.gradients(torch.ones_like(group), group, *parameters)
        for name, result in zip(names, results, strict=True):
            found[name].append(result.numpy())
    return {name: np.concatenate(groups) for name, groups in found.items()}


def _losses(
    expression: Expression, of: str, formula: Expression, found: np.ndarray, held: dict[str, float]
) -> Iterator[Loss]:
    x = points().astype(np.float64)
    names = {"x", *(p.name for p in formula.parameters)}
    given = {name: value for name, value in ({"x": x} | held).items() if name in names}
    nearest = evaluate_numpy(formula, given)  # where it is finite it is right enough for this
    doubtful = ~np.isfinite(found) & (~np.isfinite(nearest) | (np.abs(nearest) <= LARGEST))
    given["x"] = x[doubtful]
    exact = evaluate(formula, given, backend="mpmath", digits=DIGITS).astype(np.float64)
    for at, value, right in zip(x[doubtful], found[doubtful], exact, strict=True):
        if abs(right) <= LARGEST:
            yield Loss(expression, of, {"x": at, **held}, float(value), float(right))


def _wrong_limits(
    expression: Expression, of: str, formula: Expression, found: np.ndarray, held: dict[str, float]
) -> Iterator[Loss]:
    """Where results at x = inf and x = -inf are not what values at ever larger x converge to.

    Nor what the result at the largest number is, or grows on from: in floats x + 1 - x has other
    limits than in R, and max(x, x + 1) is a tie.
    """
    given = {p.name: held[p.name] for p in formula.parameters}
    infinite, large = found.astype(np.float64).reshape(2, 2)
    for sign, value, before in zip((1.0, -1.0), infinite, large, strict=True):
        goes_on = before if abs(before) < GROWN else np.copysign(np.inf, before)
        if value in (before, goes_on):
            continue
        right = None
        for sizes in (EXPONENTIAL, ALGEBRAIC):
            at = given | {"x": sign * np.array(sizes)}
            exact = list(
                np.broadcast_to(evaluate(formula, at, backend="mpmath", digits=DIGITS), len(sizes))
            )
            if right is None:
                right = limit(exact)
            elif limit(exact) is None and NEGLIGIBLE < max(map(abs, exact)) < GROWN:
                right = None  # it oscillates farther out
        if right is None:
            continue
        right = np.copysign(np.inf, right) if abs(right) > LARGEST else right
        if not np.isclose(value, right, rtol=10 * CLOSE, atol=NEGLIGIBLE):
            yield Loss(expression, of, {"x": sign * np.inf, **held}, float(value), right)


def limit(values: Sequence[Any]) -> float | None:
    """What exact values at ever larger x converge to, 0 and infinity included, if it shows."""
    if not all(map(mpmath.isfinite, values)):
        return None
    if all(value == values[-1] for value in values):
        return float(values[-1])
    changes = [abs(b - a) for a, b in itertools.pairwise(values)]
    settles = all(b <= 0.9 * a for a, b in itertools.pairwise(changes))
    if settles and changes[-1] <= CLOSE * abs(values[-1]):
        return float(values[-1])
    if not (all(value > 0 for value in values) or all(value < 0 for value in values)):
        return None
    sizes = [abs(value) for value in values]
    if _grows([1 / size for size in sizes]):
        return 0.0
    return float(mpmath.sign(values[-1])) * np.inf if _grows(sizes) else None


def _grows(sizes: Sequence[Any]) -> bool:
    """At least as a logarithm does."""
    steps = [b - a for a, b in itertools.pairwise(sizes)]
    return steps[0] > 0 and all(b >= 0.95 * a for a, b in itertools.pairwise(steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="check each n-th expression")
    parser.add_argument("--first", type=int, default=0, help="begin with this one")
    parser.add_argument("--last", type=int, help="end before this one")
    chosen = parser.parse_args()
    texts = list(space("swish", units=1))[chosen.first : chosen.last : chosen.every]
    lost = 0
    for first in range(0, len(texts), BATCH):
        for loss in losses(texts[first : first + BATCH]):
            lost += 1
            print(loss)
        done = min(first + BATCH, len(texts))
        print(f"{done} of {len(texts)} checked, {lost} values lost", flush=True)


if __name__ == "__main__":
    main()
