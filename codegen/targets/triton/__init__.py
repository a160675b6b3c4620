"""The target `triton`: kernels for GPUs that Inductor can trace, in one file of Python.

rendering   a program as Triton kernels, beside the formula in PyTorch's operators
support     elementary functions and the layout of kernels, copied into each file
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actsearch.codegen.programs import Program
from actsearch.codegen.targets import PRECISIONS, BuildError

LONGEST = 2000


def source(program: Program) -> str:
    """The target's code: one file that needs PyTorch and Triton."""
    from actsearch.codegen.targets.triton import rendering

    return rendering.source(program)


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """The differentiable function of the inputs and the parameters.

    Raises:
        BuildError: Triton is not installed, or the program is too long for it.
    """
    if find_spec("triton") is None:
        raise BuildError("the target triton needs triton: pip install 'actsearch[triton]'")
    if not fits(program):
        raise BuildError(f"the target triton takes {LONGEST} operations")
    from actsearch.codegen.targets.triton import rendering

    return rendering.function(program)


def write(program: Program, path: Path, num_parameters: int = 1) -> None:
    """The source as a file; its class takes the number of parameters itself."""
    path.write_text(source(program), encoding="utf-8")


def fits(program: Program) -> bool:
    """Whether Triton compiles it in reasonable time."""
    return len(program.forward.steps) + len(program.backward.steps) <= LONGEST


def available() -> bool:
    """Whether Triton is installed, and a GPU is there."""
    if find_spec("triton") is None:
        return False
    import torch

    return torch.cuda.is_available()
