"""The contract that every target keeps: a new target joins by a row in `TARGETS`.

References are float64 evaluations of the expression and of its gradient, which are held to mpmath
in tests/grammar and test_gradient.py. A row's capabilities say which composition
tests apply.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from actsearch.codegen import TARGETS, Activation, compile, gradient
from actsearch.grammar import Expression, named_activations, parse
from actsearch.grammar.evaluate import evaluate, evaluate_numpy

ACTIVATIONS = {
    "relu": "relu(x)",
    "swish": "x*sigmoid(beta*x); beta = 1.25",
    "per_channel": "x*sigmoid(beta*x) + shift; beta = 1.5 per channel, shift = -0.5",
    "last_dimension": "max(x, slope*x); slope = 0.3 per channel dim -1",
    "mish": "x*tanh(softplus(x))",
    "gelu": "x*erfc(-x/sqrt(2))/2",
    "two_units": "max(x, sigmoid(_*x))*cos(tanh(x))",
    "pieces": "where(x > 0.5, log1p(x), min(expm1(x), -sqrt(abs(x))))",
    "rare_operators": "sinc(x) + j1(x)*cbrt(x) + hypot(x, 1) - i0e(x)",
    "constant": "2*pi",
    "only_parameter": "_; _ = 0.5 per channel",
    "identity": "x",
    "swiglu": "x*(gate*sigmoid(beta*gate))",
}
# Near a root their terms cancel: the error is small beside the terms, not beside their sum.
CANCELLING = frozenset(
    "tanhshrink cos_minus_x snake softplus_beta isru isrlu squareplus atan_squared_minus_x".split()
)
ULP = 2.0**-24  # half the distance of float32 neighbours, relative
LARGEST = float(np.finfo(np.float32).max)

INTERPRETED = bool(os.environ.get("TRITON_INTERPRET"))  # see triton_interpreter.py


def device(backend: str) -> str:
    """Where a target is tested: on the CPU if it computes there."""
    interpreted = backend == "triton" and INTERPRETED
    return "cpu" if interpreted or TARGETS[backend].computes_on("cpu") else "cuda"


def rows(names: Iterable[str]) -> list[Any]:
    """Targets as parameters of a test, skipped where they need a device that is not there."""
    missing = not torch.cuda.is_available()
    absent = pytest.mark.skip(reason="needs a CUDA device")
    return [
        pytest.param(name, marks=absent if missing and device(name) == "cuda" else ())
        for name in names
    ]


@pytest.fixture(autouse=True)
def _on_the_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tensors are made where the target computes."""
    callspec = getattr(request.node, "callspec", None)
    backend = callspec.params.get("backend") if callspec else None
    with torch.device(device(backend) if backend else "cpu"):
        yield


every_target = pytest.mark.parametrize(
    "backend", rows(name for name, row in TARGETS.items() if not row.exports_only)
)
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
every_named = pytest.mark.parametrize("name", sorted(named_activations()))
dynamo = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of Dynamo's own making


def needs(capability: str) -> pytest.MarkDecorator:
    able = [name for name, row in TARGETS.items() if capability in row.capabilities]
    return pytest.mark.parametrize("backend", rows(able))


@cache
def function(backend: str, text: str) -> Callable[..., Tensor]:
    """What the target builds, once for the whole suite."""
    built: Callable[..., Tensor] = compile(text, backend=backend)._function
    return built


def module(backend: str, name: str, channels: int = 1, **options: Any) -> Activation:
    if ACTIVATIONS[name].find("per channel") < 0:
        channels = 1
    return compile(ACTIVATIONS[name], backend=backend, num_parameters=channels, **options)


def call(activation: Activation, x: Tensor) -> Tensor:
    """The module on x, with a gate made of x where it wants one."""
    inputs = [x, 0.5 * x.flip(0) + 0.25][: 1 + activation._gated]
    y: Tensor = activation(*inputs)
    return y


def reference(expression: Expression, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """The exact values, and how much they change with relative changes of the variables."""
    inputs, parameters = expression.inputs, expression.parameters
    names = {"x", *(leaf.name for leaf in inputs), *(leaf.name for leaf in parameters)}
    given = {name: value for name, value in values.items() if name in names}
    value = evaluate_numpy(expression, given)
    sensitivity = np.abs(value)
    for name, slope in gradient(expression).items():
        sensitivity = sensitivity + np.abs(given[name] * evaluate_numpy(slope, given))
    return value, sensitivity


# accuracy


def points() -> Tensor:
    """361 float32 numbers, the same on every device."""
    generator = torch.Generator("cpu").manual_seed(1)
    normal = torch.randn(200, generator=generator, device="cpu")
    return torch.cat([2 * normal, torch.linspace(-8, 8, 161, device="cpu")])


@lru_cache(maxsize=4)  # the targets of one activation follow each other
def references(name: str) -> dict[str, tuple[Expression, Any, Any]]:
    """Of the value ("") and of the derivative for each input: formula, exact values at `points`,
    and how far the inputs' own rounding moves them.
    """
    expression = named_activations()[name].expression
    values: dict[str, Any] = {p.name: float(np.float32(p.initial)) for p in expression.parameters}
    values |= {"x": points().double().numpy(), "gate": points().flip(0).double().numpy()}
    inputs = {i.name for i in expression.inputs}
    formulas = {"": expression, **{n: d for n, d in gradient(expression).items() if n in inputs}}
    return {of: (formula, *reference(formula, values)) for of, formula in formulas.items()}


@every_target
@every_named
def test_values_and_gradients_are_accurate(backend: str, name: str) -> None:
    """Within 8 half-ulps of float32, counting one for each variable's own rounding."""
    activation = named_activations()[name]
    expression = activation.expression
    place = torch.get_default_device()
    x = points().to(place).requires_grad_()
    gate = points().flip(0).to(place).requires_grad_()
    inputs = [x, gate] if "gate" in {i.name for i in expression.inputs} else [x]
    shared = [torch.tensor([p.initial], requires_grad=True) for p in expression.parameters]
    y = function(backend, activation.text)(*inputs, *shared)
    slopes = torch.autograd.grad(y.sum(), inputs, allow_unused=True)
    found = {"": y, **dict(zip(("x", "gate"), slopes, strict=False))}
    for of, (formula, expected, sensitivity) in references(name).items():
        values = found[of]
        assert values is not None
        terms = points().abs().double().numpy() + (of != "")
        slack = terms if name in CANCELLING else 0.0
        known = np.isfinite(expected)
        error = np.abs(values.detach().double().cpu().numpy() - expected)
        bound = 8 * ULP * (sensitivity + slack) + 1e-37
        assert np.all((error <= bound)[known]), (
            f"{formula}: {np.max((error / bound)[known]) * 8} half-ulps"
        )


@every_target
@pytest.mark.parametrize(
    "name", [name for name, row in named_activations().items() if row.expression.parameters]
)
def test_parameter_gradients_are_sums(backend: str, name: str) -> None:
    expression = named_activations()[name].expression
    x = torch.linspace(-3, 4, 57, dtype=torch.float64)
    shared = [
        torch.tensor([p.initial], dtype=torch.float64, requires_grad=True)
        for p in expression.parameters
    ]
    y = function(backend, named_activations()[name].text)(x, *shared)
    weights = torch.cos(torch.arange(57.0, dtype=torch.float64))
    found = torch.autograd.grad(y, shared, weights)
    for parameter, slope in zip(expression.parameters, found, strict=True):
        exact = evaluate_numpy(gradient(expression)[parameter.name], {"x": x.cpu().numpy()})
        assert slope.shape == (1,)
        assert slope.item() == pytest.approx(
            float(exact @ weights.cpu().numpy()), rel=1e-11, abs=1e-12
        )


@every_target
@every_activation
def test_gradcheck(backend: str, name: str) -> None:
    """First and second derivatives against finite differences, with per-channel parameters."""
    torch.manual_seed(3)
    activation = module(backend, name, channels=3, dtype=torch.float64)
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    inputs = [x]
    if activation._gated:
        inputs.append(torch.randn_like(x).requires_grad_())
    arguments = (*inputs, *activation.parameters())
    assert torch.autograd.gradcheck(activation._function, arguments)
    if "double backward" in TARGETS[backend].capabilities:
        assert torch.autograd.gradgradcheck(activation._function, arguments)


# special values


@every_target
@every_named
def test_no_value_is_lost(backend: str, name: str) -> None:
    """Value and gradient are finite wherever float32 can hold them; x = NaN gives NaN."""
    activation = named_activations()[name]
    expression = activation.expression
    sizes = [0, 1e-45, 1e-40, 1e-30, 1e-8, 0.1, 1, 3, 9, 17, 44, 60, 88, 89, 104, 500, 1000]
    x = torch.tensor([*sizes, *(-s for s in sizes)], requires_grad=True)
    gate = torch.full_like(x, 0.75)
    inputs = [x, gate] if "gate" in {i.name for i in expression.inputs} else [x]
    parameters = [torch.tensor([p.initial]) for p in expression.parameters]
    y = function(backend, activation.text)(*inputs, *parameters)
    (slope,) = torch.autograd.grad(y.sum(), x)
    for formula, found in [(expression, y), (gradient(expression)["x"], slope)]:
        lost = ~torch.isfinite(found)
        if lost.any():
            given: dict[str, Any] = {"x": x.detach()[lost].double().cpu().numpy()}
            if any(leaf.name == "gate" for leaf in formula.inputs):
                given["gate"] = np.full(given["x"].shape, 0.75)
            exact = evaluate(formula, given, backend="mpmath", digits=30)
            assert not [v for v in exact if mpmath.isfinite(v) and abs(v) <= LARGEST], formula


@every_target
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("text", "values", "slopes"),
    [
        ("x*sigmoid(x)", (0.0, float("inf")), (0.0, 1.0)),
        ("x*sigmoid(beta*x)", (0.0, float("inf")), (0.0, 1.0)),
        ("x*tanh(softplus(x))", (0.0, float("inf")), (0.0, 1.0)),
        ("x*erfc(-x/sqrt(2))/2", (0.0, float("inf")), (0.0, 1.0)),
        ("x/(1 + abs(x))", (-1.0, 1.0), (0.0, 0.0)),
        ("tanh(x)", (-1.0, 1.0), (0.0, 0.0)),
        ("relu(x)", (0.0, float("inf")), (0.0, 1.0)),
    ],
)
def test_the_ends_of_the_line(
    backend: str,
    dtype: torch.dtype,
    text: str,
    values: tuple[float, float],
    slopes: tuple[float, float],
) -> None:
    x = torch.tensor([-torch.inf, torch.inf], dtype=dtype, requires_grad=True)
    parameters = [torch.ones(1, dtype=dtype, requires_grad=True) for _ in parse(text).parameters]
    y = function(backend, text)(x, *parameters)
    found = torch.autograd.grad(y, [x, *parameters], torch.ones_like(y))
    assert tuple(y.tolist()) == values
    assert tuple(found[0].tolist()) == slopes
    assert all(slope.item() == 0 for slope in found[1:])
    assert torch.isnan(function(backend, text)(x.detach() * torch.nan, *parameters)).all()


@every_target
def test_half_types_are_rounded_once(backend: str) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.linspace(-9, 9, 1001).to(dtype).requires_grad_()
        wide = x.detach().float().requires_grad_()
        for text in ("x*tanh(softplus(x))", "x**3/(1 + x**2)"):
            half, single = function(backend, text)(x), function(backend, text)(wide)
            assert half.dtype == dtype
            assert torch.equal(half, single.to(dtype))
            (slope,) = torch.autograd.grad(half.sum(), x)
            (expected,) = torch.autograd.grad(single.sum(), wide)
            assert torch.equal(slope, expected.to(dtype))


@every_target
def test_float64_stays_float64(backend: str) -> None:
    x = torch.linspace(-3, 3, 11, dtype=torch.float64)
    y = function(backend, "x*tanh(softplus(x))")(x)
    expected = evaluate("x*tanh(softplus(x))", {"x": x.cpu().numpy()})
    assert y.dtype == torch.float64
    np.testing.assert_allclose(y.cpu().numpy(), expected, rtol=1e-14, atol=0)


# shapes, layouts, devices


@every_target
@every_activation
def test_layouts(backend: str, name: str) -> None:
    """Channels-last and strided inputs give the values of contiguous ones, in their own layout."""

    def close(found: Tensor, expected: Tensor) -> None:
        # torch's vector code and its scalar code differ by a unit in the last place
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)

    activation = module(backend, name, channels=4)
    x = torch.randn(3, 4, 5, 4)
    expected = call(activation, x)
    last = x.to(memory_format=torch.channels_last)
    close(call(activation, last), expected)
    assert activation(*([last] * (1 + activation._gated))).is_contiguous(
        memory_format=torch.channels_last
    )
    strided = torch.empty(3, 4, 5, 8)[..., ::2].copy_(x)
    close(call(activation, strided), expected)
    views = [v.detach().requires_grad_() for v in (x, last, strided)]
    slopes = [torch.autograd.grad(call(activation, v).sum(), v)[0] for v in views]
    for slope in slopes:
        close(slope, slopes[0])


@every_target
@every_activation
@pytest.mark.parametrize("shape", [(0,), (1,), (), (0, 3), (1, 1), (2, 0, 3)])
def test_empty_and_single_elements(backend: str, name: str, shape: tuple[int, ...]) -> None:
    activation = module(backend, name)
    x = torch.full(shape, 0.5, requires_grad=True)
    inputs = [x] * (1 + activation._gated)
    y = activation(*inputs)
    slopes = torch.autograd.grad(y.sum(), [x, *activation.parameters()])
    assert y.shape == x.shape
    assert slopes[0].shape == x.shape
    assert all(slope.shape == (1,) for slope in slopes[1:])


@every_target
@every_activation
def test_meta_and_fake_tensors(backend: str, name: str) -> None:
    if "meta" not in TARGETS[backend].capabilities:
        pytest.skip("computes on real devices only")
    activation = module(backend, name, channels=3, device="meta")
    x = torch.empty(2, 3, 3, device="meta", requires_grad=True)
    y = activation(*([x] * (1 + activation._gated)))
    assert y.shape == x.shape
    assert y.is_meta
    with FakeTensorMode():
        activation = module(backend, name, channels=3)
        x = torch.empty(2, 3, 3, requires_grad=True)
        y = activation(*([x] * (1 + activation._gated)))
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


@every_target
def test_autocast(backend: str) -> None:
    activation = compile("x*sigmoid(beta*x)", backend=backend)
    layer = torch.nn.Linear(8, 8)
    with torch.autocast(device(backend), dtype=torch.bfloat16):
        y = activation(layer(torch.randn(4, 8)))
        assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert activation.beta.grad is not None
    assert activation.beta.grad.dtype == torch.float32


# life as a module


@every_target
@every_activation
def test_copies_pickles_and_state(backend: str, name: str) -> None:
    activation = module(backend, name, channels=3)
    with torch.no_grad():
        for parameter in activation.parameters():
            parameter.add_(torch.arange(1.0, 1.0 + parameter.numel()) / 4)
    x = torch.randn(4, 3, 3)
    expected = call(activation, x)
    for other in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        assert torch.equal(call(other, x), expected)
        assert other.expression is activation.expression
    fresh = module(backend, name, channels=3)
    fresh.load_state_dict(activation.state_dict())
    assert torch.equal(call(fresh, x), expected)


@every_target
def test_wrong_inputs(backend: str) -> None:
    activation = compile("x*sigmoid(beta*x); beta = 1.0 per channel", backend, num_parameters=3)
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises((TypeError, torch.jit.Error), match=r"(?s)floating-point.*\[2, 3\]"):
            activation(torch.ones(2, 3, dtype=dtype))
    for shape in [(2, 4), (3,), ()]:
        with pytest.raises((ValueError, torch.jit.Error), match=r"(?s)shape \[3\].*dimension 1"):
            activation(torch.ones(shape))
    gated = compile("x*sigmoid(gate)", backend)
    with pytest.raises((ValueError, torch.jit.Error), match=r"(?s)\[2, 3\].*\[2, 4\]"):
        gated(torch.ones(2, 3), torch.ones(2, 4))


# composition


@needs("functorch")
@every_activation
def test_functorch(backend: str, name: str) -> None:
    activation = module(backend, name, channels=3, dtype=torch.float64)
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        y: Tensor = activation(*([x] * (1 + activation._gated)))
        return y.pow(2).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss))(x)
    for sample, slope in zip(x, per_sample, strict=True):
        leaf = sample.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(slope, expected)


@needs("functorch")
def test_hessian(backend: str) -> None:
    activation = function(backend, "x*tanh(softplus(x))")
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    hessian = torch.func.jacrev(torch.func.jacrev(lambda x: activation(x).sum()))(x)
    second = gradient(gradient("x*tanh(softplus(x))")["x"])["x"]
    expected = evaluate(second, {"x": x.cpu().numpy()})
    torch.testing.assert_close(torch.diagonal(hessian).cpu(), torch.from_numpy(expected))


@needs("torch.compile")
@dynamo
@every_activation
def test_compiles_as_one_graph(backend: str, name: str) -> None:
    torch._dynamo.reset()
    activation = module(backend, name, channels=3)
    compiled = torch.compile(activation, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 3, requires_grad=True)
    inputs = [x, torch.randn_like(x)][: 1 + activation._gated]
    arguments = [x, *activation.parameters()]
    y, expected = compiled(*inputs), activation(*inputs)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.sum(), arguments)
    for slope, exact in zip(found, torch.autograd.grad(expected.sum(), arguments), strict=True):
        torch.testing.assert_close(slope, exact)


@needs("torch.compile")
@dynamo
def test_compiles_with_inductor(backend: str) -> None:
    torch._dynamo.reset()
    activation = module(backend, "swish")
    compiled = torch.compile(activation, fullgraph=True)
    x = torch.randn(64, requires_grad=True)
    (found,) = torch.autograd.grad(compiled(x).sum(), x)
    (expected,) = torch.autograd.grad(activation(x).sum(), x)
    torch.testing.assert_close(found, expected)


@needs("export")
@dynamo
@every_activation
def test_exports(backend: str, name: str) -> None:
    activation = module(backend, name, channels=3)
    x = torch.randn(2, 3, 3)
    inputs = (x,) * (1 + activation._gated)
    exported = torch.export.export(activation, inputs)
    torch.testing.assert_close(exported.module()(*inputs), activation(*inputs))
