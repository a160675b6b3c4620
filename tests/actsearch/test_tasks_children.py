"""Child networks: published sizes, channel counts at the seam, gradients that reach everything."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from actsearch.grammar import parse
from actsearch.tasks import TaskError
from actsearch.tasks.children import CHILDREN, Generated, Transformer, build_child


class PerChannel(nn.Module):
    """ReLU with a slope for each channel, which refuses any other number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == len(self.slope)
        return x.relu() * self.slope.view(-1, *[1] * (x.dim() - 2))


class MakePerChannel:
    inputs = 1

    def __call__(self, channels: int) -> nn.Module:
        return PerChannel(channels)


class MakeReLU:
    inputs = 1

    def __call__(self, channels: int) -> nn.Module:
        return nn.ReLU()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet20", 0.27e6),
        ("resnet164", 1.70e6),
        ("wrn28-10", 36.5e6),
        ("densenet100-12", 7.0e6),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, published: float) -> None:
    with torch.device("meta"):
        child = build_child(name, (3, 32, 32), 10, 16, MakeReLU())
    count = sum(p.numel() for p in child.parameters())
    assert count == pytest.approx(published, rel=0.005)


SHAPES = {"mlp": (40,), "cnn": (1, 9, 8), "transformer": (3, 16, 16)}
ACTIVATIONS = {
    "mlp": 2,
    "cnn": 2,
    "transformer": 2,
    "resnet20": 19,
    "resnet164": 163,
    "wrn28-10": 25,
    "densenet100-12": 99,
}


@pytest.mark.parametrize("name", CHILDREN)
def test_every_layer_gets_its_own_activation_of_its_channels(name: str) -> None:
    width = 4 if name in ("wrn28-10", "densenet100-12", "resnet164") else 8
    torch.manual_seed(0)
    child = build_child(name, SHAPES.get(name, (3, 8, 8)), 7, width, MakePerChannel())
    found = [m for m in child.modules() if isinstance(m, PerChannel)]
    assert len(found) == len(set(map(id, found))) == ACTIVATIONS[name]
    logits = child(torch.randn(3, *SHAPES.get(name, (3, 8, 8))))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    for parameter_name, parameter in child.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", CHILDREN)
def test_generated_activations_fit_every_child(name: str) -> None:
    make = Generated(parse("x*sigmoid(beta*x); beta = 1.0 per channel"))
    child = build_child(name, SHAPES.get(name, (3, 8, 8)), 7, 4, make)
    batch = torch.randn(2, *SHAPES.get(name, (3, 8, 8)))
    child(batch).sum().backward()
    gated = Generated(parse("x*sigmoid(gate)"))
    if CHILDREN[name].gated:
        child = build_child(name, SHAPES.get(name, (3, 8, 8)), 7, 4, gated)
        assert child(batch).shape == (2, 7)
    else:
        with pytest.raises(TaskError, match=r"cannot feed a gate; these can: mlp, cnn"):
            build_child(name, SHAPES.get(name, (3, 8, 8)), 7, 4, gated)


def test_the_transformer_reads_signals_and_patches() -> None:
    signal = Transformer((40,), 10, 8, MakeReLU())
    assert signal.tokens(torch.arange(80.0).view(2, 40))[1, 0].tolist() == [40, 41, 42, 43]
    images = Transformer((1, 8, 8), 10, 8, MakeReLU())
    patch = images.tokens(torch.arange(64.0).view(1, 1, 8, 8))[0, 5]
    assert patch.tolist() == [18, 19, 26, 27]
    for shape, width in (((40,), 6), ((41,), 8), ((3, 18, 16), 8)):
        with pytest.raises(TaskError):
            build_child("transformer", shape, 10, width, MakeReLU())


@pytest.mark.parametrize("name", ["cnn", "resnet20", "wrn28-10"])
def test_image_networks_refuse_signals(name: str) -> None:
    with pytest.raises(TaskError, match="wants images"):
        build_child(name, (40,), 10, 4, MakeReLU())


def test_resnets_halve_the_image_twice() -> None:
    child = build_child("resnet20", (3, 32, 32), 10, 4, MakeReLU())
    sizes = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[-1]))
        for m in child.modules()
        if isinstance(m, nn.ReLU)
    ]
    child(torch.randn(1, 3, 32, 32))
    assert len(hooks) == 19
    assert sizes[0] == 32
    assert sizes[-1] == 8
    assert sum(a != b for a, b in pairwise(sizes)) == 2
