"""Populations: the single modules, slice for slice and bit by bit, in one call."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from actsearch.codegen import (
    Population,
    compile,
    compile_population,
    parameter_groups,
    program,
)
from actsearch.codegen.targets import PRECISIONS, cuda, target
from actsearch.codegen.targets.cpu import kernels
from actsearch.codegen.targets.cuda import nvrtc, operator, slices
from actsearch.grammar import parse
from actsearch.grammar.errors import UsageError
from tests.codegen.cuda_emulator import Emulator, emulated
from tests.codegen.test_cuda import ANYWHERE, ARCHITECTURES

POOL = (
    "x*sigmoid(beta*x); beta = 1.25",
    "x*sigmoid(beta*x) + shift; beta = 1.5 per channel, shift = -0.5",
    "max(x, slope*x); slope = 0.3 per channel dim -1",
    "x*erfc(-x/sqrt(2))/2",
    "x - tanh(x)",  # its float32 code is refused: computed in float64
    "2*pi",
    "_; _ = 0.5 per channel",
)
GATED = ("x*sigmoid(gate)", "x*tanh(beta*gate)")
CHANNELS = 5
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS: dict[str, Callable[..., Tensor]] = {
    "contiguous": lambda k, n: torch.randn(k, n, CHANNELS, CHANNELS),
    "slices interleaved": lambda k, n: torch.randn(n, CHANNELS, k, CHANNELS).permute(2, 0, 1, 3),
    "strided": lambda k, n: torch.randn(k, n, CHANNELS, 2 * CHANNELS)[..., ::2],
    "permuted": lambda k, n: torch.randn(k, CHANNELS, CHANNELS, n).permute(0, 3, 2, 1),
    "expanded": lambda k, n: torch.randn(1, n, CHANNELS, 1).expand(k, n, CHANNELS, CHANNELS),
}


def derivatives(
    module: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Any], dy: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
    """The value, the gradients, and the gradients of all of these together."""
    y = module(x)
    slopes = torch.autograd.grad(y, [x, *parameters], dy, create_graph=True)
    total = torch.stack([slope.double().sum() for slope in slopes]).sum()
    again = torch.autograd.grad(total, [x, *parameters], allow_unused=True)
    return y, list(slopes), list(again)


def check(population: Population, x: Tensor, exact: bool = True) -> None:
    """Every slice is what its own module computes, derivatives included."""

    def same(found: Tensor | None, expected: Tensor | None) -> None:
        if found is None or expected is None:  # nothing depends on it
            assert found is None or not found.any()
            assert expected is None or not expected.any()
        elif exact:
            assert torch.equal(found, expected)
        else:
            torch.testing.assert_close(found, expected)

    dy = torch.randn(x.shape).to(x.dtype)
    whole = x.detach().requires_grad_()
    y, slopes, again = derivatives(population, whole, list(population.parameters()), dy)
    first = 1
    for k, activation in enumerate(population):
        own = list(activation.parameters())
        part = x.detach()[k].requires_grad_()
        expected, exact_slopes, exact_again = derivatives(activation, part, own, dy[k])
        assert torch.equal(y[k], expected)
        assert y[k].stride() == expected.stride()
        assert torch.equal(slopes[0][k], exact_slopes[0])
        same(None if again[0] is None else again[0][k], exact_again[0])
        last = first + len(own)
        for found, correct in zip(slopes[first:last], exact_slopes[1:], strict=True):
            same(found, correct)
        for second, correct_second in zip(again[first:last], exact_again[1:], strict=True):
            same(second, correct_second)
        first = last
    assert first == len(slopes)


@settings(max_examples=25)
@given(
    texts=st.lists(st.sampled_from(POOL), min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rows=st.sampled_from([0, 1, 3, 700]),
)
def test_slices_are_what_single_modules_compute(
    texts: list[str], dtype: torch.dtype, layout: str, rows: int
) -> None:
    population = compile_population(texts, num_parameters=CHANNELS)
    with torch.no_grad():
        for parameter in population.parameters():
            parameter.add_(torch.randn(parameter.shape) / 4)
    check(population, LAYOUTS[layout](len(texts), rows).to(dtype))


def test_gates() -> None:
    population = compile_population(GATED)
    x, gate = torch.randn(2, 2, 3, 4, 6)
    assert torch.equal(
        population(x, gate),
        torch.stack([f(*pair) for f, *pair in zip(population, x, gate, strict=True)]),
    )
    both = torch.cat([x, gate], -1).requires_grad_()
    assert torch.equal(population(both), population(x, gate))
    halved = compile_population(GATED, split_dimension=0)
    tall = torch.cat([x, gate], 1)
    assert torch.equal(halved(tall), population(x, gate))
    for module, halves in ((population, both.detach()), (halved, tall)):
        direct = module.direct()
        assert direct is not None
        value, gradients = direct
        leaf = halves.clone().requires_grad_()
        y = module(leaf)
        expected = torch.autograd.grad(y, [leaf, *module.parameters()], torch.ones_like(y))
        with torch.no_grad():
            assert torch.equal(value(halves), y)
            for found, exact in zip(gradients(torch.ones_like(y), halves), expected, strict=True):
                assert torch.equal(found, exact)


def test_values_do_not_depend_on_threads() -> None:
    population = compile_population(POOL, num_parameters=CHANNELS)
    x = torch.randn(len(POOL), 2000, CHANNELS, CHANNELS, requires_grad=True)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            y = population(x)
            found.append([y, *torch.autograd.grad(y.sum(), [x, *population.parameters()])])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_large_results_take_the_same_values() -> None:
    """Those that bypass the caches."""
    population = compile_population(("x*sigmoid(x)", "x*sigmoid(beta*x)"))
    streamed = 1 << 23  # elements of two bytes
    for rows in (streamed, streamed + 1):
        x = torch.randn(2, rows)
        for dtype in (torch.float32, torch.bfloat16):
            y = population(x.to(dtype))
            assert all(torch.equal(y[k], population[k](x[k].to(dtype))) for k in range(2))


def test_derivatives_against_differences() -> None:
    population = compile_population(POOL[:4], num_parameters=3, dtype=torch.float64)
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    arguments = (x, *population.parameters())
    assert torch.autograd.gradcheck(population._function, arguments)
    assert torch.autograd.gradgradcheck(population._function, arguments)


# one call


def test_one_operator_computes_all_slices() -> None:
    called: list[str] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            called.append(function.name())
            return function(*arguments, **(options or {}))

    population = compile_population(POOL[:3])
    x, dy = torch.randn(2, 3, 2, 4)
    x.requires_grad_()
    with Recorder():
        torch.autograd.grad(population(x), [x, *population.parameters()], dy)
    assert called == ["actsearch::population", "actsearch::population_backward"]


def test_opcheck() -> None:
    numbers = kernels.load([program(parse(text)) for text in POOL[:3]], "accurate")
    parameters = list(compile_population(POOL[:3]).parameters())
    x = torch.randn(2, 3, 5).transpose(0, 1).requires_grad_()
    plain = [x.detach(), *(parameter.detach() for parameter in parameters)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dynamo's own making
        torch.library.opcheck(torch.ops.actsearch.population.default, ([x, *parameters], numbers))
        torch.library.opcheck(
            torch.ops.actsearch.population_backward.default, (plain[0], plain, numbers)
        )


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of Dynamo's own making
def test_composition() -> None:
    """torch.compile, torch.func, meta and fake tensors."""
    torch._dynamo.reset()
    population = compile_population(POOL, num_parameters=CHANNELS)
    x = torch.randn(len(POOL), 2, CHANNELS, CHANNELS, requires_grad=True)
    variables = [x, *population.parameters()]
    compiled = torch.compile(population, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x).sum(), variables)
    expected = torch.autograd.grad(population(x).sum(), variables)
    for slope, exact in zip(found, expected, strict=True):
        assert torch.equal(slope, exact)
    gradient = torch.func.grad(lambda x: population(x).sum())(x.detach())
    torch.testing.assert_close(gradient, expected[0])
    exported = torch.export.export(population, (x.detach(),))
    torch.testing.assert_close(exported.module()(x.detach()), population(x))
    with FakeTensorMode():
        fake = compile_population(POOL, num_parameters=CHANNELS)
        y = fake(torch.empty(2, len(POOL), CHANNELS, CHANNELS).transpose(0, 1))
        assert y.stride() == (2 * CHANNELS**2, CHANNELS**2, CHANNELS, 1)
    on_meta = compile_population(POOL, num_parameters=CHANNELS, device="meta")
    assert on_meta(x.to("meta")).shape == x.shape


def test_other_targets_take_one_slice_after_the_other() -> None:
    for backend in ("torch", "torchscript"):
        population = compile_population(POOL[:3], backend, num_parameters=CHANNELS)
        check(population, torch.randn(3, 4, CHANNELS, CHANNELS), exact=False)
    long = " + ".join(f"sin({n}*x)" for n in range(1, 300))
    mixed = compile_population([long, "x*sigmoid(x)"])
    assert [activation.backend for activation in mixed] == ["torch", "cpu"]
    check(mixed, torch.randn(2, 3))


# life as a module


def test_members_share_their_parameters() -> None:
    population = compile_population(POOL[:3], num_parameters=CHANNELS)
    assert [name for name, _ in population.named_parameters()] == [
        *("0.beta", "1.beta", "1.shift", "2.slope")
    ]
    assert len(population) == 3
    assert [str(a.expression) for a in population] == [str(parse(text)) for text in POOL[:3]]
    survivors = Population([population[2], population[0]])
    x = torch.randn(3, 2, CHANNELS, CHANNELS)
    with torch.no_grad():
        for parameter in population.parameters():
            parameter.mul_(2)
    assert torch.equal(survivors(x[[2, 0]]), population(x)[[2, 0]])
    assert torch.equal(population[1:](x[1:]), population(x)[1:])
    assert population[-1] is population[2]
    twice = Population([population[0], population[0]])
    (slope,) = torch.autograd.grad(twice(x[:2]).sum(), list(twice.parameters()))
    parts = [torch.autograd.grad(population[0](x[k]).sum(), population[0].beta) for k in (0, 1)]
    torch.testing.assert_close(slope, parts[0][0] + parts[1][0])


def test_copies_pickles_and_state() -> None:
    population = compile_population(POOL[:3])
    with torch.no_grad():
        for parameter in population.parameters():
            parameter.add_(0.5)
    x = torch.randn(3, 4, 1)
    expected = population(x)
    fresh = compile_population(POOL[:3])
    fresh.load_state_dict(population.state_dict())
    for other in (fresh, copy.deepcopy(population), pickle.loads(pickle.dumps(population))):
        assert torch.equal(other(x), expected)


def test_optimizer_groups() -> None:
    population = compile_population(["x*beta; beta = 1 lr 0.1", "x*beta"])
    groups = parameter_groups(population, 0.5)
    assert [(len(group["params"]), group["lr"]) for group in groups[1:]] == [(1, 0.05), (1, 0.5)]


def test_direct_gradients_are_those_of_autograd() -> None:
    population = compile_population(POOL[:3])
    x = torch.randn(3, 4, 2, requires_grad=True)
    y = population(x)
    expected = torch.autograd.grad(y, [x, *population.parameters()], torch.ones_like(y))
    direct = population.direct()
    assert direct is not None
    with torch.no_grad():
        assert torch.equal(direct[0](x), y)
        for found, exact in zip(direct[1](torch.ones_like(y), x), expected, strict=True):
            assert torch.equal(found, exact)
    assert compile_population(POOL[:3], "torchscript").direct() is None


# errors


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_wrong_inputs(backend: str) -> None:
    population = compile_population(POOL[:2], backend, num_parameters=3)
    for shape in [(3, 2, 3), (1, 2, 3), ()]:
        with pytest.raises(ValueError, match=r"population of 2 .*\[2, \.\.\.\], got \["):
            population(torch.ones(shape))
    with pytest.raises(ValueError, match=r"shape \[3\].*dimension 1.*shape \[2, 4\]"):
        population(torch.ones(2, 2, 4))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=r"floating-point.*3\]"):
            population(torch.ones(2, 2, 3, dtype=dtype))
    with pytest.raises(TypeError, match="one tensor"):
        population(torch.ones(2, 2, 3), torch.ones(2, 2, 3))
    gated = compile_population(GATED, backend)
    with pytest.raises(ValueError, match=r"3\].*4\]"):
        gated(torch.ones(2, 3), torch.ones(2, 4))
    for shape in [(2,), (2, 3)]:
        with pytest.raises(ValueError, match="cannot halve"):
            gated(torch.ones(shape))


def test_wrong_populations() -> None:
    with pytest.raises(UsageError, match="at least one activation"):
        compile_population([])
    with pytest.raises(UsageError, match=r"or none does; of these 2 it is x\*gate"):
        compile_population(["relu(x)", "x*gate"])
    fast, accurate = (compile("x*tanh(x)", precision=precision) for precision in PRECISIONS)
    with pytest.raises(UsageError, match="have one precision, not 'accurate' and 'fast'"):
        Population([fast, accurate])


# CUDA, emulated


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulated(monkeypatch) as found:
        yield found


def on_cuda(texts: tuple[str, ...], channels: int) -> tuple[Population, Population]:
    """A population with the function of the target `cuda`, and one of the target `torch`."""
    population = compile_population(texts, "torch", num_parameters=channels)
    programs = [program(activation.expression) for activation in population]
    there = copy.deepcopy(population)
    there._function = operator.population(programs, "accurate")
    return there, population


def agree(there: Population, here: Population, x: Tensor) -> None:
    """The value and the first and second derivatives."""
    dy = torch.randn(x.shape)
    (y, *found), (expected, *exact) = (
        derivatives(module, x.detach().requires_grad_(), list(module.parameters()), dy)
        for module in (there, here)
    )
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(found, exact)
    assert y.is_contiguous()


ON_CUDA = (POOL[1], POOL[0], "max(x, slope*x); slope = 0.5 per channel", POOL[1])


def test_one_launch_forward_and_one_backward(emulator: Emulator) -> None:
    there, here = on_cuda(ON_CUDA, CHANNELS)
    for x in (
        torch.randn(4, 2, CHANNELS, 7),
        torch.randn(2, 4, CHANNELS, 7).transpose(0, 1),
        torch.randn(4, 2, CHANNELS, 14)[..., ::2],
    ):
        emulator.launched.clear()
        agree(there, here, x)
        kernel = "<float, 1, false>"
        assert emulator.launched == [f"forward_kernel{kernel}", f"backward_kernel{kernel}"]
    agree(there, here, torch.randn(4, 0, CHANNELS))


def test_channels_of_different_dimensions_take_several_launches(emulator: Emulator) -> None:
    texts = (
        "x*a + b; a = 2 per channel, b = 1 per channel dim -1",
        "x*a - b; a = 3 per channel dim 0, b = 1 per channel",
    )
    there, here = on_cuda(texts, 3)
    agree(there, here, torch.randn(2, 3, 3, 3))


def test_gates_on_cuda(emulator: Emulator) -> None:
    there, here = on_cuda(("x*gate", "x*(gate + beta)"), 1)
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(there(x), here(x))
    assert emulator.launched == ["forward_kernel<float, 4, true>"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_on_cuda(emulator: Emulator, dtype: torch.dtype) -> None:
    there, here = on_cuda(ON_CUDA, CHANNELS)
    x = torch.randn(4, 2, CHANNELS, 8).to(dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    y, exact = there(x), here.double()(wide)
    (slope,), (exact_slope,) = (torch.autograd.grad(v.sum(), u) for v, u in ((y, x), (exact, wide)))
    half_a_unit = 0.55 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), exact, rtol=half_a_unit, atol=1e-6)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=half_a_unit, atol=1e-3)
    assert len(emulator.launched) == 2


@pytest.mark.skipif(not nvrtc.available(), reason="needs the extra cuda (NVRTC)")
def test_machine_code() -> None:
    programs = [program(parse(text)) for text in ON_CUDA]
    source = slices.source(programs, dict.fromkeys(programs, ANYWHERE))
    instances = ["forward_kernel<half16, 8, true>", "backward_kernel<float, 4, false>"]
    for architecture in ARCHITECTURES:
        code, names = nvrtc.compile(source, architecture, instances)
        assert len(code) > 1000
        assert set(names) == set(instances)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and cuda.available()), reason="needs a CUDA device"
)
def test_on_a_gpu() -> None:
    population = compile_population(ON_CUDA, num_parameters=CHANNELS, device="cuda")
    assert target(population[0]._on("cuda")[0].name).name == "cuda"
    with torch.device("cuda"):
        for dtype in DTYPES:
            check(population, torch.randn(4, 64, CHANNELS, 48).to(dtype), exact=False)
