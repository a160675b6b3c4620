"""Named activations: complete, and the same functions as PyTorch's where PyTorch has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from actsearch.grammar import named_activations
from actsearch.grammar.evaluate import evaluate

NAMED = named_activations()

TORCH = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor(0.25, dtype=x.dtype)),
    "rrelu": F.rrelu,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 1.0, 0.0),
    "trainable_leaky_relu": F.leaky_relu,
    "trainable_hardswish": F.hardswish,
    "trainable_gelu": F.gelu,
    "trainable_selu": F.selu,
    "swish": F.silu,
    "swish_base": F.silu,
    "sine": torch.sin,
    "sinc": lambda x: torch.sinc(x / torch.pi),
}

REQUIRED = """
    relu relu6 leaky_relu prelu rrelu elu celu selu gelu gelu_tanh silu swish mish softplus
    softplus_beta softsign tanh hardtanh hardsigmoid hardswish tanhshrink softshrink hardshrink
    logsigmoid threshold snake sine gaussian sinc relu_squared glu reglu geglu swiglu squareplus
    phish logish serf tanhexp aria2 isru isrlu sqrt_activation trainable_hardswish
    trainable_leaky_relu trainable_gelu trainable_selu trainable_sqrt swish_base tsqrt_tanh
    max_sigmoid cos_minus_x min_sin atan_squared_minus_x max_tanh sinc_plus_x x_asinh_squared
""".split()

X = np.concatenate([np.linspace(-12, 12, 4001), [-0.5, 0.5, 1.0, -3.0, 3.0, 6.0, 1e-8, -1e-8]])


def test_complete():
    assert set(REQUIRED) <= set(NAMED)
    assert len({activation.title for activation in NAMED.values()}) == len(NAMED)


@pytest.mark.parametrize("name", sorted(TORCH))
def test_same_values_as_torch(name):
    ours = evaluate(NAMED[name].expression, {"x": X})
    theirs = TORCH[name](torch.tensor(X)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "value"),
    [("glu", torch.sigmoid), ("reglu", F.relu), ("geglu", F.gelu), ("swiglu", F.silu)],
)
def test_gated_activations_multiply_x_by_a_function_of_the_gate(name, value):
    gate = X[::-1].copy()
    ours = evaluate(NAMED[name].expression, {"x": X, "gate": gate})
    np.testing.assert_allclose(ours, X * value(torch.tensor(gate)).numpy(), rtol=1e-12, atol=1e-13)


def test_glu_halves_in_the_order_of_torch():
    both = torch.linspace(-3, 3, 20, dtype=torch.float64)
    x, gate = both.chunk(2)
    ours = evaluate(NAMED["glu"].expression, {"x": x.numpy(), "gate": gate.numpy()})
    np.testing.assert_allclose(ours, F.glu(both).numpy(), rtol=1e-14)


def test_softplus_with_beta():
    ours = evaluate(NAMED["softplus_beta"].expression, {"x": X, "beta": 2.5})
    theirs = F.softplus(torch.tensor(X), beta=2.5, threshold=1000).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
