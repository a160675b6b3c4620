"""Activations of the target `cpu` as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from actsearch.codegen.programs import Program
from actsearch.codegen.targets import torch as composable
from actsearch.codegen.targets.cpu import kernels


def function(program: Program, precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters), differentiable twice; the kernels are compiled if they are new."""
    (number,) = kernels.load([program], precision)
    forward = torch.ops.actsearch.activation.default
    backward = torch.ops.actsearch.activation_backward.default

    @cache
    def transparent() -> Callable[..., Any]:
        """In PyTorch's own operators, for those who look into a function."""
        return composable.build(program)

    def activation(*tensors: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting():
                return transparent()(*tensors)  # type: ignore[no-any-return]
        elif peek_interpreter_stack() is not None:  # one of torch.func's transforms
            return transparent()(*tensors)  # type: ignore[no-any-return]
        return forward(tensors, number)  # type: ignore[no-any-return]

    def gradients(dy: Tensor, *tensors: Tensor) -> list[Tensor]:
        return backward(dy, tensors, number)  # type: ignore[no-any-return]

    activation.gradients = gradients  # type: ignore[attr-defined]
    return activation
