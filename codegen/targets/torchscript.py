"""The target `torchscript`: a scripted module of ATen operators, with the symbolic gradients.

TorchScript has no autograd functions, so the gradients ride on a polynomial. With z a tensor whose
value is 0 and whose derivative for x is 1,

    y(z) = f + f'*z + f''/2*z**2

has the value f, and its first and second derivatives are the symbolic ones, although autograd sees
nothing but products of constants. With parameters it is the polynomial of all variables. Autograd
through the plain formula would be shorter, but has the NaN of 0*inf at the ends of the line, and
saves every intermediate result. An infinite second derivative counts as the largest finite number,
since 0*inf would spoil the first; third derivatives are 0. Without gradients only f is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actsearch.codegen.gradients import differentiate
from actsearch.codegen.programs import Program, Routine, prepared
from actsearch.codegen.sources import load
from actsearch.codegen.targets import PRECISIONS
from actsearch.codegen.targets.base import unused
from actsearch.codegen.targets.torch import Source
from actsearch.grammar.expression import Number

_ZERO = '''

def _zero(x: Tensor) -> Tensor:
    """A tensor with value 0 and derivative 1 for x, even where x is infinite."""
    z = x.clone()
    z.detach().zero_()
    return z


def _finite(coefficient: Tensor) -> Tensor:
    """A second derivative that can be multiplied by 0."""
    return torch.nan_to_num(coefficient)
'''


def source(program: Program) -> str:
    """A self-contained file; `torch.jit.script(Activation())` makes the module."""
    return ScriptSource(program).text()


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """The scripted function of the inputs and the parameters."""
    import torch

    with scripting():
        function: Callable[..., Any] = torch.jit.script(load(source(program)).activation)
    return function


def write(program: Program, path: Path, num_parameters: int = 1) -> None:
    """The scripted module, saved."""
    import torch

    module = load(source(program)).Activation
    per_channel = any(parameter.scope == "per channel" for parameter in program.parameters)
    with scripting():
        scripted = torch.jit.script(module(num_parameters) if per_channel else module())
        torch.jit.save(scripted, str(path))


def available() -> bool:
    """TorchScript is part of PyTorch."""
    return True


@contextmanager
def scripting() -> Iterator[None]:
    """Silence torch's notice that TorchScript is deprecated: the user asked for TorchScript."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*torch\.jit", DeprecationWarning)
        yield


class ScriptSource(Source):
    """The parts of the file."""

    head = Source.head.replace("from torch.autograd import Function\n", "") + _ZERO

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        variables = program.variables
        slopes = differentiate(program.value, variables)
        self.first = self.local("f_")
        self.second: dict[tuple[int, int], str] = {}
        curvatures = []
        for i, slope in enumerate(slopes):
            for j, second in enumerate(differentiate(slope, variables[i:]), start=i):
                if second is not Number(0):
                    name = f"{self.first[i]}_{self.variables[j]}"
                    self.second[i, j] = unused(name, self._taken)
                    curvatures.append(second)
        outputs = ("y", *self.first, *self.second.values())  # what the results are called
        results = tuple(prepared([program.value, *slopes, *curvatures]))
        self.routines = (program.forward, Routine("taylor", variables, outputs, results))

    def functions(self) -> str:
        program = self.program
        variables = program.variables
        signature = ", ".join(f"{name}: Tensor" for name in self.variables)
        plain = ", ".join(self.wide(variable) for variable in variables)
        needed = " or ".join(f"{name}.requires_grad" for name in self.variables)
        lines = ["", "", f"def activation({signature}) -> Tensor:"]
        lines += ['    """y at every element; parameters have shape (1,) or, per channel, (C,)."""']
        lines += [self.checks().strip("\n")]
        lines += ["    wide = _wide(x)"]
        lines += [f"    if not (torch.is_grad_enabled() and ({needed})):"]
        lines += [f"        return _cast(_forward({plain}), x.dtype)"]
        wides, zeros = self.local("w_"), self.local("z_")
        for variable, wide, zero in zip(variables, wides, zeros, strict=True):
            lines += [f"    {wide} = {self.wide(variable)}", f"    {zero} = _zero({wide})"]
        outputs = ", ".join(["y", *self.first, *self.second.values()])
        values = ", ".join(f"{wide}.detach()" for wide in wides)
        lines += [f"    {outputs} = _taylor({values})"]
        lines += ["    with_gradient = torch.zeros_like(wide)"]
        for i, (zero, slope) in enumerate(zip(zeros, self.first, strict=True)):
            terms = [slope]
            for j in range(i, len(variables)):
                if (i, j) in self.second:
                    factor = "0.5 * " if i == j else ""
                    terms.append(f"_finite({self.second[i, j]}) * ({factor}{zeros[j]})")
            lines.append(f"    with_gradient = with_gradient + {zero} * ({' + '.join(terms)})")
        lines += ["    with_gradient.detach().copy_(y)"]
        lines += ["    return _cast(with_gradient, x.dtype)", ""]
        return "\n".join(lines)
