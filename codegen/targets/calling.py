"""What the functions of targets share when they are called: operators, slices of populations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from actsearch.codegen.programs import Program


def looked_into() -> bool:
    """Whether the caller wants PyTorch's own operators, as torch.export and torch.func do."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return peek_interpreter_stack() is not None


def through_operators(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    number: int | Sequence[int],
    composed: Callable[[], Callable[..., Any]],
) -> Callable[..., Any]:
    """f(*tensors), with its gradients as an attribute.

    Args:
        forward, backward: operators of (tensors, number) and of (dy, tensors, number).
        number: what they call the activation, or the activations.
        composed: makes the same function of PyTorch's own operators, for who looks into it.
    """
    transparent = cache(composed)

    def activation(*tensors: Tensor) -> Tensor:
        if looked_into():
            return transparent()(*tensors)  # type: ignore[no-any-return]
        return forward(tensors, number)  # type: ignore[no-any-return]

    def gradients(dy: Tensor, *tensors: Tensor) -> list[Tensor]:
        return backward(dy, tensors, number)  # type: ignore[no-any-return]

    activation.gradients = gradients  # type: ignore[attr-defined]
    return activation


def check_slices(x: Tensor, count: int) -> None:
    """Raise a ValueError where x is not [count, …]."""
    if x.dim() == 0 or x.shape[0] != count:
        raise ValueError(
            f"a population of {count} takes a tensor of shape [{count}, ...], got {list(x.shape)}"
        )


def empty_slices(x: Tensor) -> Tensor:
    """A result for [K, …]: one slice after the other, each like an empty copy of x's slice."""
    one = torch.empty_like(x[0])
    return x.new_empty_strided(x.shape, (one.numel(), *one.stride()))


def stacked(
    programs: Sequence[Program], functions: Sequence[Callable[..., Tensor]]
) -> Callable[..., Tensor]:
    """A population, one activation after the other.

    Args:
        programs: the activations.
        functions: f(*inputs, *parameters) for each.

    Returns:
        F(*inputs, *parameters of the first activation, *of the second, …): inputs and result have
        shape [K, …], function k computes slice k.
    """
    inputs = len(programs[0].inputs)

    def activations(*tensors: Tensor) -> Tensor:
        check_slices(tensors[0], len(functions))
        rest = iter(tensors[inputs:])
        return torch.stack(
            [
                function(*(x[k] for x in tensors[:inputs]), *(next(rest) for _ in own.parameters))
                for k, (own, function) in enumerate(zip(programs, functions, strict=True))
            ]
        )

    return activations
