"""Child networks: a module built from an input shape, a class count, a width and an activation.

The activation enters through one seam, a `MakeActivation`: called with a channel count it returns
a module that maps (N, channels, ...) to the same shape. A gated activation reads two inputs and
halves the channels; children that can widen the layer before it say so in `CHILDREN`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from actsearch.grammar import Expression
from actsearch.tasks.base import TaskError

Shape = Sequence[int]

PRECISION = "fast"
"""Of the activations: rounding is nothing next to the noise of training."""


class MakeActivation(Protocol):
    """Builds the activation that follows a layer.

    Attributes:
        inputs: channels it reads for each channel that it writes: 1, or 2 where it has a gate.
    """

    inputs: int

    def __call__(self, channels: int) -> nn.Module:
        """A new module that writes `channels` channels at dimension 1."""
        ...


class Generated:
    """The seam to code generation: each layer gets its own module of one expression."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self.inputs = 2 if any(i.name == "gate" for i in expression.inputs) else 1

    def __call__(self, channels: int) -> nn.Module:
        from actsearch.codegen import compile

        return compile(
            self.expression, num_parameters=channels, split_dimension=1, precision=PRECISION
        )


class MLP(nn.Module):
    """Two hidden layers; inputs of any shape are flattened."""

    def __init__(self, shape: Shape, classes: int, width: int, activation: MakeActivation) -> None:
        super().__init__()
        self.layer1 = nn.Linear(math.prod(shape), width * activation.inputs)
        self.activation1 = activation(width)
        self.layer2 = nn.Linear(width, width * activation.inputs)
        self.activation2 = activation(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation1(self.layer1(x.flatten(1)))
        h = self.activation2(self.layer2(h))
        out: Tensor = self.output(h)
        return out


class CNN(nn.Module):
    """Two 3x3 convolutions, each with its activation and 2x2 max-pooling, and a linear layer."""

    def __init__(self, shape: Shape, classes: int, width: int, activation: MakeActivation) -> None:
        super().__init__()
        channels, height, columns = _image(shape, least=4)
        self.layer1 = nn.Conv2d(channels, width * activation.inputs, 3, padding=1)
        self.activation1 = activation(width)
        self.layer2 = nn.Conv2d(width, 2 * width * activation.inputs, 3, padding=1)
        self.activation2 = activation(2 * width)
        self.output = nn.Linear(2 * width * (height // 4) * (columns // 4), classes)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(self.activation1(self.layer1(x)), 2)
        h = nn.functional.max_pool2d(self.activation2(self.layer2(h)), 2)
        out: Tensor = self.output(h.flatten(1))
        return out


class Transformer(nn.Module):
    """A pre-norm encoder of two layers and four heads over the patches of an image or signal.

    The activation stands in the feed-forward layers, `2 * width` wide, where it sees tokens as
    (N * tokens, channels). Positions are learned; the mean over tokens is classified.
    """

    def __init__(self, shape: Shape, classes: int, width: int, activation: MakeActivation) -> None:
        super().__init__()
        if width % 4:
            raise TaskError(
                f"a Transformer of four heads needs a width divisible by 4, not {width}"
            )
        self.patch = 4 if min(shape[1:] or shape) >= 16 else 2
        if any(size % self.patch for size in shape[1:] or shape):
            raise TaskError(f"cannot cut inputs of shape {tuple(shape)} into patches")
        volume = self.patch * (self.patch * shape[0] if len(shape) == 3 else 1)
        self.embed = nn.Linear(volume, width)
        self.position = nn.Parameter(0.02 * torch.randn(math.prod(shape) // volume, width))
        self.layers = nn.ModuleList(TransformerLayer(width, activation) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(self.tokens(x)) + self.position
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.output(self.norm(h).mean(1))
        return out

    def tokens(self, x: Tensor) -> Tensor:
        """(N, L) or (N, C, H, W) -> (N, tokens, values of a patch)."""
        p = self.patch
        if x.dim() == 2:
            return x.reshape(len(x), -1, p)
        n, c, h, w = x.shape
        patches = x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(n, (h // p) * (w // p), c * p * p)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward layer, each normalised first and added to its input."""

    heads = 4

    def __init__(self, width: int, activation: MakeActivation) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width * activation.inputs)
        self.activation = activation(2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        n, tokens, width = h.shape
        qkv = self.qkv(self.norm1(h)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # Written out: the fused attention kernels do not promise a repeatable gradient.
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)
        h = h + self.mix((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        z = self.activation(self.expand(self.norm2(h)).flatten(0, 1))
        out: Tensor = h + self.contract(z).view(n, tokens, width)
        return out


def _image(shape: Shape, least: int) -> tuple[int, int, int]:
    """(channels, height, width) of image inputs, or TaskError where they are no such images."""
    if len(shape) != 3 or min(shape[1:]) < least:
        raise TaskError(
            f"this child network wants images of at least {least}x{least}, not {tuple(shape)}"
        )
    return shape[0], shape[1], shape[2]


@dataclass(frozen=True)
class Child:
    """One row of the table of child networks: how to build it, and whether it can feed a gate."""

    build: Callable[[Shape, int, int, MakeActivation], nn.Module]
    gated: bool


def build_child(
    name: str, shape: Shape, classes: int, width: int, activation: MakeActivation
) -> nn.Module:
    """The child network of that name, with weights drawn from torch's global generator.

    Raises:
        TaskError: inputs or a gated activation that this network cannot take.
    """
    child = CHILDREN[name]
    if activation.inputs == 2 and not child.gated:
        able = ", ".join(key for key, row in CHILDREN.items() if row.gated)
        raise TaskError(f"child network {name!r} cannot feed a gate; these can: {able}")
    return child.build(shape, classes, width, activation)


def _deep(name: str) -> Callable[[Shape, int, int, MakeActivation], nn.Module]:
    def build(shape: Shape, classes: int, width: int, activation: MakeActivation) -> nn.Module:
        from actsearch.tasks import children_deep

        channels, _, _ = _image(shape, least=8)
        network: nn.Module = getattr(children_deep, name)(channels, classes, width, activation)
        return network

    return build


CHILDREN: dict[str, Child] = {
    "mlp": Child(MLP, gated=True),
    "cnn": Child(CNN, gated=True),
    "transformer": Child(Transformer, gated=True),
    "resnet20": Child(_deep("ResNet20"), gated=False),
    "resnet164": Child(_deep("ResNet164"), gated=False),
    "wrn28-10": Child(_deep("WideResNet28"), gated=False),
    "densenet100-12": Child(_deep("DenseNet100"), gated=False),
}
