"""The target `torch`: plain PyTorch source that composes with everything PyTorch does.

The file holds the three routines as functions of tensors, two autograd functions (the second is the
backward of the first, so gradients of gradients are symbolic too) and an nn.Module. They compute in
float32 for half types, save only the inputs and the parameters, and import nothing but torch.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

from actsearch.codegen.gradients import gradient
from actsearch.codegen.programs import DY, Program, Routine, weight
from actsearch.codegen.sources import load
from actsearch.codegen.targets import PRECISIONS
from actsearch.codegen.targets.base import PRODUCT, Code, Function, Renderer, unused, variable_names
from actsearch.grammar.expression import Input, Parameter

_BOUND = {"max": "min", "min": "max"}  # max(x, 2) is torch.clamp(x, min=2)


def _extremum(name: str) -> Callable[..., str]:
    def render(renderer: TorchRenderer, a: Code, b: Code) -> str:
        for one, other in ((a, b), (b, a)):
            if other.number is not None:
                return f"torch.clamp({one.text}, {_BOUND[name]}={other.text})"
        return f"torch.{name}imum({a.text}, {b.text})"

    return render


def _where(renderer: TorchRenderer, condition: Code, a: Code, b: Code) -> str:
    first = renderer.tensor(a) if b.number is not None else a.text
    return f"torch.where({condition.text}, {first}, {b.text})"


def _hypot(renderer: TorchRenderer, a: Code, b: Code) -> str:
    return f"torch.hypot({renderer.tensor(a)}, {renderer.tensor(b)})"


class TorchRenderer(Renderer):
    """Routines as PyTorch expressions."""

    name = "torch"
    functions: ClassVar[Mapping[str, Function]] = {
        "pow": "torch.pow({a}, {b})",
        "abs": "torch.abs({a})",
        "sign": "torch.sign({a})",
        "relu": "torch.relu({a})",
        "max": _extremum("max"),
        "min": _extremum("min"),
        "where": _where,
        "sqrt": "torch.sqrt({a})",
        "cbrt": "_cbrt({a})",
        "hypot": _hypot,
        "exp": "torch.exp({a})",
        "expm1": "torch.expm1({a})",
        "log": "torch.log({a})",
        "log1p": "torch.log1p({a})",
        "sin": "torch.sin({a})",
        "cos": "torch.cos({a})",
        "tan": "torch.tan({a})",
        "asin": "torch.asin({a})",
        "acos": "torch.acos({a})",
        "atan": "torch.atan({a})",
        "sinc": "_sinc({a})",
        "j1": "_j1({a})",
        "sinh": "_sinh({a})",
        "cosh": "_cosh({a})",
        "tanh": "torch.tanh({a})",
        "asinh": "torch.asinh({a})",
        "acosh": "torch.acosh({a})",
        "atanh": "torch.atanh({a})",
        "sigmoid": "torch.sigmoid({a})",
        # from 40 on softplus(a) is a to the last bit of float64; torch's own threshold is 20
        "softplus": "torch.nn.functional.softplus({a}, threshold=40.0)",
        "erf": "torch.erf({a})",
        "erfc": "torch.erfc({a})",
        "i0e": "torch.special.i0e({a})",
        "i1e": "torch.special.i1e({a})",
    }

    def literal(self, value: float) -> str:
        return repr(value) if abs(value) < float("inf") else f'float("{value}")'

    def tensor(self, code: Code) -> str:
        """A number as a tensor, for functions that take no numbers."""
        if code.number is None:
            return code.text
        return f"torch.scalar_tensor({code.text}, dtype=x.dtype, device=x.device)"


HELPERS: Mapping[str, str] = {
    "_cbrt": '''
def _cbrt(a: Tensor) -> Tensor:
    """Real cube root: a power, and a Newton step because 1/3 is rounded."""
    size = torch.abs(a)
    root = torch.pow(size, 0.3333333333333333)
    better = root - (root - size / (root * root)) / 3.0
    return torch.where((size > 0.0) & (size < float("inf")), better, root) * torch.sign(a)
''',
    "_sinh": '''
def _sinh(a: Tensor) -> Tensor:
    """Hyperbolic sine; torch's own overflows before its value does."""
    half = torch.exp(0.5 * torch.abs(a))
    return torch.where(torch.abs(a) < 80.0, torch.sinh(a), 0.5 * torch.sign(a) * half * half)
''',
    "_cosh": '''
def _cosh(a: Tensor) -> Tensor:
    """Hyperbolic cosine; torch's own overflows before its value does."""
    half = torch.exp(0.5 * torch.abs(a))
    return torch.where(torch.abs(a) < 80.0, torch.cosh(a), 0.5 * half * half)
''',
    "_sinc": '''
def _sinc(a: Tensor) -> Tensor:
    """sin(a)/a, 1 at 0."""
    return torch.where(a == 0.0, 1.0, torch.sin(a) / a)
''',
    "_j1": '''
def _j1(a: Tensor) -> Tensor:
    """Spherical Bessel function of order 1; near 0, where its closed form cancels, its series."""
    s = a * a
    near = 1.0 - s / 130.0 * (1.0 - s / 180.0 * (1.0 - s / 238.0 * (1.0 - s / 304.0)))
    near = 1.0 - s / 28.0 * (1.0 - s / 54.0 * (1.0 - s / 88.0 * near))
    far = (torch.sin(a) / a - torch.cos(a)) / a
    return torch.where(torch.abs(a) < 1.0, a / 3.0 * (1.0 - s / 10.0 * near), far)
''',
}
"""Functions that PyTorch lacks or computes inaccurately; a file holds those that it calls."""

_VIEW = '''
def _view(parameter: Tensor, x: Tensor, dimension: int) -> Tensor:
    """A parameter of shape (1,) or (C,) in the type of x and a shape that broadcasts against it."""
    parameter = _cast(parameter, x.dtype)
    if parameter.numel() == 1:
        return parameter if x.dim() > 0 else parameter.reshape([])
    inside = -x.dim() <= dimension < x.dim()
    if parameter.dim() != 1 or (x.shape[dimension] if inside else 1) != parameter.numel():
        raise ValueError(
            f"a parameter of shape {list(parameter.shape)} does not fit dimension {dimension} "
            f"of an input of shape {list(x.shape)}"
        )
    shape = [1] * x.dim()
    shape[dimension] = -1
    return parameter.reshape(shape)
'''

_SUM = '''
def _sum(contributions: Tensor, parameter: Tensor, dimension: int) -> Tensor:
    """A parameter's gradient: what the elements that share it contribute."""
    if parameter.numel() == 1:
        return _cast(contributions.sum().reshape(parameter.shape), parameter.dtype)
    kept = dimension % contributions.dim()
    summed = [d for d in range(contributions.dim()) if d != kept]
    total = contributions.sum(summed) if summed else contributions
    return _cast(total, parameter.dtype)
'''

_HEAD = '''
import torch
from torch import Tensor, nn
from torch.autograd import Function


def _wide(x: Tensor) -> Tensor:
    """What is computed with: float32 for half types."""
    return x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in another type; asking first is cheaper than a conversion that does nothing."""
    return x if x.dtype == dtype else x.to(dtype)
'''

_CHECK = """
    if not x.is_floating_point():
        raise TypeError(
            f"expected a floating-point tensor, got {x.dtype} of shape {list(x.shape)}"
        )
"""

_CHECK_GATE = """    if gate.shape != x.shape or gate.dtype != x.dtype:
        raise ValueError(
            f"x and gate must be alike, got {x.dtype} of shape {list(x.shape)} "
            f"and {gate.dtype} of shape {list(gate.shape)}"
        )
"""


@cache
def reserved_names() -> frozenset[str]:
    """Names that a parameter cannot have in generated source, or as an attribute of a module."""
    from torch import nn

    ours = (
        "torch Tensor nn Function activation Activation ctx self cls dtype device arguments inputs "
        "output gradient wide y num_parameters split_dimension inplace expression backend float "
        "int list tuple range TypeError ValueError RuntimeError staticmethod super with_gradient "
        "_Activation _Gradient _Eager _forward _backward _double_backward _taylor _view _sum "
        "_wide _cast _zero _finite _halves"
    )
    return frozenset(
        [*keyword.kwlist, *keyword.softkwlist, *dir(nn.Module()), *ours.split(), *HELPERS]
    )


def source(program: Program) -> str:
    """The target's code: one file that runs without ActSearch."""
    return Source(program).text()


def build(program: Program, precision: str = PRECISIONS[0]) -> Callable[..., Any]:
    """The differentiable function of the inputs and the parameters, from the same source."""
    module = load(source(program))
    function: Any = module.activation

    def gradients(*tensors: Any) -> tuple[Any, ...]:
        slopes: Any = module._Gradient.forward(*tensors)
        return slopes if isinstance(slopes, tuple) else (slopes,)

    function.gradients = gradients  # for `Activation.direct`
    return cast("Callable[..., Any]", function)


def write(program: Program, path: Path, num_parameters: int = 1) -> None:
    """The source as a file; its class takes the number of parameters itself."""
    path.write_text(source(program), encoding="utf-8")


def available() -> bool:
    """PyTorch is a dependency."""
    return True


class Source:
    """The parts of one generated file."""

    head = _HEAD

    def __init__(self, program: Program) -> None:
        self.program = program
        self.routines: tuple[Routine, ...] = (
            program.forward,
            program.backward,
            program.double_backward,
        )
        self.names = variable_names(program, reserved_names())
        self.inputs = [self.names[node] for node in program.inputs]
        self.parameters = [self.names[node] for node in program.parameters]
        self.variables = [*self.inputs, *self.parameters]
        self._taken = set(self.names.values()) | reserved_names()

    def local(self, prefix: str) -> list[str]:
        """A new local name for each variable, such as `dx`, `dbeta`."""
        return [unused(f"{prefix}{name}", self._taken) for name in self.variables]

    def text(self) -> str:
        """The whole file."""
        routines = "".join(self.routine(routine) for routine in self.routines)
        functions = self.functions()
        parts = [self.docstring(), self.head]
        code = routines + functions
        optional = [*HELPERS.items(), ("_view", _VIEW), ("_sum", _SUM)]
        parts += ["\n" + text for name, text in optional if f"{name}(" in code]
        parts += [routines, functions, self.module()]
        return "".join(parts)

    def docstring(self) -> str:
        """Formula and derivatives."""
        rows = [("y", self.program.expression)]
        slopes = gradient(rows[0][1]) if rows[0][1].size <= _LARGEST_SHOWN else {}
        rows += [(f"dy/d{name}", slope) for name, slope in slopes.items()]
        lines = [_escaped(f"{name} = {value}") for name, value in rows]
        formulas = "\n".join(
            textwrap.fill(line[:_LONGEST], 96, initial_indent="    ", subsequent_indent=" " * 8)
            + (" …" if len(line) > _LONGEST else "")
            for line in lines
        )
        return (
            '"""An activation function as a PyTorch module. Generated by ActSearch; it needs only '
            f'PyTorch.\n\n{formulas}\n"""\n'
        )

    def routine(self, routine: Routine) -> str:
        """One routine as a function of tensors."""
        lines, results = TorchRenderer().body(routine, self.names)
        arguments = ", ".join(f"{self.names[a]}: Tensor" for a in routine.arguments)
        values = [
            self.result(output, code) for output, code in zip(routine.outputs, results, strict=True)
        ]
        kind = "Tensor" if len(values) == 1 else f"tuple[{', '.join(['Tensor'] * len(values))}]"
        about = {
            "forward": "y, element by element.",
            "backward": "The gradient for each variable, element by element, from that for y.",
            "double_backward": "The gradient of the weighted sum of what `_backward` computes.",
            "taylor": "y and its first and second derivatives, element by element.",
        }[routine.name]
        body = "\n".join(f"    {line}" for line in lines)
        body += "\n" if body else ""
        if len(values) == 1:
            returned = f"    return {values[0]}\n"
        else:
            returned = "    return (\n" + "".join(f"        {v},\n" for v in values) + "    )\n"
        return (
            f'\n\ndef _{routine.name}({arguments}) -> {kind}:\n    """{about}"""\n{body}{returned}'
        )

    def result(self, output: str, code: Code) -> str:
        """A result, with a value at every element, and never an argument itself."""
        if not code.elementwise:
            if code.number is not None:
                return f"torch.full_like(x, {code.text})"
            return f"torch.zeros_like(x) + {code.within(PRODUCT)}"
        return f"{code.text}.clone()" if code.text in self.names.values() else code.text

    def functions(self) -> str:
        """The autograd functions and the function that users call."""
        names, program = self.names, self.program
        dy = names[DY]
        weights = [names[weight(variable)] for variable in program.variables]
        arguments, slopes = ", ".join(self.variables), self.local("d")
        slope_of_dy = unused(f"d{dy}", self._taken)
        plain_list = [self.wide(variable) for variable in program.variables]
        plain = ", ".join(plain_list)
        weighted = [self.wide(v, names[weight(v)]) for v in program.variables]
        narrow = [self.narrow(v, slope) for v, slope in zip(program.variables, slopes, strict=True)]
        separator = ",\n            "
        first_arguments = separator.join([f"_wide({dy})", *plain_list])
        second_arguments = separator.join([*weighted, first_arguments])
        second = ", ".join([f"_cast({slope_of_dy}, {dy}.dtype)", *narrow])
        checks = self.checks()
        signature = ", ".join(f"{name}: Tensor" for name in self.variables)
        return f'''

class _Activation(Function):
    """y. Only the arguments are saved; the backward pass computes the rest again."""

    generate_vmap_rule = True

    @staticmethod
    def forward({arguments}):
        wide = _wide(x)
        return _cast(_forward({plain}), x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, {dy}):
        gradient = _Gradient.apply if torch.is_grad_enabled() else _Gradient.forward
        return gradient({dy}, *ctx.saved_tensors)


class _Gradient(Function):
    """The gradient for every argument of `_Activation`, differentiable itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward({dy}, {arguments}):
        wide = _wide(x)
        {", ".join(slopes)} = _backward(
            {first_arguments},
        )
        return {", ".join(narrow)}

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, {", ".join(weights)}):
        {dy}, {arguments} = ctx.saved_tensors
        wide = _wide(x)
        {", ".join([slope_of_dy, *slopes])} = _double_backward(
            {second_arguments},
        )
        return {second}


class _Eager(Function):
    """`_Activation` in the older form, that PyTorch calls in a third of the time."""

    @staticmethod
    def forward(ctx, *arguments):
        ctx.save_for_backward(*arguments)
        return _Activation.forward(*arguments)

    backward = staticmethod(_Activation.backward)


def activation({signature}) -> Tensor:
    """y at every element; parameters have shape (1,) or, per channel, (C,)."""{checks}
    if not torch.is_grad_enabled():
        return _Activation.forward({arguments})
    if torch.compiler.is_compiling():
        return _Activation.apply({arguments})
    try:
        return _Eager.apply({arguments})
    except RuntimeError:  # torch.func's transforms want the newer form, and say so before they run
        return _Activation.apply({arguments})
'''

    def checks(self) -> str:
        """What is wrong with an input is said before anything is computed."""
        return (_CHECK + (_CHECK_GATE if len(self.inputs) == 2 else "")).rstrip("\n")

    def wide(self, variable: Input | Parameter, name: str | None = None) -> str:
        """An argument in the type and the shape that the routines compute with."""
        name = name or self.names[variable]
        if isinstance(variable, Parameter):
            return f"_view({name}, wide, {variable.dimension})"
        return "wide" if name == "x" else f"_wide({name})"

    def narrow(self, variable: Input | Parameter, slope: str) -> str:
        """A gradient in the type and the shape of its argument."""
        name = self.names[variable]
        if isinstance(variable, Parameter):
            return f"_sum({slope}, {name}, {variable.dimension})"
        return f"_cast({slope}, {name}.dtype)"

    def module(self) -> str:
        """The nn.Module."""
        program = self.program
        shared = {
            self.names[p]: "num_parameters" if p.scope == "per channel" else "1"
            for p in program.parameters
        }
        gated = len(program.inputs) == 2
        options = ["num_parameters: int = 1"] if "num_parameters" in shared.values() else []
        options += ["split_dimension: int = -1"] if gated else []
        kept = [option.partition(":")[0] for option in options]
        lines = ["", "", "class Activation(nn.Module):"]
        lines += [f'    """{_title(program)}"""', ""]
        signature = ["self", *options, "device=None", "dtype=None"]
        lines += [f"    def __init__({', '.join(signature)}) -> None:"]
        lines += ["        super().__init__()"]
        lines += [f"        self.{name} = {name}" for name in kept]
        for name, size in shared.items():
            value = f"torch.empty({size}, device=device, dtype=dtype)"
            lines.append(f"        self.{name} = nn.Parameter({value})")
        if shared:
            lines += ["        self.reset_parameters()", ""]
            lines += ["    def reset_parameters(self) -> None:"]
            lines += ['        """The values from before training."""']
            for parameter in program.parameters:
                name = self.names[parameter]
                lines.append(f"        nn.init.constant_(self.{name}, {parameter.initial!r})")
        arguments = ", ".join([*self.inputs, *(f"self.{name}" for name in self.parameters)])
        if gated:
            lines += ["", "    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:"]
            lines += [
                '        """y from two tensors, or from one whose halves are x and gate."""',
                "        if gate is None:",
                "            x, gate = _halves(x, self.split_dimension)",
            ]
        else:
            lines += ["", "    def forward(self, x: Tensor) -> Tensor:", '        """y."""']
        lines += [f"        return activation({arguments})"]
        if kept:
            shown = ", ".join(f"{name}={{self.{name}}}" for name in kept)
            lines += ["", "    def extra_repr(self) -> str:", f'        return f"{shown}"']
        return (HALVES if gated else "") + "\n".join(lines) + "\n"


HALVES = '''

def _halves(x: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    """The two halves of x, as torch.nn.functional.glu takes them."""
    if not -x.dim() <= dimension < x.dim() or x.shape[dimension] % 2:
        raise ValueError(f"cannot halve shape {list(x.shape)} along dimension {dimension}")
    first, second = x.chunk(2, dimension)
    return first, second
'''

_LARGEST_SHOWN = 400  # nodes of an expression whose derivatives are shown
_LONGEST = 2000  # characters of a formula in a docstring


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")


def _title(program: Program) -> str:
    text = _escaped(str(program.expression))
    return f"y = {text}" if len(text) < 80 else "The activation of this file."
