"""What the code of an activation is worth: its errors, measured against many digits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from actsearch.codegen.gradients import gradient
from actsearch.codegen.module import compile
from actsearch.codegen.probes import Array, magnitudes, scale
from actsearch.codegen.targets import PRECISIONS
from actsearch.grammar.errors import UsageError, did_you_mean
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import as_expression

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")
}
DIGITS = 110
MORE_DIGITS = 300  # where the formula itself may cancel that many
_DENSITY = 6  # points an octave
_GROUP = 16  # neighbours computed together: a target may treat a whole block by its hardest number
_COPIES = 512  # of a group, in a large tensor
_LARGE = 1 << 18  # elements of one whose parameters are shared
_SIXTH = 6
_OTHER = 1.5  # the second input of a gated activation, while the first takes every size
_LARGEST = 2.0**64  # of |x| in float64, beyond which sines of many digits take long


@dataclass(frozen=True)
class Error:
    """How far one result is off.

    Attributes:
        of: "value", or the input or parameter that it is the gradient for.
        ulps: the largest error, in units in the last place. Within an octave of a root of the
            function the unit is that of the largest value there, so that it is an absolute error.
        at: the input where that is.
        median: of the errors.
        lost: points at which the result is not finite although the exact one is, and fits.
        points: at which it was measured.
    """

    of: str
    ulps: float
    at: float
    median: float
    lost: int
    points: int


@dataclass(frozen=True)
class Certificate:
    """Measured errors of an activation's code; `str` is a table for people.

    Attributes:
        expression, target, precision, dtype: what was measured.
        errors: of the value and of every gradient.
    """

    expression: str
    target: str
    precision: str
    dtype: str
    errors: tuple[Error, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"{self.expression} on {self.target}, {self.precision}, {self.dtype}"
        rows = [("result", "max ulp", "at x", "median", "lost", "points")]
        rows += [
            (
                error.of if error.of == "value" else f"d/d{error.of}",
                f"{error.ulps:.2f}",
                f"{error.at:.6g}",
                f"{error.median:.2f}",
                str(error.lost),
                str(error.points),
            )
            for error in self.errors
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )
        return "\n".join([head, *lines])


def certificate(
    expression: str | Expression,
    target: str = "auto",
    precision: str = PRECISIONS[0],
    dtype: str = "float32",
) -> Certificate:
    """Measure an activation's code against the formula and its derivatives in 110 digits.

    Inputs are numbers of every size and both signs, about six of them for each power of 2, exactly
    as the type holds them; parameters have their initial values. A gated activation is measured
    along each input in turn. Of small and large tensors, which a target may treat differently, the
    one with the larger error counts; gradients for parameters, which are sums, are measured at a
    sixth of the numbers in large ones.

    Args:
        expression: an expression, or its text.
        target: a target that computes; "auto" for what `compile` takes.
        precision: as for `compile`.
        dtype: "float32", "float64", "float16" or "bfloat16".

    Raises:
        ExpressionError: the text is no expression.
        UnknownTarget: there is no such target.
        UsageError: no such type or precision.
    """
    parsed = as_expression(expression)
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES)
        raise UsageError(f"no type {dtype!r}; there are {', '.join(DTYPES)}{hint}")
    module = compile(_one_parameter_an_element(parsed), target, _GROUP, precision=precision)
    values = {p.name: float(torch.tensor(p.initial)) for p in parsed.parameters}  # as it holds them
    formulas = {"value": parsed, **gradient(parsed)}
    parts: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in formulas}
    sizes = (1,) if parsed.parameters else (1, _COPIES)
    is_summed = parsed.parameters and "gate" not in {i.name for i in parsed.inputs}
    whole = compile(parsed, target, 1, precision=precision) if is_summed else None
    for inputs in _rays(parsed, dtype):
        runs = [_computed(module, inputs, DTYPES[dtype], copies) for copies in sizes]
        if whole is not None:
            runs.append(_summed(whole, inputs["x"], DTYPES[dtype], runs[0]))
        point = next(ray for ray in inputs.values() if ray[0] != ray[-1])
        for name, formula in formulas.items():
            known = {"x"} | {i.name for i in formula.inputs} | {p.name for p in formula.parameters}
            given = {k: v for k, v in (values | inputs).items() if k in known}
            exact = evaluate(formula, given, backend="mpmath", digits=DIGITS)
            found = _farthest([run[name] for run in runs], exact)
            doubtful = _doubtful(found, exact, dtype)
            again = {k: v[doubtful] if isinstance(v, np.ndarray) else v for k, v in given.items()}
            exact[doubtful] = evaluate(formula, again, backend="mpmath", digits=MORE_DIGITS)
            parts[name].append((point, found, exact))
    errors = tuple(_error(name, measured, dtype) for name, measured in parts.items())
    return Certificate(str(parsed), module.backend, precision, dtype, errors)


def _one_parameter_an_element(expression: Expression) -> Expression:
    """The same function with parameters per channel, so that gradients are not summed."""
    return expression.substitute(
        {p: Parameter(p.name, p.initial, "per channel", -1) for p in expression.parameters}
    )


def _rays(expression: Expression, dtype: str) -> Iterator[dict[str, Array]]:
    """Inputs by name: one of them takes every size of one sign, in ascending order of size."""
    kind = DTYPES[dtype]
    facts = torch.finfo(kind)
    smallest = math.log2(facts.smallest_normal) + math.log2(facts.eps)
    largest = math.log2(min(facts.max, _LARGEST if dtype == "float64" else facts.max))
    sizes = torch.from_numpy(magnitudes((max(smallest, -300.0), largest), _DENSITY))
    sizes = sizes.clamp(max=facts.max).to(kind).double()[: len(sizes) // _GROUP * _GROUP]
    names = [node.name for node in expression.inputs] or ["x"]
    for name in names:
        for sign in (1.0, -1.0):
            others = {other: np.full(len(sizes), _OTHER) for other in {"x", *names} - {name}}
            yield {name: sign * sizes.numpy(), **others}


def _computed(
    module: Any, inputs: Mapping[str, Array], dtype: torch.dtype, copies: int
) -> dict[str, Array]:
    """The value and all gradients, in float64, from tensors of so many copies of each group."""
    names = ["x", "gate"] if "gate" in inputs else ["x"]
    if dtype == torch.float64:
        module.double()
    variables = [*names, *(parameter.name for parameter in module.parameters_config.values())]
    found: dict[str, list[Array]] = {name: [] for name in ("value", *variables)}
    whole = [torch.from_numpy(inputs[name]).to(dtype) for name in names]
    for begin in range(0, len(whole[0]), _GROUP):
        groups = [tensor[begin : begin + _GROUP] for tensor in whole]
        tensors = [group.repeat(copies, 1).requires_grad_() for group in groups]
        leaves = [*tensors, *module.parameters()]
        value = module(*tensors)
        ones = torch.ones_like(value)
        slopes = torch.autograd.grad(value, leaves, ones, materialize_grads=True)
        for name, tensor in zip(found, [value.detach(), *slopes], strict=True):
            found[name].append(tensor.double().numpy().reshape(-1, len(groups[0]))[0])
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _summed(
    module: Any, x: Array, dtype: torch.dtype, known: Mapping[str, Array]
) -> dict[str, Array]:
    """The same from one large tensor, with parameters that all of its elements share.

    What a parameter gets from one number is its gradient where dy is 0 for all others.
    """
    module.to(dtype)
    names = [parameter.name for parameter in module.parameters_config.values()]
    copies = -(-_LARGE // len(x))
    tensor = torch.from_numpy(x).to(dtype).repeat(copies, 1).requires_grad_()
    value = module(tensor)
    (slope,) = torch.autograd.grad(value, tensor, torch.ones_like(value), retain_graph=True)
    found = {name: values.copy() for name, values in known.items()}
    found |= {"value": value.detach()[0].double().numpy(), "x": slope[0].double().numpy()}
    is_finite = np.logical_and.reduce([np.isfinite(values) for values in known.values()])
    tensor = torch.where(torch.from_numpy(is_finite), tensor.detach(), 1).requires_grad_()
    value = module(tensor)
    for place in np.flatnonzero(is_finite)[::_SIXTH].tolist():
        dy = torch.zeros_like(value)
        dy[0, place] = 1
        slopes = torch.autograd.grad(value, list(module.parameters()), dy, retain_graph=True)
        for name, sums in zip(names, slopes, strict=True):
            found[name][place] = sums.double().item()
    return found


def _farthest(found: Sequence[Array], exact: Array) -> Array:
    """At each point the one of some results that is off most."""
    nearest = exact.astype(np.float64)
    with np.errstate(all="ignore"):
        errors = np.stack([np.abs(values - nearest) for values in found])
    worst: Array = np.nan_to_num(errors, nan=np.inf).argmax(axis=0)
    return np.asarray(np.stack(found)[worst, np.arange(len(exact))])


def _doubtful(found: Array, exact: Array, dtype: str) -> Array:
    """Where code and formula differ so much that the digits of the formula may be too few."""
    nearest = exact.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(found - nearest) <= 2 * torch.finfo(DTYPES[dtype]).eps * np.abs(nearest)
    return np.asarray(~near)


def _error(name: str, measured: list[tuple[Array, Array, Array]], dtype: str) -> Error:
    facts = torch.finfo(DTYPES[dtype])
    points, errors = [], []
    lost = 0
    for point, found, exact in measured:
        nearest = np.array([float(value) for value in exact])
        rest = np.array([_rest(value, near) for value, near in zip(exact, nearest, strict=True)])
        fits = np.abs(nearest) <= facts.max
        lost += int((fits & ~np.isfinite(found)).sum())
        size = scale(nearest, np.where(fits, np.abs(nearest), 0.0), _DENSITY)
        size = np.maximum(size, facts.smallest_normal)
        unit = 2.0 ** np.floor(np.log2(size)) * facts.eps
        counts = fits & np.isfinite(found)
        with np.errstate(all="ignore"):
            errors.append((np.abs(found - nearest - rest) / unit)[counts])
        points.append(point[counts])
    every, where = np.concatenate(errors), np.concatenate(points)
    if not len(every):
        return Error(name, math.nan, math.nan, math.nan, lost, 0)
    worst = int(every.argmax())
    return Error(
        name, float(every[worst]), float(where[worst]), float(np.median(every)), lost, len(every)
    )


def _rest(exact: Any, nearest: float) -> float:
    """What a float64 lacks of a number of many digits."""
    return float(exact - nearest) if math.isfinite(nearest) else 0.0
