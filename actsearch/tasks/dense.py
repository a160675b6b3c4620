"""Explicit back-propagation through an MLP with Adam on flat buffers: the lean loop.

For matrices of 64 x 100, autograd's bookkeeping and an optimiser's per-tensor work take several
times as long as the arithmetic. Here the linear layers, softmax cross-entropy and Adam are written
out as about twenty tensor operations a step; the activation goes through its own module.
Tests hold that it trains as `AutogradTrainer` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from actsearch.codegen.module import Activation
from actsearch.tasks.base import Recipe
from actsearch.tasks.children import MLP
from actsearch.tasks.trainers import Resident, Trainer, optimiser_groups, rate_factor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class FlatGroup:
    """Parameters of equal rate and decay as slices of one buffer, with Adam's state beside it.

    Adam is the kernel of `torch.optim.Adam(fused=True)`: Kingma and Ba (2015), algorithm 1.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.values)
        self.mean = torch.zeros_like(self.values)
        self.square = torch.zeros_like(self.values)
        self.number = torch.zeros((), device=self.values.device)
        offset = 0
        for p in parameters:
            here = slice(offset, offset + p.numel())
            p.data = self.values[here].view(p.shape)
            p.grad = self.gradient[here].view(p.shape)
            offset += p.numel()

    @property
    def state(self) -> list[Tensor]:
        """All that a step depends on, beside the gradient."""
        return [self.values, self.mean, self.square, self.number]

    def step(self, factor: float) -> None:
        """Adam's next step, at `factor` times the learning rate."""
        torch._fused_adam_(
            [self.values],
            [self.gradient],
            [self.mean],
            [self.square],
            [],
            [self.number.add_(1)],
            lr=self.lr * factor,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


class Direct:
    """An activation whose generated gradient is called without autograd.

    The engine's fixed cost for each call is more than that of the arithmetic for 64 x 100 values.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        value: Callable[[Tensor], Tensor],
        gradients: Callable[[Tensor, Tensor], Sequence[Tensor]],
    ) -> None:
        self.value, self.gradients = value, gradients
        self.slopes = [cast("Tensor", p.grad) for p in parameters]

    def forward(self, z: Tensor) -> Tensor:
        """The value at z, which is kept for `backward`."""
        self.z = z
        return self.value(z)

    def backward(self, dy: Tensor) -> Tensor:
        """The gradient for z from that for the value; writes those of the parameters."""
        dz, *slopes = self.gradients(dy, self.z)
        for kept, slope in zip(self.slopes, slopes, strict=True):
            kept.copy_(slope)
        return dz


class ThroughAutograd:
    """Any other module, differentiated by autograd; used as `Direct` is."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.slopes = [cast("Tensor", p.grad) for p in module.parameters()]

    def forward(self, z: Tensor) -> Tensor:
        """As `Direct.forward`."""
        with torch.enable_grad():
            self.z = z.requires_grad_()
            self.value: Tensor = self.module(z)
        value: Tensor = self.value.detach()
        return value

    def backward(self, dy: Tensor) -> Tensor:
        """As `Direct.backward`; a constant has the gradient 0."""
        for slope in self.slopes:
            slope.zero_()
        if self.value.requires_grad:
            torch.autograd.backward(self.value, dy)
        dz: Tensor | None = self.z.grad
        return torch.zeros_like(self.z) if dz is None else dz


def differentiated(module: nn.Module, device: torch.device) -> Direct | ThroughAutograd:
    """The cheapest way to a module's gradient; its parameters' `grad` must be in place."""
    direct = module.direct(device) if isinstance(module, Activation) else None
    return ThroughAutograd(module) if direct is None else Direct(module.parameters(), *direct)


class DenseTrainer(Trainer):
    """Trains an `MLP` as `AutogradTrainer` would, up to rounding, in about half the time."""

    child: MLP

    def __init__(self, child: MLP, recipe: Recipe, data: Resident, seed: int) -> None:
        super().__init__(child, recipe, data, seed)
        self.groups = [
            FlatGroup(group["params"], group["lr"], group["weight_decay"])
            for group in optimiser_groups(child, recipe)
            if group["params"]
        ]
        layers = (child.layer1, child.layer2, child.output)
        self.activations = [
            differentiated(m, data.device) for m in (child.activation1, child.activation2)
        ]
        self.weights = [layer.weight.detach() for layer in layers]
        self.transposed = [weight.t() for weight in self.weights]
        self.biases = [layer.bias.detach() for layer in layers]
        self.weight_gradients = [cast("Tensor", layer.weight.grad) for layer in layers]
        self.bias_gradients = [cast("Tensor", layer.bias.grad) for layer in layers]
        self.ones = torch.ones(recipe.batch_size, device=data.device)

    def run(self, first: int, last: int) -> None:
        batch, classes = self.recipe.batch_size, self.data.classes
        order = self.order[first:last].reshape(-1)
        inputs = self.data.inputs["train"].index_select(0, order)
        inputs = self.data.standardise(inputs).view(last - first, batch, -1)
        labels = self.data.labels["train"].index_select(0, order)
        # Cross-entropy's gradient is (softmax - one-hot) / batch; the second term is known ahead.
        targets = one_hot(labels, classes).to(inputs.dtype).mul_(-1 / batch)
        with torch.no_grad():
            logits = []
            rows = zip(inputs.unbind(0), targets.view(-1, batch, classes).unbind(0), strict=True)
            for i, (x, target) in enumerate(rows, start=first):
                logits.append(self._gradients(x, target))
                factor = rate_factor(self.recipe, i)
                for group in self.groups:
                    group.step(factor)
            losses = cross_entropy(torch.cat(logits), labels, reduction="none")
            self.losses[first:last] = losses.view(-1, batch).mean(1)

    def _gradients(self, x: Tensor, target: Tensor) -> Tensor:
        """Write the gradient of one batch's mean loss into the groups; returns the logits."""
        first, second = self.activations
        h1 = first.forward(torch.addmm(self.biases[0], x, self.transposed[0]))
        h2 = second.forward(torch.addmm(self.biases[1], h1, self.transposed[1]))
        logits = torch.addmm(self.biases[2], h2, self.transposed[2])
        delta = torch.add(target, torch.softmax(logits, 1), alpha=1 / len(x))
        self._layer_gradient(2, delta, h2)
        delta = second.backward(torch.mm(delta, self.weights[2]))
        self._layer_gradient(1, delta, h1)
        delta = first.backward(torch.mm(delta, self.weights[1]))
        self._layer_gradient(0, delta, x)
        return logits

    def _layer_gradient(self, k: int, delta: Tensor, h: Tensor) -> None:
        transposed = delta.t()
        torch.mm(transposed, h, out=self.weight_gradients[k])
        torch.mv(transposed, self.ones, out=self.bias_gradients[k])

    def state(self) -> list[Tensor] | None:
        if not all(isinstance(activation, Direct) for activation in self.activations):
            return None  # another module may have a state of its own
        return [tensor.clone() for group in self.groups for tensor in group.state]

    def restore(self, state: list[Tensor], done: int) -> None:
        for tensor, kept in zip((t for g in self.groups for t in g.state), state, strict=True):
            tensor.copy_(kept)
        self.done = done

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.child.named_parameters():
            yield name, cast("Tensor", parameter.grad)
