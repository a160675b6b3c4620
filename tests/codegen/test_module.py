"""The modules: parameters, names, gates, optimizer groups, and how generated source is kept."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import traceback

import pytest
import torch
from torch import nn

from actsearch.codegen import TARGETS, Activation, UnknownTarget, compile, parameter_groups
from actsearch.codegen.sources import load


def parameter(activation: Activation, name: str) -> nn.Parameter:
    return activation.get_parameter(name)


def test_parameters_follow_prelu() -> None:
    activation = compile("x*sigmoid(beta*x) + shift; beta = 1.5 per channel", num_parameters=4)
    shapes = {name: tuple(p.shape) for name, p in activation.named_parameters()}
    assert shapes == {"beta": (4,), "shift": (1,)}
    assert parameter(activation, "beta").tolist() == [1.5] * 4
    prelu = compile("where(x > 0, x, alpha*x); alpha = 0.25 per channel", num_parameters=3)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(prelu(x), nn.PReLU(3)(x))


def test_dimensions() -> None:
    x = torch.randn(2, 3, 5)
    for dimension, size in [(0, 2), (1, 3), (2, 5), (-1, 5), (-3, 2)]:
        text = f"beta*x; beta = 1.0 per channel dim {dimension}"
        activation = compile(text, num_parameters=size)
        with torch.no_grad():
            parameter(activation, "beta").copy_(torch.arange(1.0, size + 1))
        shape = [1, 1, 1]
        shape[dimension] = size
        expected = x * torch.arange(1.0, size + 1).reshape(shape)
        y = activation(x)
        assert torch.equal(y, expected)
        (slope,) = torch.autograd.grad(y.sum(), parameter(activation, "beta"))
        others = [d for d in range(3) if d != dimension % 3]
        torch.testing.assert_close(slope, x.sum(others))


def test_reset_and_repr() -> None:
    activation = compile(
        "x*sigmoid(beta*x); beta = 2.0 per channel lr 0.1", "torch", num_parameters=2
    )
    nn.init.zeros_(parameter(activation, "beta"))
    activation.reset_parameters()
    assert parameter(activation, "beta").tolist() == [2.0, 2.0]
    assert repr(activation) == (
        "Activation(x*sigmoid(beta*x); beta = 2.0 per channel lr 0.1, num_parameters=2, "
        "backend='torch')"
    )
    assert activation.parameters_config["beta"].learning_rate == 0.1
    assert "split_dimension=-1" in repr(compile("x*gate"))


def test_options() -> None:
    activation = compile("x*sigmoid(beta*x)", dtype=torch.float64, device="cpu", inplace=True)
    assert activation.beta.dtype == torch.float64
    x = torch.ones(3, dtype=torch.float64)
    activation(x)
    assert x.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="num_parameters is at least 1, not 0"):
        compile("x", num_parameters=0)
    with pytest.raises(ValueError, match=r"of 'beta', 1e\+39, does not fit into"):
        compile("beta*x; beta = 1e39")
    with pytest.raises(UnknownTarget, match="did you mean 'torchscript'"):
        compile("x", backend="torchscrip")


@pytest.mark.parametrize(
    "name",
    [
        "lambda",
        "training",
        "forward",
        "self",
        "torch",
        "wide",
        "t1",
        "dy",
        "dx",
        "ctx",
        "_zero",
        "z_x",
    ],
)
@pytest.mark.parametrize(
    "backend",
    [name for name, row in TARGETS.items() if row.computes_on("cpu") and not row.exports_only],
)
def test_any_parameter_name(name: str, backend: str) -> None:
    text = f"x*tanh({name}*x)*{name} + d{name}*x**2"
    activation = compile(text, backend, dtype=torch.float64)
    attribute, _ = activation.parameters_config
    assert attribute in (name, f"{name}_")
    assert activation.training is True
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(activation._function, (x, *activation.parameters()))


def test_gates() -> None:
    activation = compile("x*sigmoid(gate)")
    x = torch.randn(3, 8, 6)
    torch.testing.assert_close(activation(x), nn.functional.glu(x))
    halves = compile("x*sigmoid(gate)", split_dimension=1)
    torch.testing.assert_close(halves(x), nn.functional.glu(x, 1))
    torch.testing.assert_close(activation(x, 2 * x), x * torch.sigmoid(2 * x))
    with pytest.raises(ValueError, match=r"cannot halve shape \[3, 5\] along dimension -1"):
        activation(torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"along dimension 1"):
        halves(torch.ones(4))
    with pytest.raises(TypeError, match="takes one tensor"):
        compile("relu(x)")(x, x)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("text", ["x*sigmoid(beta*x)", "x*sigmoid(beta*gate)"])
def test_direct_gradients_are_those_of_autograd(text: str, backend: str) -> None:
    activation = compile(text, backend=backend)
    x = torch.randn(4, 6, requires_grad=True)
    y = activation(x)
    dy = torch.randn_like(y)
    expected = torch.autograd.grad(y, [x, parameter(activation, "beta")], dy)
    direct = activation.direct()
    assert direct is not None
    value, gradients = direct
    with torch.no_grad():
        torch.testing.assert_close(value(x.detach()), y.detach())
        for found, exact in zip(gradients(dy, x.detach()), expected, strict=True):
            torch.testing.assert_close(found, exact)
    assert compile(text, backend="torchscript").direct() is None


def test_parameter_groups() -> None:
    slow, fast = "x*sigmoid(beta*x); beta = 1.0 lr 0.01", "max(x, alpha*x) + _"
    model = nn.Sequential(nn.Linear(2, 3), compile(slow), nn.Linear(3, 2), compile(fast))
    groups = parameter_groups(model, 0.1, weight_decay=0.5, momentum=0.9)
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups] == [
        (4, 0.1, 0.5),
        (1, 0.001, 0.0),
        (2, 0.1, 0.0),
    ]
    assert all(group["momentum"] == 0.9 for group in groups)
    torch.optim.SGD(groups)
    assert len(parameter_groups(compile("relu(x)"), 0.1)) == 1
    (weights, own) = parameter_groups(compile(slow), 1.0)
    assert not weights["params"]
    assert len(own["params"]) == 1


def test_functional_call_and_parametrization() -> None:
    activation = compile("x*beta")
    x = torch.ones(2)
    y = torch.func.functional_call(activation, {"beta": torch.tensor([3.0])}, (x,))
    assert y.tolist() == [3.0, 3.0]
    nn.utils.parametrize.register_parametrization(activation, "beta", nn.Softplus())
    assert activation(x)[0].item() == pytest.approx(1.3132617)


def test_only_arguments_are_saved() -> None:
    activation = compile("x*tanh(softplus(beta*x))*cos(x)")
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        activation(x)
    assert sum(tensor.numel() for tensor in saved) == 1000 + 1


def test_source_lives_as_long_as_its_modules() -> None:
    activation = compile("x*cos(0.123*x)", "torch")
    name = activation._function.__module__
    other = compile("x*cos(0.123*x)", "torch")
    assert other._function.__module__ == name
    assert "def _forward" in "".join(linecache.getlines(f"<{name}>"))
    del activation
    gc.collect()
    assert name in sys.modules
    del other
    gc.collect()
    assert name not in sys.modules
    assert f"<{name}>" not in linecache.cache


def test_tracebacks_show_generated_lines() -> None:
    activation = compile("beta*x; beta = 1.0 per channel", "torch", num_parameters=2)
    with pytest.raises(ValueError, match="does not fit") as caught:
        activation(torch.ones(3, 5))
    assert "_view(beta, wide, 1)" in "".join(traceback.format_tb(caught.tb))


def test_same_source_is_loaded_once_by_many_threads() -> None:
    text = "VALUE = object()\n"
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(load(text).VALUE)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
