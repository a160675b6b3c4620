"""The operators of the target `cuda`: what PyTorch calls, and what it calls for derivatives.

A kernel is a number, so that one operator serves every activation, and compiled graphs can be
saved. Values and gradients are computed by kernels, second derivatives by PyTorch's operators.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from actsearch.codegen.programs import Program
from actsearch.codegen.sources import load
from actsearch.codegen.targets import BuildError
from actsearch.codegen.targets import torch as composable
from actsearch.codegen.targets.calling import (
    check_slices,
    empty_slices,
    stacked,
    through_operators,
)
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.accuracy import Range, single_range
from actsearch.codegen.targets.cpu.rendering import functions
from actsearch.codegen.targets.cuda import layout, rendering
from actsearch.codegen.targets.cuda.driver import Driver
from actsearch.codegen.targets.cuda.half import ARITHMETICS, HALF_NAMES, TWIN
from actsearch.codegen.targets.cuda.slices import source as source_of_slices
from actsearch.codegen.targets.rows import check_dimension

TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "half16",
    torch.bfloat16: "brain16",
}
"""What CUDA code calls the types that it is compiled for."""

_RARE = 1e-4  # of a logistic distribution, that may be left to float64

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
        computed = _computed(y)
        given = [parameter.to(computed).contiguous() for parameter in parameters]
        partial = []
        for parameter in parameters if sums else ():
            shape = layout.partial_shape(seen, sizes, blocks, parameter.numel() > 1)
            partial.append(torch.empty(shape, dtype=computed, device=y.device))
        pointers = (*seen.tensors, *given, *results, *partial)
        arguments: list[Any] = [ctypes.c_void_p(tensor.data_ptr()) for tensor in pointers]
        arguments += [ctypes.c_longlong(pitch) for pitch in seen.pitches]
        arguments += [ctypes.c_int(parameter.numel() > 1) for parameter in parameters]
        kernel = _instance(routine, y, width, seen)
        arguments.append(sizes)
        DRIVER.launch(self.source, _flags(self.precision), kernel, blocks, arguments, y.device)
        return [
            _total(part[None]).to(parameter.dtype).reshape(parameter.shape)
            for part, parameter in zip(partial, parameters, strict=sums)
        ]


def _computed(y: Tensor) -> torch.dtype:
    """What kernels compute with."""
    return torch.float64 if y.dtype == torch.float64 else torch.float32


def _instance(routine: str, y: Tensor, width: int, seen: layout.Matrix) -> str:
    """The instance of a kernel's template."""
    by_row = "false" if seen.inner else "true"
    return f"{routine}_kernel<{TYPES[y.dtype]}, {width}, {by_row}>"


def _flags(precision: str) -> tuple[str, ...]:
    return ("-DFAST",) if precision == "fast" else ()


def _total(partial: Tensor) -> Tensor:
    """The second stage of sums, from the partial ones of each parameter."""
    summed = (1, 3) if partial.dim() == 4 else (1,)
    return partial.sum(summed, dtype=torch.float64)


class Population:
    """The code of several activations, for one launch."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.each = [_KERNELS[number] for number in numbers]
        self.inputs = len(self.each[0].program.inputs)
        scopes = [p.scope for own in self.each for p in own.program.parameters]
        self.shared = [k for k, scope in enumerate(scopes) if scope == "shared"]
        self.channels = [k for k, scope in enumerate(scopes) if scope == "per channel"]

    @cached_property
    def source(self) -> str:
        """CUDA C++, for NVRTC."""
        programs = [own.program for own in self.each]
        measured = {own.program: ranges(own.program, own.precision) for own in self.each}
        return source_of_slices(programs, measured)

    def split(self, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
        """Those of each activation."""
        rest = iter(parameters)
        return [[next(rest) for _ in own.program.parameters] for own in self.each]

    def channels_of(self, variables: Sequence[Tensor]) -> tuple[int, int] | None:
        """How many channels the parameters have, and along which dimension of a slice.

        None where they do not agree: then activations are computed one by one.

        Raises:
            TypeError: x has no floating-point type.
            ValueError: shapes do not fit; the message has them.
        """
        inputs, parameters = variables[: self.inputs], variables[self.inputs :]
        for tensor in inputs:
            check_slices(tensor, len(self.each))
        found: set[tuple[int, int]] = set()
        for own, given in zip(self.each, self.split(parameters), strict=True):
            x, _, _ = own.check([*(tensor[0] for tensor in inputs), *given])
            found |= own.channels(x, given)
        sizes = {parameters[k].numel() for k in self.channels}
        shared = all(parameters[k].numel() == 1 for k in self.shared)
        if len(found) > 1 or len(sizes) > 1 or not shared:
            return None
        return found.pop() if found else (1, 0)

    def launch(
        self,
        routine: str,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        results: Sequence[Tensor],
        channels: tuple[int, int],
        sums: bool,
    ) -> list[Tensor]:
        """Run a routine; returns the parameters' gradients, if it computes any."""
        y = results[0]
        seen = layout.matrix(y[0], [tensor[0] for tensor in inputs], *channels)
        seen.tensors[:] = [
            whole if one.data_ptr() == whole.data_ptr() else torch.empty_like(y).copy_(whole)
            for whole, one in zip(inputs, seen.tensors, strict=True)
        ]
        steps = [tensor.stride(0) for tensor in (*seen.tensors, y)]
        width = layout.width_of(seen, results)
        if any(step % width for step in steps):
            width = 1
        sizes, blocks = layout.sizes_of(seen, width, DRIVER.threads)
        shape = layout.partial_shape(seen, sizes, blocks, channels[0] > 1)
        lengths = [len(self.shared) * blocks, len(self.channels) * math.prod(shape)]
        order = [*self.shared, *self.channels]
        computed = _computed(y)
        given = torch.cat(
            [y.new_empty(0, dtype=computed), *(_flat(parameters[k], computed) for k in order)]
        )
        partial = y.new_empty(sum(lengths) if sums else 0, dtype=computed)
        pointers = (*seen.tensors, *results, given, partial)
        arguments: list[Any] = [ctypes.c_void_p(tensor.data_ptr()) for tensor in pointers]
        arguments += map(ctypes.c_longlong, (*seen.pitches, *steps, blocks, math.prod(shape)))
        arguments.append(sizes)
        kernel = _instance(routine, y, width, seen)
        flags = _flags(self.each[0].precision)
        DRIVER.launch(self.source, flags, kernel, blocks * len(self.each), arguments, y.device)
        if not sums:
            return []
        shared, others = partial[: lengths[0]], partial[lengths[0] :]
        totals = [
            *_total(shared.view(-1, blocks)),
            *_total(others.view(-1, *shape)),
        ]
        found = [torch.empty_like(parameter) for parameter in parameters]
        if found:
            torch._foreach_copy_(
                [found[k] for k in order],
                [total.reshape(found[k].shape) for k, total in zip(order, totals, strict=True)],
            )
        return found


def _flat(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    return parameter.to(dtype).reshape(-1)


@cache
def _population(kernels: tuple[int, ...]) -> Population:
    return Population(kernels)


def ranges(program: Program, precision: str) -> rendering.Ranges:
    """Where float32 code is accurate: its C twin is measured, where there is a compiler."""
    try:
        compiler = toolchain.compiler("c")
    except BuildError:
        return dict.fromkeys(rendering.VARIANTS, Range(True, float("inf")))

    flags = _flags(precision)

    def measured(routines: Sequence[str], tier: str, arithmetic: str) -> dict[str, Range]:
        return _measured(compiler, flags, program, tier, routines, arithmetic)

    single = measured(rendering.ROUTINES, precision, "f32")
    if precision == "fast":
        single |= _better(measured(rendering.ROUTINES, precision, "half"), single)
    else:
        refused = [routine for routine, holds in single.items() if not holds.suffices]
        single |= _better(measured(refused, precision, "pairs"), single)
    half = single | _better(measured(rendering.ROUTINES, "half", "half"), single)
    return {
        (routine, kind): (half if kind == "half" else single)[routine]
        for routine, kind in rendering.VARIANTS
    }


def _better(found: Mapping[str, Range], than: Mapping[str, Range]) -> dict[str, Range]:
    """Those routines that leave no more to float64, or next to nothing."""
    return {
        routine: holds
        for routine, holds in found.items()
        if holds.share_outside <= max(than[routine].share_outside, _RARE)
    }


def _measured(
    compiler: toolchain.Compiler,
    flags: Sequence[str],
    program: Program,
    precision: str,
    routines: Sequence[str],
    arithmetic: str,
) -> dict[str, Range]:
    """Where float32 code of some routines is accurate."""
    if not routines:
        return {}
    variants = [(name, arithmetic) for name in routines]
    code = functions(program, variants, "measured", ARITHMETICS, HALF_NAMES)
    arguments = [*compiler.flags, *flags, "-lm"]
    library: Any = ctypes.CDLL(str(toolchain.built(compiler, "cuda", TWIN + code, *arguments)))
    return {
        name: single_range(
            getattr(program, name),
            precision,
            arithmetic,
            getattr(library, f"measured_{name}_{arithmetic}"),
        )
        for name in routines
    }


# what PyTorch calls

_LIBRARY: Any = cast("Any", torch.library).Library("actsearch_cuda", "DEF")
_LIBRARY.define("activation(Tensor[] variables, int kernel) -> Tensor")
_LIBRARY.define("activation_backward(Tensor dy, Tensor[] variables, int kernel) -> Tensor[]")
_LIBRARY.define("population(Tensor[] variables, int[] kernels) -> Tensor")
_LIBRARY.define("population_backward(Tensor dy, Tensor[] variables, int[] kernels) -> Tensor[]")


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


def population_forward(variables: Sequence[Tensor], kernels: Sequence[int]) -> Tensor:
    """y, one slice after the other."""
    own = _population(tuple(kernels))
    channels = own.channels_of(variables)
    inputs, parameters = variables[: own.inputs], variables[own.inputs :]
    y = empty_slices(inputs[0])
    if channels is None:
        for k, given in enumerate(own.split(parameters)):
            y[k] = forward([*(x[k] for x in inputs), *given], kernels[k])
    elif y.numel():
        own.launch("forward", inputs, parameters, [y], channels, sums=False)
    return y


def population_backward(
    dy: Tensor, variables: Sequence[Tensor], kernels: Sequence[int]
) -> list[Tensor]:
    """The gradients for the inputs and all parameters, from that for y."""
    own = _population(tuple(kernels))
    channels = own.channels_of(variables)
    inputs, parameters = variables[: own.inputs], variables[own.inputs :]
    slopes = [empty_slices(inputs[0]) for _ in inputs]
    if channels is None:
        for k, given in enumerate(own.split(parameters)):
            found = backward(dy[k], [*(x[k] for x in inputs), *given], kernels[k])
            for slope in slopes[: own.inputs]:
                slope[k] = found.pop(0)
            slopes += found
        return slopes
    if slopes[0].numel() == 0:
        return [*slopes, *(torch.zeros_like(parameter) for parameter in parameters)]
    given = [dy.to(slopes[0].dtype), *inputs]
    return [*slopes, *own.launch("backward", given, parameters, slopes, channels, sums=True)]


def _fake_forward(variables: Sequence[Tensor], kernel: int) -> Tensor:
    x, _, _ = _KERNELS[kernel].check(variables)
    return torch.empty_like(x)


def _fake_backward(dy: Tensor, variables: Sequence[Tensor], kernel: int) -> list[Tensor]:
    x, inputs, parameters = _KERNELS[kernel].check(variables)
    slopes = [torch.empty_like(x) for _ in inputs]
    return [*slopes, *(torch.empty_like(parameter) for parameter in parameters)]


def _fake_population(variables: Sequence[Tensor], kernels: Sequence[int]) -> Tensor:
    _population(tuple(kernels)).channels_of(variables)
    return empty_slices(variables[0])


def _fake_population_backward(
    dy: Tensor, variables: Sequence[Tensor], kernels: Sequence[int]
) -> list[Tensor]:
    inputs = _population(tuple(kernels)).inputs
    slopes = [empty_slices(variables[0]) for _ in range(inputs)]
    return [*slopes, *(torch.empty_like(parameter) for parameter in variables[inputs:])]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.number = inputs
    flat = [t for given in tensors for t in ([given] if isinstance(given, Tensor) else given)]
    ctx.save_for_backward(*flat)


def _gradient(operator: Any) -> Callable[..., Any]:
    """The derivative of a forward operator, by the backward one."""

    def gradient(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        return operator(dy, list(ctx.saved_tensors), ctx.number), None

    return gradient


def _known(ctx: Any, weights: Sequence[Tensor | None]) -> list[Tensor]:
    """The weights of the gradients for the variables."""
    saved = ctx.saved_tensors[1:]
    return [torch.zeros_like(t) if w is None else w for w, t in zip(weights, saved, strict=True)]


def _second(ctx: Any, weights: Sequence[Tensor | None]) -> tuple[Any, ...]:
    slopes = _KERNELS[ctx.number].composed._Gradient.backward(ctx, *_known(ctx, weights))
    return slopes[0], list(slopes[1:]), None


def _population_second(ctx: Any, weights: Sequence[Tensor | None]) -> tuple[Any, ...]:
    own = _population(tuple(ctx.number))
    dy, *variables = ctx.saved_tensors
    known, count = _known(ctx, weights), own.inputs
    stacks: list[list[Tensor]] = [[] for _ in range(1 + count)]
    others: list[Tensor] = []
    both = zip(own.split(variables[count:]), own.split(known[count:]), strict=True)
    for k, (given, wanted) in enumerate(both):
        saved = dy[k], *(x[k] for x in variables[:count]), *given
        slice_ = SimpleNamespace(saved_tensors=saved)
        slopes = own.each[k].composed._Gradient.backward(
            slice_, *(w[k] for w in known[:count]), *wanted
        )
        for stack, slope in zip(stacks, slopes, strict=False):
            stack.append(slope)
        others += slopes[1 + count :]
    first, *rest = map(torch.stack, stacks)
    return first, [*rest, *others], None


_OPERATORS: Any = torch.ops.actsearch_cuda
for _name, _function, _fake, _derivative in (
    ("activation", forward, _fake_forward, _gradient(_OPERATORS.activation_backward.default)),
    ("activation_backward", backward, _fake_backward, _second),
    (
        "population",
        population_forward,
        _fake_population,
        _gradient(_OPERATORS.population_backward.default),
    ),
    (
        "population_backward",
        population_backward,
        _fake_population_backward,
        _population_second,
    ),
):
    _LIBRARY.impl(_name, _function, "CUDA")
    _qualified = f"actsearch_cuda::{_name}"
    torch.library.register_fake(_qualified, _fake, lib=_LIBRARY)
    torch.library.register_autograd(_qualified, _derivative, setup_context=_save, lib=_LIBRARY)


def function(program: Program, precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters), differentiable twice; kernels are compiled when they are used."""
    kernel = number(program, precision)
    run, slopes = _OPERATORS.activation.default, _OPERATORS.activation_backward.default
    return _on_cuda(through_operators(run, slopes, kernel, lambda: composable.build(program)))


def population(programs: Sequence[Program], precision: str) -> Callable[..., Any]:
    """f(*inputs, *parameters of the first activation, *of the second, …) of stacked inputs."""
    kernels = [number(program, precision) for program in programs]
    run, slopes = _OPERATORS.population.default, _OPERATORS.population_backward.default

    def composed() -> Callable[..., Any]:
        return stacked(programs, [composable.build(program) for program in programs])

    return _on_cuda(through_operators(run, slopes, kernels, composed))


def _on_cuda(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function that says so where it is given tensors of the CPU."""

    def activation(*tensors: Tensor) -> Tensor:
        if tensors[0].is_cpu and DRIVER.device_type == "cuda":
            shape = list(tensors[0].shape)
            raise ValueError(f"the target cuda computes on cuda, not on a {shape} of the cpu")
        return run(*tensors)  # type: ignore[no-any-return]

    activation.gradients = run.gradients  # type: ignore[attr-defined]
    return activation


def number(program: Program, precision: str) -> int:
    """What the operators call an activation: the same in every process."""
    text = f"{program.expression}{program.parameters}{precision}{rendering.scalar(program)}"
    found = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
    _KERNELS.setdefault(found, Kernel(program, precision))
    return found
