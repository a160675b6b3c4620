"""The operators of the target `cuda`: what PyTorch calls, and what it calls for derivatives.

A kernel is a number, so that one operator serves every activation, and compiled graphs can be
saved. Values and gradients are computed by kernels, second derivatives by PyTorch's operators.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from actsearch.codegen.programs import Program
from actsearch.codegen.sources import load
from actsearch.codegen.targets import BuildError
from actsearch.codegen.targets import torch as composable
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.accuracy import Range, single_range
from actsearch.codegen.targets.cpu.rendering import ELEMENTARY, functions
from actsearch.codegen.targets.cuda import layout, rendering
from actsearch.codegen.targets.cuda.driver import Driver
from actsearch.codegen.targets.rows import check_dimension

TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "half16",
    torch.bfloat16: "brain16",
}
"""What CUDA code calls the types that it is compiled for."""

DRIVER = Driver()
"""What runs kernels; a test puts another in its place."""

_KERNELS: dict[int, Kernel] = {}


@dataclass
class Kernel:
    """The code of one activation."""

    program: Program
    precision: str

    @cached_property
    def source(self) -> str:
        """CUDA C++, for NVRTC."""
        return rendering.device(self.program, ranges(self.program, self.precision))

    @cached_property
    def composed(self) -> Any:
        """The same in PyTorch's operators: a module of generated functions."""
        return load(composable.source(self.program))

    def check(self, variables: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """x, the inputs, and the parameters.

        Raises:
            TypeError: x has no floating-point type.
            ValueError: shapes do not fit; the message has them.
        """
        count = len(self.program.inputs)
        x, inputs, parameters = variables[0], list(variables[:count]), list(variables[count:])
        if x.dtype not in TYPES:
            raise TypeError(
                f"expected a floating-point tensor, got {x.dtype} of shape {list(x.shape)}"
            )
        for gate in inputs[1:]:
            if gate.shape != x.shape or gate.dtype != x.dtype:
                raise ValueError(
                    f"x and gate must be alike, got {x.dtype} of shape {list(x.shape)} "
                    f"and {gate.dtype} of shape {list(gate.shape)}"
                )
        for parameter, declared in zip(parameters, self.program.parameters, strict=True):
            check_dimension(parameter, x, declared.dimension)
        return x, inputs, parameters

    def channels(self, x: Tensor, parameters: Sequence[Tensor]) -> set[tuple[int, int]]:
        """Numbers of channels, with their dimensions, that parameters have."""
        declared = zip(parameters, self.program.parameters, strict=True)
        return {(p.numel(), d.dimension % max(1, x.dim())) for p, d in declared if p.numel() > 1}

    def launch(
        self,
        routine: str,
        y: Tensor,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        results: Sequence[Tensor],
        sums: bool,
    ) -> list[Tensor]:
        """Run a routine; returns the parameters' gradients, if it computes any."""
        ((channels, dimension),) = self.channels(y, parameters) or {(1, 0)}
        seen = layout.matrix(y, inputs, channels, dimension)
        width = layout.width_of(seen, results)
        sizes, blocks = layout.sizes_of(seen, width, DRIVER.threads)
        computed = torch.float64 if y.dtype == torch.float64 else torch.float32
        given = [parameter.to(computed).contiguous() for parameter in parameters]
        partial = []
        for parameter in parameters if sums else ():
            shape = layout.partial_shape(seen, sizes, blocks, parameter.numel() > 1)
            partial.append(torch.empty(shape, dtype=computed, device=y.device))
        pointers = (*seen.tensors, *given, *results, *partial)
        arguments: list[Any] = [ctypes.c_void_p(tensor.data_ptr()) for tensor in pointers]
        arguments += [ctypes.c_longlong(pitch) for pitch in seen.pitches]
        arguments += [ctypes.c_int(parameter.numel() > 1) for parameter in parameters]
        by_row = "false" if seen.inner else "true"
        kernel = f"{routine}_kernel<{TYPES[y.dtype]}, {width}, {by_row}>"
        flags = ("-DFAST",) if self.precision == "fast" else ()
        DRIVER.launch(self.source, flags, kernel, blocks, [*arguments, sizes], y.device)
        return [
            _total(part).to(parameter.dtype).reshape(parameter.shape)
            for part, parameter in zip(partial, parameters, strict=sums)
        ]


def _total(partial: Tensor) -> Tensor:
    """The second stage of a sum."""
    summed = (0, 2) if partial.dim() == 3 else (0,)
    return partial.sum(summed, dtype=torch.float64)


def ranges(program: Program, precision: str) -> dict[str, Range]:
    """Where the float32 code is accurate: its C twin is measured, where there is a compiler."""
    try:
        compiler = toolchain.compiler("c")
    except BuildError:
        return dict.fromkeys(rendering.ROUTINES, Range(True, float("inf")))
    variants = [(routine, "f32") for routine in rendering.ROUTINES]
    text = ELEMENTARY + functions(program, variants, "measured")
    arguments = [*compiler.flags, *(["-DFAST"] if precision == "fast" else []), "-lm"]
    name = f"cuda-{toolchain.key(compiler, text, *arguments)}"
    path = toolchain.cached(name) or toolchain.build(compiler, [name], text, *arguments)[0]
    measured: Any = ctypes.CDLL(str(path))
    return {
        routine: single_range(
            getattr(program, routine), precision, getattr(measured, f"measured_{routine}_f32")
        )
        for routine in rendering.ROUTINES
    }


# what PyTorch calls

_LIBRARY: Any = cast("Any", torch.library).Library("actsearch_cuda", "DEF")
_LIBRARY.define("activation(Tensor[] variables, int kernel) -> Tensor")
_LIBRARY.define("activation_backward(Tensor dy, Tensor[] variables, int kernel) -> Tensor[]")


def forward(variables: Sequence[Tensor], kernel: int) -> Tensor:
    """y, in the memory order of x."""
    own = _KERNELS[kernel]
    x, inputs, parameters = own.check(variables)
    y = torch.empty_like(x)
    if len(own.channels(x, parameters)) > 1:
        return own.composed._Activation.forward(*variables)  # type: ignore[no-any-return]
    if y.numel():
        own.launch("forward", y, inputs, parameters, [y], sums=False)
    return y


def backward(dy: Tensor, variables: Sequence[Tensor], kernel: int) -> list[Tensor]:
    """The gradients for the inputs and the parameters, from that for y."""
    own = _KERNELS[kernel]
    x, inputs, parameters = own.check(variables)
    if len(own.channels(x, parameters)) > 1:
        return list(own.composed._Gradient.forward(dy, *variables))
    slopes = [torch.empty_like(x) for _ in inputs]
    if x.numel() == 0:
        return [*slopes, *(torch.zeros_like(parameter) for parameter in parameters)]
    given = [dy.to(x.dtype), *inputs]
    return [*slopes, *own.launch("backward", slopes[0], given, parameters, slopes, sums=True)]


def _fake_forward(variables: Sequence[Tensor], kernel: int) -> Tensor:
    x, _, _ = _KERNELS[kernel].check(variables)
    return torch.empty_like(x)


def _fake_backward(dy: Tensor, variables: Sequence[Tensor], kernel: int) -> list[Tensor]:
    x, inputs, parameters = _KERNELS[kernel].check(variables)
    slopes = [torch.empty_like(x) for _ in inputs]
    return [*slopes, *(torch.empty_like(parameter) for parameter in parameters)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.kernel = inputs
    flat = [t for given in tensors for t in ([given] if isinstance(given, Tensor) else given)]
    ctx.save_for_backward(*flat)


def _gradient(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    slopes = torch.ops.actsearch_cuda.activation_backward.default
    return slopes(dy, list(ctx.saved_tensors), ctx.kernel), None


def _second(ctx: Any, weights: Sequence[Tensor | None]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors[1:]
    known = [torch.zeros_like(t) if w is None else w for w, t in zip(weights, saved, strict=True)]
    slopes = _KERNELS[ctx.kernel].composed._Gradient.backward(ctx, *known)
    return slopes[0], list(slopes[1:]), None


_LIBRARY.impl("activation", forward, "CUDA")
_LIBRARY.impl("activation_backward", backward, "CUDA")
torch.library.register_fake("actsearch_cuda::activation", _fake_forward, lib=_LIBRARY)
torch.library.register_fake("actsearch_cuda::activation_backward", _fake_backward, lib=_LIBRARY)
for _name, _derivative in (("activation", _gradient), ("activation_backward", _second)):
    torch.library.register_autograd(
        f"actsearch_cuda::{_name}", _derivative, setup_context=_save, lib=_LIBRARY
    )


def function(program: Program, precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters), differentiable twice; kernels are compiled when they are used."""
    kernel = number(program, precision)
    run = torch.ops.actsearch_cuda.activation.default
    slopes = torch.ops.actsearch_cuda.activation_backward.default

    @cache
    def transparent() -> Callable[..., Any]:
        """In PyTorch's own operators, for those who look into a function."""
        return composable.build(program)

    def activation(*tensors: Tensor) -> Tensor:
        if tensors[0].is_cpu and DRIVER.device_type == "cuda":
            shape = list(tensors[0].shape)
            raise ValueError(f"the target cuda computes on cuda, not on a {shape} of the cpu")
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting():
                return transparent()(*tensors)  # type: ignore[no-any-return]
        elif peek_interpreter_stack() is not None:  # one of torch.func's transforms
            return transparent()(*tensors)  # type: ignore[no-any-return]
        return run(tensors, kernel)  # type: ignore[no-any-return]

    def gradients(dy: Tensor, *tensors: Tensor) -> list[Tensor]:
        return slopes(dy, tensors, kernel)  # type: ignore[no-any-return]

    activation.gradients = gradients  # type: ignore[attr-defined]
    return activation


def number(program: Program, precision: str) -> int:
    """What the operators call an activation: the same in every process."""
    text = f"{program.expression}{program.parameters}{precision}{rendering.scalar(program)}"
    found = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
    _KERNELS.setdefault(found, Kernel(program, precision))
    return found
