"""Training one child network: seeded, and never stopped by what a candidate computes.

Losses and parameters are looked at once a window of steps. A window that went wrong is run again,
and each of its steps inspected, to say exactly which loss or gradient was the first that was not
finite.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from actsearch.grammar import Expression, as_expression
from actsearch.tasks.base import ChildResult, Recipe, Task, TaskError
from actsearch.tasks.children import MLP, PRECISION, Generated, MakeActivation, build_child
from actsearch.tasks.dense import DenseTrainer
from actsearch.tasks.trainers import AutogradTrainer, Curve, Resident, Trainer, resident

WINDOW = 50  # steps between two looks at the losses, each of which waits for the device
EVALUATION_BATCH = 1000


def train_child(
    task: Task,
    recipe: Recipe,
    expression: str | Expression,
    *,
    seed: int,
    split: str,
    device: str,
) -> ChildResult:
    """What `Task.train` promises, for a recipe whose overrides are applied."""
    parsed = as_expression(expression)
    place = resolve_device(device)
    return train_with(task, recipe, Generated(parsed), seed=seed, split=split, device=place)


def prepare(expressions: Sequence[str | Expression], device: str) -> None:
    """What `Task.prepare` promises."""
    from actsearch.codegen import prepare as build

    build(expressions, precision=PRECISION, device=resolve_device(device).type)


def train_with(
    task: Task,
    recipe: Recipe,
    activation: MakeActivation,
    *,
    seed: int,
    split: str,
    device: torch.device,
) -> ChildResult:
    """Train one child with activations from any maker; see `Task.train`."""
    data = resident(task.load(), device)
    started = time.perf_counter()
    curve: Curve = ()
    metric = loss = None
    with repeatable(device):
        try:
            trainer, curve, reason = _train(task.child, recipe, activation, data, seed)
            if reason is None:
                metric, loss = evaluate(trainer.child, data, split)
                if not math.isfinite(loss):
                    reason = f"{split} loss is {_spell(loss)}"
        except (TaskError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the task or the machine is at fault, not the candidate
        except (ArithmeticError, RuntimeError, ValueError) as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
    return ChildResult(
        metric=metric if reason is None else None,
        loss=loss if reason is None else None,
        status="done" if reason is None else "failed",
        reason=reason,
        curve=curve,
        seconds=time.perf_counter() - started,
        seed=seed,
        steps=recipe.steps,
    )


def new_trainer(
    child: str, recipe: Recipe, activation: MakeActivation, data: Resident, seed: int
) -> Trainer:
    """A fresh child with the initial weights and batches of its seed, before its first step."""
    with seeded(seed):  # on the CPU, so that every device starts from the same weights
        network = build_child(child, data.shape, data.classes, recipe.width, activation)
    network = network.to(data.device)
    if isinstance(network, MLP) and recipe.optimizer == "adam" and not recipe.augment:
        return DenseTrainer(network, recipe, data, seed)
    return AutogradTrainer(network, recipe, data, seed)


def _train(
    child: str, recipe: Recipe, activation: MakeActivation, data: Resident, seed: int
) -> tuple[Trainer, Curve, str | None]:
    """A trained child, its curve and None, or how far it came and the reason why it failed."""
    trainer = new_trainer(child, recipe, activation, data, seed)
    while trainer.done < recipe.steps:
        first, state = trainer.done, trainer.state()
        if not trainer.advance(min(first + WINDOW, recipe.steps)):
            curve, last = trainer.curve(), trainer.done
            if state is not None:
                trainer.restore(state, first)
            else:
                trainer = new_trainer(child, recipe, activation, data, seed)
                if first:
                    trainer.advance(first)
            return trainer, curve, first_failure(trainer, last)
    return trainer, trainer.curve(), None


def first_failure(trainer: Trainer, last: int) -> str:
    """Train on, up to step `last`, one step at a time, and name what first was not finite."""
    for i in range(trainer.done, last):
        finite = trainer.advance(i + 1)
        loss = trainer.losses[i].item()
        if not math.isfinite(loss):
            return f"loss is {_spell(loss)} at step {i + 1}"
        for name, gradient in trainer.gradients():
            if not torch.isfinite(gradient).all():
                return f"gradient of {name} is not finite at step {i + 1}"
        if not finite:
            return f"parameters are not finite after step {i + 1}"
    return f"parameters are not finite after step {last}"


def evaluate(child: nn.Module, data: Resident, split: str) -> tuple[float, float]:
    """(accuracy in [0, 1], mean cross-entropy in nats) of a child on a split."""
    inputs, labels = data.inputs[split], data.labels[split]
    child.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    total = torch.zeros((), dtype=torch.float64, device=data.device)
    with torch.no_grad():
        for first in range(0, len(labels), EVALUATION_BATCH):
            here = slice(first, first + EVALUATION_BATCH)
            logits = child(data.standardise(inputs[here]))
            correct += (logits.argmax(1) == labels[here]).sum()
            total += cross_entropy(logits, labels[here], reduction="sum").double()
    child.train()
    return correct.item() / len(labels), total.item() / len(labels)


def resolve_device(device: str) -> torch.device:
    """The torch device for "auto" (CUDA where there is one) or a device's name.

    Raises:
        TaskError: no such device, here or anywhere.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise TaskError(f'no device {device!r}: say "auto", "cpu", "cuda" or "cuda:0"') from None
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise TaskError(f"no device {device!r}: torch sees {seen} CUDA devices on this machine")
    return place


def use_one_thread() -> None:
    """Keep this process to one computing thread; each worker process of a search calls it once."""
    torch.set_num_threads(1)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Settings under which the same child gives the same bits.

    On the CPU one thread, since sums depend on how many share them (and small children are fastest
    so); on CUDA the deterministic cuDNN algorithms.
    """
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    choices = cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = choices
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global CPU generator seeded inside, untouched outside."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _spell(value: float) -> str:
    """nan, inf or -inf."""
    return f"{value}"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else "no message"
