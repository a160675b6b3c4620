"""The target `cpu`: C that the compiler vectorises, called through one C++ operator.

rendering     a program as C, in float32 and in float64
elementary.c  the elementary functions that it calls; bessel.c: two more
toolchain     the compiler, and a cache of what it makes
kernels       the compiled C of an activation, as the operator calls it
accuracy      where its float32 code may be used
operator.cpp  the operator: shapes, types and autograd, on top of
  routines.h    checks, arguments and results, of one kernel or of a population
  call.h        calls of kernels: blocks, threads, sums
  views.h       tensors of any layout as blocks
  half_tables.h half types by looking up
  piecewise.h   float32 by piecewise polynomials, and
  choosing.h      when, and of which shape
  fitting.h       how they are found
  exact.h         what they are fitted to
  streaming.h   stores that bypass the caches
  registry.h    the kernels of a process
  binding.h     the operator for Python, without torch.ops
library       building and loading it
function      activations and populations as functions of tensors
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from actsearch.codegen.programs import Program
from actsearch.codegen.targets import PRECISIONS, BuildError

LONGEST = 600
WIDEST = 60


def source(program: Program) -> str:
    """The C of the three routines, with the elementary functions that they call."""
    from actsearch.codegen.targets.cpu import rendering

    return rendering.source(program)


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """The differentiable function of the inputs and the parameters.

    Raises:
        BuildError: there is no compiler, or it fails; or the program is too long for it.
    """
    if not fits(program):
        raise BuildError(f"the target cpu takes {LONGEST} operations and {WIDEST} parameters")
    from actsearch.codegen.targets.cpu.function import function

    return function(program, precision)


def population(
    programs: Sequence[Program], precision: str = PRECISIONS[0]
) -> Callable[..., Any] | None:
    """The function of stacked inputs and of all parameters; None where a program is too long.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    if not all(map(fits, programs)):
        return None
    from actsearch.codegen.targets.cpu import function

    return function.population(programs, precision)


def prepare(programs: Iterable[Program], precision: str = PRECISIONS[0]) -> None:
    """Compile the kernels of several programs, while those that come later are being made."""
    from actsearch.codegen.targets.cpu import kernels

    kernels.load(programs, precision)


def fits(program: Program) -> bool:
    """Whether it is short enough for a compiler that vectorises it as one loop."""
    steps = len(program.forward.steps) + len(program.backward.steps)
    return steps <= LONGEST and len(program.parameters) <= WIDEST


def write(program: Program, path: Path, num_parameters: int = 1) -> None:
    """The source as a file."""
    path.write_text(source(program), encoding="utf-8")


def available() -> bool:
    """Whether there are compilers."""
    from actsearch.codegen.targets.cpu import toolchain

    try:
        toolchain.compiler("c")
        toolchain.compiler("c++")
    except BuildError:
        return False
    return True
