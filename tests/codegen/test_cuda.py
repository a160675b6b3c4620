"""The target `cuda`: its arithmetic and its kernels run on the CPU, its machine code is compiled.

What the CPU runs is the generated source itself, as C++. Its arithmetic is the same, bit by bit,
but for the device's inverses, powers of 2 and roots, which are as far off here as they may be.
"""

from __future__ import annotations

import ctypes
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from actsearch.codegen import compile, export, gradient, program
from actsearch.codegen.programs import DY, Program
from actsearch.codegen.targets import BuildError, build_best, cuda
from actsearch.codegen.targets.cpu.accuracy import Range
from actsearch.codegen.targets.cuda import nvrtc, operator, rendering
from actsearch.codegen.targets.cuda.half import INVERSE, TWIN
from actsearch.grammar import Expression, named_activations, parse
from actsearch.grammar.evaluate import evaluate, evaluate_numpy
from actsearch.grammar.expression import Input, Parameter
from actsearch.grammar.operators import OPERATORS
from tests.codegen import instructions
from tests.codegen.cuda_binding import bound
from tests.codegen.cuda_emulator import Emulator, built, emulated
from tests.codegen.operator_text import operator_text
from tests.codegen.test_targets_contract import CANCELLING

ARCHITECTURES = (80, 90)
TYPES = {"float": 4, "double": 2, "half16": 8, "brain16": 8}
ANYWHERE = dict.fromkeys(rendering.VARIANTS, Range(True, math.inf))
NAMED = {name: row.expression for name, row in named_activations().items()}
NOTHING = 1e-36
EXTREMES = [1e-42, 1e-30, 1e-12, 1e-5, 0.3, 5, 12, 30, 87.5, 89, 110, 1e4, 3e9, 1e25, 3e38]

needs_nvrtc = pytest.mark.skipif(not nvrtc.available(), reason="needs the extra cuda (NVRTC)")


# accuracy


@cache
def scalars() -> Any:
    """A library of the scalar functions of every named activation, as loops over arrays."""
    programs = [program(expression) for expression in NAMED.values()]
    return library([(compiled, operator.ranges(compiled, "accurate")) for compiled in programs])


def library(activations: Iterable[tuple[Program, rendering.Ranges]]) -> Any:
    """Scalar functions, by number."""
    parts = [rendering.PRELUDE]
    for number, (compiled, ranges) in enumerate(activations):
        code = rendering.elementwise(compiled, ranges).removeprefix(rendering.PRELUDE)
        parts.append(f"namespace n{number} {{ {code} }}")
        for name in rendering.ROUTINES:
            routine = getattr(compiled, name)
            given = ", ".join(f"in[{k}][i]" for k in range(len(routine.arguments)))
            results = range(len(routine.results))
            single = ", ".join(f"out[{k}][i]" for k in results)
            again = " ".join(f"out[{k}][i] = found.out{k};" for k in results)
            parts.append(
                f'extern "C" void {name}_{number}(long n, int is_half, float **in, float **out) {{'
                f" using namespace n{number};"
                f" for (long i = 0; i < n; ++i) if ({name}_of({given}, {single}, is_half)) {{"
                f" const {name}_results found = {name}_again({given}); {again} }} }}"
            )
    return built("\n".join(parts), ())


def computed(
    number: int, name: str, arguments: list[NDArray[np.float32]], is_half: bool = False
) -> list[Any]:
    """What a scalar function of a named activation computes."""
    results = getattr(program(list(NAMED.values())[number]), name).results
    return called(getattr(scalars(), f"{name}_{number}"), arguments, len(results), is_half)


def called(
    function: Any, arguments: list[NDArray[np.float32]], count: int, is_half: bool = False
) -> list[Any]:
    """What a scalar function computes."""
    results = [np.empty_like(arguments[0]) for _ in range(count)]
    pointers = [
        (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        for arrays in (arguments, results)
    ]
    function(ctypes.c_long(len(arguments[0])), ctypes.c_int(is_half), *pointers)
    return results


def scale(formula: Expression, given: dict[str, Any], x: NDArray[Any]) -> NDArray[Any]:
    """What errors are relative to: |f|, and within an octave of a root the largest |f| there."""
    inputs = [name for name in ("x", "gate") if name in given]
    around = [
        np.broadcast_to(evaluate_numpy(formula, {**given, n: given[n] * 2.0**octave}), x.shape)
        for octave in np.linspace(-1, 1, 41)
        for n in inputs
    ]
    exact = np.broadcast_to(evaluate_numpy(formula, {**given, "x": x}), x.shape)
    sides = np.sign(np.nan_to_num(np.array(around)))
    root = (sides.max(0) > 0) & (sides.min(0) < 0) | (sides == 0).any(0)
    largest = np.nanmax(np.abs(around), axis=0)
    return np.where(root, np.maximum(largest, np.abs(exact)), np.abs(exact))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_activations_are_accurate(name: str) -> None:
    """2 ulp for values and 4 for gradients away from roots, against mpmath, at any size of x."""
    number, expression = list(NAMED).index(name), NAMED[name]
    compiled = program(expression)
    generator = np.random.default_rng(number)
    sizes = np.concatenate([generator.uniform(0, 8, 30), EXTREMES])
    x = np.concatenate([sizes, -sizes]).astype(np.float32)
    gate = generator.normal(0, 2, len(x)).astype(np.float32)
    arrays: dict[Any, Any] = {Input("x"): x, Input("gate"): gate, DY: np.ones_like(x)}
    for p in compiled.parameters:
        arrays[p] = np.full_like(x, p.initial)
    names = {node.name for node in compiled.variables}
    given = {n.name: arrays[n].astype(float) for n in arrays if n.name in names}
    slopes = gradient(expression)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of points without a value
        for routine in (compiled.forward, compiled.backward):
            results = computed(number, routine.name, [arrays[a] for a in routine.arguments])
            for output, found in zip(routine.outputs, results, strict=True):
                if isinstance(compiled.variables[0], Parameter):
                    continue
                formula = expression if routine.name == "forward" else slopes[output]
                allowed = 2.0 if routine.name == "forward" else 4.0
                terms = np.abs(x) + (routine.name != "forward")
                needed = {node.name for node in (*formula.inputs, *formula.parameters)}
                points = {n: v for n, v in given.items() if n in needed | {"x"}}
                sizes = scale(formula, points, x.astype(float))
                if name in CANCELLING:  # relative to their terms
                    sizes = np.fmax(sizes, terms)
                compare(formula, points, sizes, found, allowed)


def compare(
    formula: Expression,
    given: dict[str, Any],
    sizes: NDArray[Any],
    found: NDArray[Any],
    allowed: float,
) -> None:
    """Errors in units in the last place of `sizes`; what float32 hardly holds counts as 0."""
    exact = evaluate(formula, given, backend="mpmath", digits=40)
    for k, value in enumerate(np.broadcast_to(exact, found.shape)):
        if not mpmath.isfinite(value) or abs(value) > np.finfo(np.float32).max:
            continue
        size = sizes[k] if np.isfinite(sizes[k]) else float(abs(value))
        unit = np.spacing(np.float32(max(min(size, 3e38), np.finfo(np.float32).tiny)))
        off = abs(mpmath.mpf(float(found[k])) - value)
        error = float(off / mpmath.mpf(float(unit)))
        shown = f"{formula} at {given['x'][k]}: {found[k]}, not {float(value)}: {error} ulp"
        assert error <= allowed or off < NOTHING, shown


HALF_FUNCTIONS: dict[str, Any] = {
    "exp": np.exp,
    "sqrt": np.sqrt,
    "sigmoid": scipy.special.expit,
    "softplus": lambda a: np.logaddexp(a, 0.0),
    "tanh_of_softplus": lambda a: np.tanh(np.logaddexp(a, 0.0)),
    "sigmoid_of_softplus": lambda a: scipy.special.expit(2 * np.logaddexp(a, 0.0)),
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "atan": np.arctan,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
}


@pytest.mark.parametrize("name", [*HALF_FUNCTIONS, "div"])
def test_functions_for_half_types(name: str) -> None:
    """At all that bfloat16 has: within 16 units of float32, 64 where float16 has none, or lost."""
    a = np.arange(2**16, dtype=np.uint32) << 16
    x = np.tile(a.view(np.float32), 16 if name == "div" else 1)
    y = np.random.default_rng(1).permutation(x)
    has_lost = "int *lost" in rendering.HALF.partition(f" {name}_half(")[2].partition("{")[0]
    given = {"div": "a[i], b[i]", "sigmoid_of_softplus": "a[i], 2.0f"}.get(name, "a[i]")
    call = f"{name}_half({given}{', &is_lost' if has_lost else ''})"
    loop = "for (long i = 0; i < n; ++i) { int is_lost = 0; to[i] = " + call
    head = "void all(long n, const float *a, const float *b, float *to, int *lost)"
    code = f'extern "C" {head} {{ {loop}; lost[i] = is_lost != 0; }} }}'
    found, lost = np.empty_like(x), np.empty(len(x), np.int32)
    arrays = (x, y, found, lost)
    built(rendering.complete(code), ()).all(ctypes.c_long(len(x)), *(pointer(v) for v in arrays))
    with np.errstate(all="ignore"):
        wide = x.astype(float)
        exact = wide / y if name == "div" else HALF_FUNCTIONS[name](wide)
        rounded = exact.astype(np.float32)
        units = np.spacing(np.maximum(np.abs(rounded), np.finfo(np.float32).tiny)).astype(float)
        off = np.abs(found - exact) / units
    same = (found == rounded) | np.isnan(found) & np.isnan(rounded)
    is_few = (np.abs(exact) > 2**-25) & (np.abs(exact) < 2**16)
    wrong = ~same & ~(off <= np.where(is_few, 16, 64)) & (lost == 0)
    assert not wrong.any(), (x[wrong][:3], y[wrong][:3], found[wrong][:3], exact[wrong][:3])
    assert name == "div" or not lost[np.abs(x) < 9].any()


def test_where_half_arithmetic_is_used() -> None:
    """By half types, and by float32 in the precision "fast"; not where it would be inaccurate."""
    compiled, number = program(NAMED["silu"]), list(NAMED).index("silu")
    accurate, fast = (operator.ranges(compiled, precision) for precision in ("accurate", "fast"))
    for routine in rendering.ROUTINES:
        assert accurate[routine, "single"].arithmetic == "f32"
        assert accurate[routine, "half"].arithmetic == "half"
        assert fast[routine, "single"].arithmetic == "half"
    x = np.linspace(-8, 8, 1001).astype(np.float32)
    single, half = (computed(number, "forward", [x], is_half)[0] for is_half in (False, True))
    assert not np.array_equal(single, half)
    text = "div(cos(glu(cosh(x), -x)), -glu(atan(x), atan(x)) + eps)"  # cancels with inverses off
    cancelling = operator.ranges(program(parse(text)), "accurate")
    assert cancelling["backward", "half"].bound < 100
    assert TWIN.count("float nearly_inverse(") == TWIN.count(INVERSE) == 1


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_nearly_correctly_rounded(name: str, dtype: torch.dtype) -> None:
    """At all their numbers: values within 1/2 + 1/64 unit, gradients 1/2 + 1/8, but near roots."""
    number, expression = list(NAMED).index(name), NAMED[name]
    compiled = program(expression)
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    x = every[every.isfinite()].float()
    gate = torch.randn(len(x), generator=torch.Generator().manual_seed(number)).to(dtype).float()
    given: dict[Any, Tensor] = {Input("x"): x, Input("gate"): gate, DY: torch.ones_like(x)}
    given |= {p: torch.full_like(x, p.initial or 0.0) for p in compiled.parameters}
    wide = [given[node].double() for node in compiled.inputs]
    wide += [torch.tensor([given[p][0]]).double() for p in compiled.parameters]
    function, slopes = compile(expression, "torch")._function, gradient(expression)
    exact = [function(*wide), *function.gradients(given[DY].double(), *wide)]
    formulas = [expression, *(slopes[node.name] for node in compiled.inputs)]
    found = []
    for routine in (compiled.forward, compiled.backward):
        arguments = [given[node].numpy() for node in routine.arguments]
        found += computed(number, routine.name, arguments, is_half=True)
    points = {node.name: given[node].double().numpy() for node in given}
    for k, (formula, values, correct) in enumerate(zip(formulas, found, exact, strict=False)):
        allowed = 1 / 2 + (1 / 64 if k == 0 else 1 / 8)
        values = torch.from_numpy(values).to(dtype).double()
        off = (values - correct).abs()
        fails = correct.abs().to(dtype).isfinite() & ~(off <= allowed * unit(correct, dtype))
        if fails.any():
            there = {n: v[fails.numpy()] for n, v in points.items()}
            needed = {node.name for node in (*formula.inputs, *formula.parameters)} | {"x"}
            sizes = scale(formula, {n: v for n, v in there.items() if n in needed}, there["x"])
            if name in CANCELLING:
                sizes = np.fmax(sizes, np.abs(there["x"]) + k)
            loose = allowed * unit(torch.from_numpy(sizes.copy()), dtype)
            worst = off[fails] / loose
            shown = f"{formula} at {there['x'][int(worst.argmax())]}: {float(worst.max())}"
            assert bool((worst <= 1).all()), shown


def unit(sizes: Tensor, dtype: torch.dtype) -> Tensor:
    """The unit in the last place of a half type."""
    digits = {torch.float16: 10, torch.bfloat16: 7}[dtype]
    least = torch.finfo(dtype).smallest_normal
    exponents = torch.frexp(sizes.abs().clamp(min=least))[1] - 1
    return torch.ldexp(torch.ones_like(sizes, dtype=torch.float64), exponents - digits)


def test_elements_out_of_the_measured_range_are_computed_in_float64() -> None:
    """But not 0, from which the range may be a distance away."""
    compiled = program(parse("cos(exp(sin(3*x)))"))
    functions = library(
        (compiled, dict.fromkeys(rendering.VARIANTS, range_))
        for range_ in (Range(True, 2.0, 0.5), Range(True, math.inf), Range(False, math.inf))
    )
    x = np.concatenate([np.linspace(-3, 3, 1001), np.zeros(1)]).astype(np.float32)
    inside = (np.abs(x) >= 0.5) & (np.abs(x) <= 2.0) | (x == 0)
    for name, arguments in (("forward", [x]), ("backward", [np.ones_like(x), x])):
        mixed, single, wide = (
            called(getattr(functions, f"{name}_{number}"), arguments, 1)[0] for number in range(3)
        )
        assert np.array_equal(mixed, np.where(inside, single, wide))
        for part in (inside, ~inside):
            assert not np.array_equal(single[part], wide[part])


# kernels, emulated


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulated(monkeypatch) as found:
        yield found


def agree(text: str, inputs: list[Tensor], channels: int = 1) -> None:
    """Values, gradients and second derivatives are those of the target `torch`."""
    module = compile(text, "torch", num_parameters=channels)
    function = operator.function(program(parse(text)), "accurate")
    wide = [t.detach().double().requires_grad_() for t in (*inputs, *module.parameters())]
    narrow = [t.detach().requires_grad_() for t in (*inputs, *module.parameters())]
    y, expected = function(*narrow), module._function(*wide)
    tolerance = {"rtol": 8e-3 if y.dtype == torch.bfloat16 else 2e-5, "atol": 2e-5}
    if y.dtype == torch.float16:
        tolerance["rtol"] = 1e-3
    torch.testing.assert_close(y.double(), expected, **tolerance)
    assert y.stride() == torch.empty_like(inputs[0]).stride()
    weights = torch.randn(y.shape)
    slopes = torch.autograd.grad(y, narrow, weights.to(y.dtype), create_graph=True)
    exact = torch.autograd.grad(expected, wide, weights.to(y.dtype).double(), create_graph=True)
    for found, correct, variable in zip(slopes, exact, narrow, strict=True):
        assert found.dtype == variable.dtype
        size = float(correct.detach().abs().max()) if correct.numel() else 0.0
        loose = {"rtol": tolerance["rtol"], "atol": tolerance["rtol"] * max(size, 1.0)}
        torch.testing.assert_close(found.double(), correct, **loose)
    if y.dtype == torch.float32 and y.numel():
        second = torch.autograd.grad(slopes[0].sum(), narrow, allow_unused=True)
        correct_second = torch.autograd.grad(exact[0].sum(), wide, allow_unused=True)
        for found, correct in zip(second, correct_second, strict=True):
            if correct is not None and found is not None:
                torch.testing.assert_close(found.double(), correct, rtol=1e-3, atol=1e-3)


SHARED = "x*sigmoid(beta*x) + c; beta = 1.5, c = 0.5"
CHANNELS = "x*sigmoid(beta*x) + c; beta = 1.5 per channel, c = 0.5"
LAST = "x*sigmoid(beta*x); beta = 1.5 per channel dim -1"
GATED = "x*sigmoid(beta*gate); beta = 1.25"


@pytest.mark.parametrize(
    ("text", "shape", "kernel"),
    [
        (SHARED, (3, 5), "<float, 1, true>"),
        (SHARED, (8, 64), "<float, 4, true>"),
        (SHARED, (), "<float, 1, true>"),
        (CHANNELS, (3, 4, 9, 8), "<float, 4, true>"),
        (CHANNELS, (3, 4, 5), "<float, 4, false>"),
        (CHANNELS, (70, 3), "<float, 1, false>"),
        (LAST, (70, 2, 40), "<float, 4, false>"),
    ],
)
def test_kernels(emulator: Emulator, text: str, shape: tuple[int, ...], kernel: str) -> None:
    channels = 1 if text is SHARED else shape[-1] if text is LAST else shape[1]
    agree(text, [torch.randn(shape)], channels)
    assert emulator.launched == [f"forward_kernel{kernel}", f"backward_kernel{kernel}"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(emulator: Emulator, dtype: torch.dtype) -> None:
    agree(CHANNELS, [torch.randn(3, 4, 9, 8).to(dtype)], 4)
    assert len(emulator.launched) == 2


def test_lost_elements_are_computed_again(emulator: Emulator) -> None:
    """Each of those that a thread has; the others are as accurate as float32 is."""
    lost = torch.tensor([-90.0, 95.0, -100.0, 300.0])
    x = torch.linspace(-12, 12, 256)
    places = torch.tensor([1, 7, 10, 12, 13, 30, 31, 63])
    x[places] = lost.repeat(2)
    compiled = program(parse("x*sigmoid(x)"))
    function = operator.function(compiled, "accurate")
    y, slope = function(x), function.gradients(torch.ones_like(x), x)[0]
    wide = compile("x*sigmoid(x)", "torch")._function
    exact = wide(x.double()), wide.gradients(torch.ones_like(x).double(), x.double())[0]
    for found, correct in zip((y, slope), exact, strict=True):
        torch.testing.assert_close(
            found.double(), correct, rtol=3e-7, atol=1e-7 if found is slope else 1e-44
        )


def test_layouts_are_read_in_place(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels-last, and the two halves of a gated input; what is strided otherwise is copied."""
    copies: list[Tensor] = []
    copy = Tensor.copy_

    def counted(to: Tensor, source: Tensor) -> Tensor:
        copies.append(source)
        return copy(to, source)

    monkeypatch.setattr(Tensor, "copy_", counted)
    function = operator.function(program(parse(CHANNELS)), "accurate")
    gated = operator.function(program(parse(GATED)), "accurate")
    beta, c = torch.full((4,), 1.5), torch.tensor([0.5])
    with torch.no_grad():
        function(torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last), beta, c)
        gated(*torch.randn(6, 5, 80).chunk(2, -1), beta[:1])
        gated(*torch.randn(6, 80, 4).chunk(2, 1), beta[:1])
        assert not copies
        function(torch.randn(2, 4, 3, 10)[..., ::2], beta, c)
        assert len(copies) == 1
    monkeypatch.undo()


def test_layouts_agree(emulator: Emulator) -> None:
    agree(CHANNELS, [torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last)], 4)
    agree(GATED, list(torch.randn(6, 5, 80).chunk(2, -1)))
    agree(CHANNELS, [torch.randn(2, 4, 3, 10)[..., ::2]], 4)
    agree(SHARED, [torch.randn(0, 3)])


def test_large_sums_are_in_steps_and_repeat(emulator: Emulator) -> None:
    """Blocks that go through several tiles; two runs agree bit by bit."""
    x = torch.randn(40_003, 7)
    function = operator.function(program(parse(CHANNELS)), "accurate")
    beta, c = torch.full((7,), 1.5), torch.tensor([0.5])
    first, again = (function.gradients(torch.ones_like(x), x, beta, c) for _ in range(2))
    wide = [t.double() for t in (x, beta, c)]
    exact = compile(CHANNELS, "torch", num_parameters=7)._function.gradients(
        torch.ones_like(wide[0]), *wide
    )
    for one, two, correct in zip(first, again, exact, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one.double(), correct, rtol=1e-5, atol=1e-3)


def test_two_dimensions_of_channels_are_left_to_pytorch(emulator: Emulator) -> None:
    text = "x*sigmoid(b*x) + c; b = 1.5 per channel, c = 0.5 per channel dim -1"
    function = operator.function(program(parse(text)), "accurate")
    x, b, c = torch.randn(2, 3, 5), torch.rand(3), torch.rand(5)
    expected = x * torch.sigmoid(b[:, None] * x) + c
    torch.testing.assert_close(function(x, b, c), expected)
    assert not emulator.launched


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_opcheck(emulator: Emulator) -> None:
    compiled = program(parse(CHANNELS))
    kernel = operator.number(compiled, "accurate")
    x = torch.randn(3, 4, 5, requires_grad=True)
    variables = [x, torch.full((4,), 1.5, requires_grad=True), torch.ones(1, requires_grad=True)]
    torch.library.opcheck(torch.ops.actsearch_cuda.activation.default, (variables, kernel))
    plain = [v.detach() for v in variables]
    arguments = (torch.ones_like(x).detach(), plain, kernel)
    torch.library.opcheck(torch.ops.actsearch_cuda.activation_backward.default, arguments)


# machine code


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_activations_compile(name: str, architecture: int) -> None:
    source = rendering.device(program(NAMED[name]), ANYWHERE)
    kernels = ["forward_kernel<float, 4, true>", "backward_kernel<float, 1, true>"]
    code, names = nvrtc.compile(source, architecture, kernels)
    assert code[:4] == b"\x7fELF"
    assert set(names) == set(kernels)


@needs_nvrtc
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operators_compile(name: str) -> None:
    source = rendering.device(program(parse(operator_text(name))), ANYWHERE)
    architecture = ARCHITECTURES[len(name) % 2]  # either will do
    assert nvrtc.compile(source, architecture, ["backward_kernel<double, 1, true>"])
    assert nvrtc.compile(source, architecture, ["backward_kernel<float, 1, true>"])


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", TYPES)
def test_every_instance_compiles(kind: str, architecture: int) -> None:
    source = rendering.device(program(parse("x*relu(beta*gate); beta = 1 per channel")), ANYWHERE)
    kernels = [
        f"{routine}_kernel<{kind}, {width}, {by_row}>"
        for routine in rendering.ROUTINES
        for width in (1, TYPES[kind])
        for by_row in ("true", "false")
    ]
    assert len(nvrtc.compile(source, architecture, kernels, "-DFAST")[1]) == 8


@needs_nvrtc
@pytest.mark.skipif(not instructions.disassembler(), reason="needs nvdisasm, of CUDA or Triton")
@pytest.mark.parametrize("text", ["silu(x)", "mish(x)", "x*atan(x)", CHANNELS])
def test_half_types_take_few_instructions(text: str) -> None:
    """An H100 begins 35 of them in the time of 4 bytes, 53 in that of 6, and 4 special ones."""
    compiled = program(parse(text))
    for routine, allowed in (("forward", 35), ("backward", 53)):
        found = instructions.count(compiled, routine, "brain16")
        assert found.instructions <= allowed
        assert found.special <= 4
        assert found.local == 0


def test_sums_use_no_atomics() -> None:
    source = rendering.source(program(parse(CHANNELS)))
    assert not re.search(r"atomic", source)


@needs_nvrtc
def test_nvrtc_says_what_is_wrong() -> None:
    with pytest.raises(BuildError, match=r"(?s)could not compile.*activation.cu\(1\): error"):
        nvrtc.compile("int x = ;", 90, [])


# exported files


@pytest.mark.timeout(900)
def test_the_binding_of_an_exported_file(tmp_path: Path) -> None:
    """Built with g++ and a CUDA runtime of our own; nvcc builds the same text."""
    text = "x*sigmoid(beta*x) + gate*c; beta = 1.5 per channel, c = 0.5"
    path = export(text, "cuda", tmp_path)
    module = bound(path.read_text(), tmp_path)
    module_here = compile(text, "torch", num_parameters=4)
    for x in (
        torch.randn(3, 4, 9, 8),
        torch.randn(3, 4, 5),
        torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last),
        torch.randn(2, 4, 3, 5).double(),
        torch.empty(0, 4),
    ):
        variables = [x, torch.randn_like(x), torch.rand(4), torch.rand(1)]
        for variable in variables:
            variable.requires_grad_()
        y, expected = module.activation(variables), module_here._function(*variables)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        slopes, exact = (torch.autograd.grad(v.sum(), variables) for v in (y, expected))
        for found, correct in zip(slopes, exact, strict=True):
            torch.testing.assert_close(found, correct, rtol=1e-4, atol=1e-4)
    small, whole = torch.ones(2, 3), torch.ones(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shape \[4\].*dimension 1.*\[2, 3\]"):
        module.forward([small, small, torch.ones(4), torch.ones(1)])
    with pytest.raises(TypeError, match=r"floating-point.*\[2, 4\]"):
        module.forward([whole, whole, torch.ones(4), torch.ones(1)])


# life without a GPU


@needs_nvrtc
def test_tensors_on_the_cpu_are_refused() -> None:
    activation = compile("x*tanh(x)", backend="cuda")
    with pytest.raises(ValueError, match=r"computes on cuda.*\[2, 3\].*cpu"):
        activation(torch.ones(2, 3))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    nvrtc.library.cache_clear()
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter(["/no/such/library.so"]))
    assert not cuda.available()
    with pytest.raises(BuildError, match=r"pip install 'actsearch\[cuda\]'"):
        compile("x*sin(x)", backend="cuda")
    row, _ = build_best(program(parse("x*sin(x)")), "accurate", "xpu")
    assert row.name == "torch"
    nvrtc.library.cache_clear()


@needs_nvrtc
@pytest.mark.parametrize(
    "text",
    [
        "x*row + T*sizes",
        "x*out0_sums + v1 + t1",
        "x*int_ + exp_f32",
        "exp(x*exp_half) + found*x/(j + again*x)",
        "forward_results*x + forward_of + forward_f64 + backward_half + backward_again",
    ],
)
def test_parameters_may_have_any_name(text: str) -> None:
    compiled = program(parse(text))
    source = rendering.device(compiled, operator.ranges(compiled, "accurate"))
    assert nvrtc.compile(source, 90, ["backward_kernel<float, 4, true>"])
