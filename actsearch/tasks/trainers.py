"""Trainers: one child, one recipe, its batches in order, and the losses that came of them.

No step waits for a number: losses gather in a tensor on the training device and are looked at when
the caller asks, by `advance`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from actsearch.tasks.base import Recipe, TaskError
from actsearch.tasks.data import Dataset

CURVE_POINTS = 20

Curve = tuple[tuple[int, float], ...]
"""(step, mean loss since the point before)."""


class Resident:
    """A data set whose tensors lie on the training device.

    Attributes:
        inputs, labels: split name -> tensor.
        shape: of one example.
        classes: number of classes.
    """

    def __init__(self, data: Dataset, device: torch.device) -> None:
        self.name = data.name
        self.device = device
        self.classes = data.classes
        self.shape = data.inputs.shape[1:]
        self.inputs: dict[str, Tensor] = {}
        self.labels: dict[str, Tensor] = {}
        for split, index in data.splits.items():
            self.inputs[split] = torch.from_numpy(data.inputs[index]).to(device)
            self.labels[split] = torch.from_numpy(data.labels[index]).to(device)
        self._standard: tuple[Tensor, Tensor] | None = None
        if data.mean is not None and data.deviation is not None:
            self._standard = (
                torch.from_numpy(data.mean).to(device).view(-1, 1, 1),
                torch.from_numpy(data.deviation).to(device).view(-1, 1, 1),
            )

    def standardise(self, batch: Tensor) -> Tensor:
        """float32 inputs of a child from a batch of stored ones."""
        if self._standard is None:
            return batch
        mean, deviation = self._standard
        return (batch.float() - mean) / deviation


@lru_cache(maxsize=4)
def resident(data: Dataset, device: torch.device) -> Resident:
    """The data set on a device, moved there once a process."""
    return Resident(data, device)


class Trainer(ABC):
    """One child in training. Steps are counted from 0 here and from 1 in what users read."""

    def __init__(self, child: nn.Module, recipe: Recipe, data: Resident, seed: int) -> None:
        self.child = child
        self.recipe = recipe
        self.data = data
        self.order = batch_order(len(data.labels["train"]), recipe, seed).to(data.device)
        self.losses = torch.empty(recipe.steps, device=data.device)
        self.done = 0

    @abstractmethod
    def run(self, first: int, last: int) -> None:
        """Take the steps first..last-1 and write their losses before each update."""

    @abstractmethod
    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """(parameter name, gradient) of the last step."""

    def advance(self, last: int) -> bool:
        """Train up to step `last`; False where a loss or parameter is no longer finite."""
        first, self.done = self.done, last
        self.run(first, last)
        sums = [self.losses[first:last].sum()] + [p.detach().sum() for p in self.child.parameters()]
        return bool(torch.isfinite(torch.stack(sums)).all()) or self._finite(first, last)

    def _finite(self, first: int, last: int) -> bool:
        """The dear check, for sums that overflow although every term is finite."""
        finite = [torch.isfinite(self.losses[first:last]).all()]
        finite += [torch.isfinite(p).all() for p in self.child.parameters()]
        return bool(torch.stack(finite).all())

    def state(self) -> list[Tensor] | None:
        """Copies of all that `restore` needs; None where that is unknown, or too much to copy."""
        return None

    def restore(self, state: list[Tensor], done: int) -> None:
        """Go back to where `state` was taken, when `done` steps were done."""
        raise NotImplementedError

    def curve(self) -> Curve:
        """The training curve, up to the first loss that is not finite."""
        length = max(1, math.ceil(self.recipe.steps / CURVE_POINTS))
        points = []
        for first in range(0, self.done, length):
            last = min(first + length, self.done)
            mean = self.losses[first:last].double().mean().item()
            if not math.isfinite(mean):
                break
            points.append((last, mean))
        return tuple(points)


class AutogradTrainer(Trainer):
    """Trains any child with autograd and torch's fused optimisers."""

    def __init__(self, child: nn.Module, recipe: Recipe, data: Resident, seed: int) -> None:
        super().__init__(child, recipe, data, seed)
        groups = optimiser_groups(child, recipe)
        self.rates = [group["lr"] for group in groups]
        self.optimiser: torch.optim.Optimizer
        if recipe.optimizer == "adam":
            self.optimiser = torch.optim.Adam(groups, lr=recipe.lr, fused=True)
        else:
            self.optimiser = torch.optim.SGD(
                groups, lr=recipe.lr, momentum=0.9, nesterov=True, fused=True
            )
        self.shifts = augmentation(recipe, seed).to(data.device) if recipe.augment else None

    def run(self, first: int, last: int) -> None:
        inputs, labels = self.data.inputs["train"], self.data.labels["train"]
        for i in range(first, last):
            batch = self.data.standardise(inputs.index_select(0, self.order[i]))
            if self.shifts is not None:
                batch = shifted(batch, self.shifts[i])
            loss = cross_entropy(self.child(batch), labels.index_select(0, self.order[i]))
            self.losses[i] = loss.detach()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            factor = rate_factor(self.recipe, i)
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            self.optimiser.step()

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.child.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad


def optimiser_groups(child: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The child's parameters by learning rate and decay; activations keep rates of their own."""
    from actsearch.codegen import parameter_groups

    return parameter_groups(child, recipe.lr, recipe.weight_decay)


def rate_factor(recipe: Recipe, step: int) -> float:
    """What the schedule multiplies every learning rate by at a step, counted from 0."""
    if recipe.schedule == "constant":
        return 1.0
    remaining = 1.0 - step / recipe.steps
    if recipe.schedule == "linear":
        return remaining
    return 0.5 - 0.5 * math.cos(math.pi * remaining)


def batch_order(examples: int, recipe: Recipe, seed: int) -> Tensor:
    """(steps, batch_size) indices: a fresh permutation each epoch, its incomplete batch dropped."""
    per_epoch = examples // recipe.batch_size
    if per_epoch == 0:
        raise TaskError(
            f"batch_size {recipe.batch_size} is more than the {examples} training examples"
        )
    generator = torch.Generator().manual_seed(seed)
    epochs = [
        torch.randperm(examples, generator=generator)[: per_epoch * recipe.batch_size]
        for _ in range(math.ceil(recipe.steps / per_epoch))
    ]
    return torch.cat(epochs).view(-1, recipe.batch_size)[: recipe.steps].contiguous()


def augmentation(recipe: Recipe, seed: int) -> Tensor:
    """(steps, batch_size, 3): rows and columns to shift by, -4..4, and whether to flip, 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (recipe.steps, recipe.batch_size)
    shift = torch.randint(-4, 5, (*shape, 2), generator=generator, dtype=torch.int8)
    flip = torch.randint(0, 2, (*shape, 1), generator=generator, dtype=torch.int8)
    return torch.cat([shift, flip], dim=2)


def shifted(batch: Tensor, moves: Tensor) -> Tensor:
    """Images (N, C, H, W) moved and flipped by (N, 3) moves; zeros come in at the edges."""
    _, channels, height, width = batch.shape
    padded = nn.functional.pad(batch, (4, 4, 4, 4))
    moves = moves.long()
    rows = torch.arange(height, device=batch.device) + 4 + moves[:, :1]
    columns = torch.arange(width, device=batch.device)
    columns = torch.where(moves[:, 2:] == 1, columns.flip(0), columns) + 4 + moves[:, 1:2]
    padded = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width + 8))
    return padded.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))
