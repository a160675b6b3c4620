"""The deep child networks of the Swish paper's experiments, for images of any size.

Weights are drawn as He et al. (2015) advise, normal with variance 2 / fan-out of the convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from actsearch.tasks.children import MakeActivation


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the image size but for its stride."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def head(channels: int, classes: int, activation: MakeActivation | None) -> nn.Sequential:
    """[normalise, activate,] average over the image, classify."""
    first = [nn.BatchNorm2d(channels), activation(channels)] if activation is not None else []
    return nn.Sequential(*first, GlobalAverage(), nn.Linear(channels, classes))


class GlobalAverage(nn.Module):
    """(N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut has no parameters (He et al. 2016a, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: MakeActivation) -> None:
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.conv1, self.norm1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.activation1 = activation(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.activation2 = activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        out: Tensor = self.activation2(h + shortcut)
        return out


class ResNet20(nn.Sequential):
    """ResNet-20 (He et al. 2016a, arXiv 1512.03385): 0.27 M parameters at width 16."""

    def __init__(self, channels: int, classes: int, width: int, activation: MakeActivation) -> None:
        layers = [conv(channels, width, 3), nn.BatchNorm2d(width), activation(width)]
        inputs = width
        for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            for block in range(3):
                layers.append(BasicBlock(inputs, outputs, stride if block == 0 else 1, activation))
                inputs = outputs
        super().__init__(*layers, *head(inputs, classes, None))


class PreActivationBlock(nn.Module):
    """Normalise, activate, convolve, for each convolution of a residual branch (He et al. 2016b).

    Where the shape changes, the shortcut is a 1x1 convolution of the first activation's output.
    """

    def __init__(
        self, inputs: int, plan: list[tuple[int, int]], stride: int, activation: MakeActivation
    ) -> None:
        """`plan` lists (outputs, size) of the convolutions; the first 3x3 one takes the stride."""
        super().__init__()
        outputs = plan[-1][0]
        self.first = nn.Sequential(nn.BatchNorm2d(inputs), activation(inputs))
        self.shortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None
        strided = next(k for k, (_, size) in enumerate(plan) if size == 3)
        branch: list[nn.Module] = []
        for k, (width, size) in enumerate(plan):
            if k > 0:
                branch += [nn.BatchNorm2d(inputs), activation(inputs)]
            branch.append(conv(inputs, width, size, stride if k == strided else 1))
            inputs = width
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        out: Tensor = self.branch(h) + shortcut
        return out


class ResNet164(nn.Sequential):
    """Pre-activation ResNet-164 (He et al. 2016b, arXiv 1603.05027): 1.7 M parameters, width 16."""

    def __init__(self, channels: int, classes: int, width: int, activation: MakeActivation) -> None:
        layers: list[nn.Module] = [conv(channels, width, 3)]
        inputs = width
        for middle, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            for block in range(18):
                plan = [(middle, 1), (middle, 3), (4 * middle, 1)]
                first = stride if block == 0 else 1
                layers.append(PreActivationBlock(inputs, plan, first, activation))
                inputs = 4 * middle
        super().__init__(*layers, *head(inputs, classes, activation))


class WideResNet28(nn.Sequential):
    """WRN-28-10 (Zagoruyko and Komodakis 2016, arXiv 1605.07146): 36.5 M parameters at width 16."""

    def __init__(self, channels: int, classes: int, width: int, activation: MakeActivation) -> None:
        layers: list[nn.Module] = [conv(channels, width, 3)]
        inputs = width
        for outputs, stride in ((10 * width, 1), (20 * width, 2), (40 * width, 2)):
            for block in range(4):
                plan = [(outputs, 3), (outputs, 3)]
                first = stride if block == 0 else 1
                layers.append(PreActivationBlock(inputs, plan, first, activation))
                inputs = outputs
        super().__init__(*layers, *head(inputs, classes, activation))


class DenseLayer(nn.Module):
    """Normalise, activate, convolve to `growth` channels, and append them to the input."""

    def __init__(self, inputs: int, growth: int, activation: MakeActivation) -> None:
        super().__init__()
        self.norm, self.activation = nn.BatchNorm2d(inputs), activation(inputs)
        self.conv = conv(inputs, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.activation(self.norm(x)))], dim=1)


class Transition(nn.Module):
    """Normalise, activate, 1x1 convolution, halve the image by averaging."""

    def __init__(self, channels: int, activation: MakeActivation) -> None:
        super().__init__()
        self.norm, self.activation = nn.BatchNorm2d(channels), activation(channels)
        self.conv = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.conv(self.activation(self.norm(x))), 2)


class DenseNet100(nn.Sequential):
    """DenseNet-100-12 without bottleneck (Huang et al. 2017, arXiv 1608.06993): 7.0 M parameters.

    Three blocks of 32 layers that each add `width - 4` channels: the published growth of 12 and
    first convolution of 16 channels are width 16.
    """

    def __init__(self, channels: int, classes: int, width: int, activation: MakeActivation) -> None:
        growth = max(1, width - 4)
        layers: list[nn.Module] = [conv(channels, width, 3)]
        inputs = width
        for block in range(3):
            if block > 0:
                layers.append(Transition(inputs, activation))
            for _ in range(32):
                layers.append(DenseLayer(inputs, growth, activation))
                inputs += growth
        super().__init__(*layers, *head(inputs, classes, activation))
