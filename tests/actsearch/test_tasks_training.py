"""Trainers: the lean loop against autograd, activation parameters, schedules, data caching."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actsearch.grammar import parse
from actsearch.tasks import data as task_data
from actsearch.tasks import dense, task
from actsearch.tasks.children import Generated
from actsearch.tasks.dense import DenseTrainer
from actsearch.tasks.trainers import (
    AutogradTrainer,
    Trainer,
    augmentation,
    batch_order,
    rate_factor,
    resident,
    shifted,
)
from actsearch.tasks.training import new_trainer

CPU = torch.device("cpu")


def trained(
    text: str, steps: int, kind: type[Trainer] = DenseTrainer, **options: Any
) -> dict[str, torch.Tensor]:
    """A digits MLP's parameters after some steps with one of the trainers."""
    subject = task("digits-mlp", steps=steps, **options)
    loaded = resident(subject.load(), CPU)
    trainer = new_trainer("mlp", subject.recipe, Generated(parse(text)), loaded, seed=0)
    if kind is not DenseTrainer:
        trainer = kind(trainer.child, subject.recipe, loaded, seed=0)
    assert type(trainer) is kind
    assert trainer.advance(steps)
    return dict(trainer.child.named_parameters())


@pytest.mark.parametrize(
    "text",
    [
        "relu(x)",
        "x*sigmoid(x)",
        "x*sigmoid(beta*x); beta = 1.0 per channel lr 0.1",
        "max(x, a*x) + b; a = 0.25; b = 0.0 per channel",
        "x*sigmoid(gate)",
        "2 + 0*x",
        "x",
    ],
)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "schedule": "cosine"}])
def test_the_lean_loop_trains_as_autograd_does(text: str, options: dict[str, Any]) -> None:
    lean = trained(text, 15, DenseTrainer, **options)
    plain = trained(text, 15, AutogradTrainer, **options)
    start = trained(text, 1, DenseTrainer, **options)
    assert lean.keys() == plain.keys()
    for name in lean:
        # Rounding alone, where 15 steps of Adam at rate 0.003 move a weight by up to 0.045. A
        # gradient that is truly zero (behind a constant) may round to either side of it.
        torch.testing.assert_close(lean[name], plain[name], rtol=0, atol=5e-4, msg=name)
    assert any((lean[n] - start[n]).abs().max() > 0.01 for n in lean)


@pytest.mark.parametrize("text", ["max(x, a*x); a = 0.25 per channel", "x*sigmoid(gate)", "sin(x)"])
def test_calling_the_generated_gradient_changes_no_bit(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = task("mnist1d-mlp", steps=30).train(text, seed=0)
    kinds = []

    def through_autograd(module: torch.nn.Module, device: torch.device) -> dense.ThroughAutograd:
        kinds.append(type(usual(module, device)))
        return dense.ThroughAutograd(module)

    usual = dense.differentiated
    monkeypatch.setattr(dense, "differentiated", through_autograd)
    assert task("mnist1d-mlp", steps=30).train(text, seed=0).loss == direct.loss
    assert kinds == [dense.Direct, dense.Direct]


def test_squares_of_gradients_that_overflow_are_treated_as_torch_does() -> None:
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
            return dy * 1e15

    class SteepIdentity(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor = Steep.apply(x)
            return value

    class Make:
        inputs = 1

        def __call__(self, channels: int) -> torch.nn.Module:
            return SteepIdentity()

    subject = task("digits-mlp", steps=10)
    loaded = resident(subject.load(), CPU)
    lean = new_trainer("mlp", subject.recipe, Make(), loaded, seed=0)
    again = new_trainer("mlp", subject.recipe, Make(), loaded, seed=0)
    plain = AutogradTrainer(again.child, subject.recipe, loaded, seed=0)
    assert lean.advance(10)
    assert plain.advance(10)
    assert any(gradient.abs().max() > 1e20 for _, gradient in lean.gradients())
    for ours, theirs in zip(lean.child.parameters(), plain.child.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-4)


@pytest.mark.parametrize("kind", [DenseTrainer, AutogradTrainer])
def test_activation_parameters_have_a_rate_of_their_own(kind: type[Trainer]) -> None:
    text = "x*sigmoid(beta*x); beta = 1.0 per channel lr 0.01"
    after = trained(text, 1, kind, lr=0.01)
    for layer in ("activation1", "activation2"):
        (beta,) = (p for name, p in after.items() if name.startswith(layer))
        assert beta.shape == (64,), "one for each channel"
        # Adam's first step moves every parameter by its rate: 0.01 * 0.01.
        moved = (beta.detach() - 1).abs()
        assert moved.max() < 1.01e-4
        assert moved.median() > 0.99e-4


@pytest.mark.parametrize("kind", [DenseTrainer, AutogradTrainer])
def test_activation_parameters_do_not_decay(kind: type[Trainer]) -> None:
    # beta has no influence, so only weight decay could move it.
    after = trained("relu(x) + 0*beta; beta = 1.0 per channel", 10, kind, weight_decay=1.0)
    for name, parameter in after.items():
        if name.startswith("activation"):
            assert torch.equal(parameter, torch.ones(64))


def test_sgd_and_augmentation_train() -> None:
    subject = task("digits-cnn", steps=30, optimizer="sgd", lr=0.05, schedule="linear")
    plain = subject.train("relu(x)", seed=0)
    moved = subject.train("relu(x)", seed=0, augment=True)
    assert plain.curve[-1][1] < plain.curve[0][1]
    assert moved.status == "done"
    assert moved.curve != plain.curve
    assert moved.curve == subject.train("relu(x)", seed=0, augment=True).curve


def test_schedules_start_at_the_rate_and_end_at_zero() -> None:
    recipe = task("digits-mlp", steps=100).recipe
    for schedule, middle in (("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)):
        changed = recipe.replace(schedule=schedule)
        assert rate_factor(changed, 0) == 1.0
        assert rate_factor(changed, 50) == pytest.approx(middle)
        assert (rate_factor(changed, 99) < 0.02) is (schedule != "constant")


def test_every_epoch_is_a_permutation() -> None:
    order = batch_order(100, task("digits-mlp", steps=25, batch_size=9).recipe, seed=0)
    assert order.shape == (25, 9)
    for epoch in (order[:11], order[11:22]):
        assert len(set(epoch.flatten().tolist())) == 99
    assert not torch.equal(order[:11], order[11:22])


def test_shifts_move_and_flip_images() -> None:
    images = torch.arange(2 * 3 * 6 * 5.0).reshape(2, 3, 6, 5) + 1
    moves = torch.tensor([[1, -2, 0], [0, 0, 1]])
    moved = shifted(images, moves)
    expected = torch.zeros(3, 6, 5)
    expected[:, :5, 2:] = images[0, :, 1:, :3]
    assert torch.equal(moved[0], expected)
    assert torch.equal(moved[1], images[1].flip(2))
    drawn = augmentation(task("digits-cnn", steps=50).recipe, seed=0)
    assert set(drawn[..., :2].flatten().tolist()) == set(range(-4, 5))
    assert set(drawn[..., 2].flatten().tolist()) == {0, 1}


# ---------------------------------------------------------------------------------- cache


def test_mnist1d_is_generated_alike_and_leaves_global_generators_alone() -> None:
    random.seed(7)
    np.random.seed(7)
    expected = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    inputs, labels = task_data._generate_mnist1d()
    assert (random.random(), np.random.random()) == expected
    assert np.array_equal(inputs, task("mnist1d-mlp").load().inputs)
    assert inputs.shape == (5000, 40)
    assert np.bincount(labels).tolist() == [500] * 10


def test_generated_arrays_are_kept_and_a_damaged_file_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTSEARCH_CACHE", str(tmp_path))
    calls = []

    def generate() -> task_data.Arrays:
        calls.append(1)
        return np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(3)

    def load() -> None:
        inputs, labels = task_data._cached_arrays("thing", generate)
        assert inputs.shape == (3, 4)
        assert inputs.dtype == np.float32
        assert labels.tolist() == [0, 1, 2]

    file = tmp_path / "thing.npz"
    load()
    load()
    assert len(calls) == 1
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (b"", b"PK", whole[:100], whole[:-5], bytes(flipped), b"\x80\x04N."):
        file.write_bytes(damaged)
        before = len(calls)
        load()
        assert len(calls) == before + 1 or damaged == bytes(flipped)
        assert file.read_bytes()[:2] == b"PK"
    np.savez(file, inputs=np.zeros((3, 4), np.float32), labels=np.arange(3), digest=np.array("0"))
    before = len(calls)
    load()
    assert len(calls) == before + 1, "arrays that are not what was kept"
    assert [f.name for f in file.parent.iterdir()] == ["thing.npz"], "no temporary file is left"


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("ACTSEARCH_CACHE", str(blocked))
    made = np.ones((1, 2), np.float32), np.ones(1, np.int64)
    inputs, _ = task_data._cached_arrays("thing", lambda: made)
    assert inputs is made[0]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setenv("ACTSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "replace", full)
    made = np.ones((1, 2), np.float32), np.ones(1, np.int64)
    assert task_data._cached_arrays("thing", lambda: made) is not None
    assert list(tmp_path.iterdir()) == []
