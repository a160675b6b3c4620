"""The target `cuda`: CUDA C++, compiled for the GPU at hand when it is first used.

rendering    a program as CUDA C++; slices: several, in one kernel
half         what half types are computed with; half.c: its functions
kernels.cuh  what all kernels share: types, 128-bit accesses, sums
binding.cpp  the end of an exported file, which torch.utils.cpp_extension builds
nvrtc        the compiler
driver       loading and launching
layout       how kernels see tensors
operator     the operators, with shapes and derivatives
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actsearch.codegen.programs import Program
from actsearch.codegen.targets import PRECISIONS, BuildError

LONGEST = 600
WIDEST = 24


def source(program: Program) -> str:
    """The exported file: device code, and a binding."""
    from actsearch.codegen.targets.cuda import rendering

    return rendering.source(program)


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """The differentiable function of the inputs and the parameters.

    Raises:
        BuildError: NVRTC is not installed, or the program is too long for registers.
    """
    from actsearch.codegen.targets.cuda import nvrtc

    nvrtc.library()
    if not fits(program):
        raise BuildError(f"the target cuda takes {LONGEST} operations and {WIDEST} parameters")
    from actsearch.codegen.targets.cuda.operator import function

    return function(program, precision)


def population(
    programs: Sequence[Program], precision: str = PRECISIONS[0]
) -> Callable[..., Any] | None:
    """The function of stacked inputs and of all parameters; None where a program is too long."""
    if not all(map(fits, programs)):
        return None
    from actsearch.codegen.targets.cuda import operator

    return operator.population(programs, precision)


def write(program: Program, path: Path, num_parameters: int = 1) -> None:
    """The source as a file; `torch.utils.cpp_extension.load` builds it."""
    path.write_text(source(program), encoding="utf-8")


def fits(program: Program) -> bool:
    """Whether it is short enough for a thread's registers."""
    steps = len(program.forward.steps) + len(program.backward.steps)
    return steps <= LONGEST and len(program.parameters) <= WIDEST


def available() -> bool:
    """Whether there is a GPU, and NVRTC."""
    import torch

    from actsearch.codegen.targets.cuda import nvrtc

    return torch.cuda.is_available() and nvrtc.available()
