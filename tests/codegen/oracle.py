"""Independent references for codegen: plain PyTorch with its own autograd, and mpmath."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import torch

from actsearch.grammar import Apply, Constant, Expression, Input, Number, Parameter
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.operators import CONSTANTS, OPERATORS


def _j1(a: torch.Tensor) -> torch.Tensor:
    near = a.abs() < 0.3  # sin(a)/a² - cos(a)/a loses digits there; this is its Taylor series
    safe = torch.where(near, 1.0, a)
    terms, term = torch.zeros_like(a), a / 3
    for k in range(1, 12):
        terms = terms + term
        term = term * (-(a**2)) / (2 * k * (2 * k + 3))
    return torch.where(near, terms, torch.sin(safe) / safe**2 - torch.cos(safe) / safe)


def _sinc(a: torch.Tensor) -> torch.Tensor:
    near = a.abs() < 0.3  # the second derivative of sin(a)/a loses digits there
    safe = torch.where(near, 1.0, a)
    terms, term = torch.zeros_like(a), torch.ones_like(a)
    for k in range(1, 12):
        terms = terms + term
        term = term * (-(a**2)) / (2 * k * (2 * k + 1))
    return torch.where(near, terms, torch.sin(safe) / safe)


TORCH: Mapping[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "pow": torch.pow,
    "abs": torch.abs,
    "sign": torch.sign,
    "relu": torch.relu,
    "max": torch.maximum,
    "min": torch.minimum,
    "where": torch.where,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "sqrt": torch.sqrt,
    "cbrt": lambda a: torch.sign(a) * torch.abs(a) ** (1 / 3),
    "hypot": torch.hypot,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinc": _sinc,
    "j1": _j1,
    "i0e": torch.special.i0e,
    "i1e": torch.special.i1e,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "sigmoid": torch.sigmoid,
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "erf": torch.erf,
    "erfc": torch.erfc,
}
assert set(TORCH) == set(OPERATORS)


def torch_value(expression: Expression, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The expression in PyTorch's own operators, with PyTorch's own gradients."""
    like = next(iter(tensors.values()))

    def visit(node: Expression, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if isinstance(node, Apply):
            if node.operator.name == "pow" and isinstance(node.arguments[1], Number):
                return torch.pow(arguments[0], float(node.arguments[1].value))
            return TORCH[node.operator.name](*arguments)
        if isinstance(node, Number):
            return torch.full_like(like, float(node.value))
        if isinstance(node, Constant):
            return torch.full_like(like, CONSTANTS[node.name])
        assert isinstance(node, Input | Parameter)
        if node.name in tensors:
            return tensors[node.name]
        assert isinstance(node, Parameter)
        return torch.full_like(like, node.initial)

    return expression.fold(visit)


def exact(expression: Expression, values: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Values to 60 digits, rounded to float64; nan where undefined."""
    needed = {leaf.name for leaf in (*expression.inputs, *expression.parameters)} | {"x"}
    given = {name: value for name, value in values.items() if name in needed}
    result = evaluate(expression, given, "mpmath", 60)
    return np.broadcast_to(result, np.broadcast_shapes(*(np.shape(v) for v in values.values())))


def exact_derivative(
    expression: Expression, name: str, values: Mapping[str, Any], digits: int = 90
) -> np.ndarray[Any, Any]:
    """The derivative by a central difference with a step of 1e-25, in 90 digits."""
    with mpmath.workdps(digits):
        step = mpmath.mpf(10) ** -25
        ends = []
        for sign in (1, -1):
            moved = dict(values)
            base = np.asarray(values[name], dtype=object)
            moved[name] = np.vectorize(lambda v, s=sign: mpmath.mpf(v) + s * step, otypes=[object])(
                base
            )
            ends.append(evaluate(expression, moved, "mpmath", digits))
        return (ends[0] - ends[1]) / (2 * step)
