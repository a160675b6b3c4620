"""Activations and populations of the target `cpu` as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from actsearch.codegen.programs import Program
from actsearch.codegen.targets import torch as composable
from actsearch.codegen.targets.calling import stacked, through_operators
from actsearch.codegen.targets.cpu import kernels
from actsearch.codegen.targets.cpu.library import activation as direct


def function(program: Program, precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters), differentiable twice; the kernels are compiled if they are new."""
    (number,) = kernels.load([program], precision)
    call = direct()
    operators = torch.ops.actsearch
    run = through_operators(
        operators.activation.default,
        operators.activation_backward.default,
        number,
        lambda: composable.build(program),
    )

    is_compiling = torch.compiler.is_compiling  # looked up once: a call takes a few microseconds

    def activation(*tensors: Tensor) -> Tensor:
        if not is_compiling():
            y = call(number, *tensors)
            if y is not NotImplemented:
                return y  # type: ignore[no-any-return]
        return run(*tensors)  # type: ignore[no-any-return]

    activation.gradients = run.gradients  # type: ignore[attr-defined]
    return activation


def population(programs: Sequence[Program], precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters of the first activation, *of the second, …) of stacked inputs."""
    numbers = kernels.load(programs, precision)
    operators = torch.ops.actsearch
    return through_operators(
        operators.population.default,
        operators.population_backward.default,
        numbers,
        lambda: stacked(programs, [composable.build(program) for program in programs]),
    )
