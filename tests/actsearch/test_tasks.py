"""The contract of a task, held by every embedded one, and what users can do wrong with tasks."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actsearch.grammar import parse
from actsearch.tasks import EMBEDDED, TASKS, ChildResult, Recipe, Task, TaskError, task
from actsearch.tasks.children import CHILDREN, Generated
from actsearch.tasks.dense import DenseTrainer
from actsearch.tasks.trainers import resident
from actsearch.tasks.training import (
    WINDOW,
    first_failure,
    new_trainer,
    resolve_device,
    train_with,
    use_one_thread,
)

CPU = torch.device("cpu")

SWISH = "x*sigmoid(beta*x); beta = 1.0 per channel lr 0.01"


@pytest.fixture(params=EMBEDDED)
def embedded(request: pytest.FixtureRequest) -> Task:
    return task(request.param, steps=20)


class Plain:
    """A `MakeActivation` of hand-written modules."""

    inputs = 1

    def __init__(self, module: type[nn.Module]) -> None:
        self.module = module

    def __call__(self, channels: int) -> nn.Module:
        return self.module()


def child(subject: Task, activation: Plain, split: str = "validation") -> ChildResult:
    """A child of a hand-written activation."""
    return train_with(subject, subject.recipe, activation, seed=0, split=split, device=CPU)


# ---------------------------------------------------------------------------------- data


def test_splits_are_disjoint_and_fixed(embedded: Task) -> None:
    data = embedded.load()
    rows = [set(data.splits[s].tolist()) for s in ("train", "validation", "test")]
    assert all(len(r) == len(data.splits[s]) for r, s in zip(rows, data.splits, strict=True))
    assert sum(map(len, rows)) == len(set.union(*rows)) == len(data.labels)
    for index in data.splits.values():
        counts = np.bincount(data.labels[index], minlength=data.classes)
        assert counts.min() > 0.5 * counts.mean(), "every class takes part in every split"


def test_no_example_stands_in_two_splits(embedded: Task) -> None:
    data = embedded.load()
    seen = [{data.inputs[i].tobytes() for i in data.splits[s]} for s in data.splits]
    assert not (seen[0] & seen[1])
    assert not (seen[0] & seen[2])
    assert not (seen[1] & seen[2])


# ---------------------------------------------------------------------------------- children


def test_child_learns(embedded: Task) -> None:
    result = embedded.train("relu(x)", seed=0, steps=60)
    assert result.status == "done"
    assert result.reason is None
    assert result.metric is not None
    assert 0.2 < result.metric <= 1.0
    assert result.loss is not None
    assert 0.0 < result.loss < math.log(10)
    steps, losses = zip(*result.curve, strict=True)
    assert steps == tuple(range(3, 61, 3))
    assert losses[-1] < losses[0]
    assert (result.seed, result.steps) == (0, 60)
    assert result.seconds > 0


def test_equal_arguments_give_equal_bits(embedded: Task) -> None:
    first = embedded.train(SWISH, seed=3, device="cpu")
    torch.manual_seed(1)  # nothing outside counts: global generator, threads
    torch.rand(5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = embedded.train(SWISH, seed=3, device="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (first.metric, first.loss, first.curve) == (second.metric, second.loss, second.curve)
    other = embedded.train(SWISH, seed=4, device="cpu")
    assert other.loss != first.loss


def test_training_leaves_the_global_generator_alone(embedded: Task) -> None:
    before = torch.random.get_rng_state()
    embedded.train("relu(x)", seed=0, steps=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_equal_seeds_pair_children_of_different_activations(embedded: Task) -> None:
    data = resident(embedded.load(), CPU)
    trainers = [
        new_trainer(embedded.child, embedded.recipe, Generated(parse(text)), data, seed)
        for text, seed in (("relu(x)", 5), (SWISH, 5), ("relu(x)", 6))
    ]
    relu, swish, other = (dict(t.child.named_parameters()) for t in trainers)
    assert set(swish) - set(relu), "swish has parameters of its own"
    for name, weights in relu.items():
        assert torch.equal(weights, swish[name])
        assert not torch.equal(weights, other[name])
    assert torch.equal(trainers[0].order, trainers[1].order)
    assert not torch.equal(trainers[0].order, trainers[2].order)


def test_split_decides_only_what_is_measured(embedded: Task) -> None:
    validation = embedded.train("relu(x)", seed=0)
    test = embedded.train("relu(x)", seed=0, split="test")
    assert validation.curve == test.curve
    assert validation.loss != test.loss


@pytest.mark.parametrize("text", ["log(x)", "sqrt(x)", "exp(exp(exp(x)))"])
def test_candidates_that_are_not_finite_are_recorded(embedded: Task, text: str) -> None:
    result = embedded.train(text, seed=0)
    assert (result.status, result.metric, result.loss) == ("failed", None, None)
    assert result.reason is not None
    assert result.reason.startswith("loss is nan at step ")


@pytest.mark.parametrize("text", ["3", "where(x > 0, 1, 0)", "sign(x)", "x", "1/x", "0*x"])
def test_strange_candidates_are_results(embedded: Task, text: str) -> None:
    result = embedded.train(text, seed=0)
    if result.status == "done":
        assert result.metric is not None
        assert math.isfinite(result.metric)
    else:
        assert result.reason


def test_a_constant_trains_to_chance(embedded: Task) -> None:
    result = embedded.train("0.5", seed=0)
    assert result.metric is not None
    assert result.metric < 0.2


def test_gated_activations_train(embedded: Task) -> None:
    assert embedded.train("x*sigmoid(gate)", seed=0).status == "done"


def test_results_and_tasks_are_plain_data(embedded: Task) -> None:
    result = embedded.train("relu(x)", seed=0, steps=3)
    assert ChildResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    again = pickle.loads(pickle.dumps(embedded))
    assert again.train("relu(x)", seed=0, steps=3).loss == result.loss
    rebuilt = task(embedded.name, **json.loads(json.dumps(embedded.options)))
    assert rebuilt.recipe == embedded.recipe


# ---------------------------------------------------------------------------------- failures


def poison(at: int, backward: bool) -> Plain:
    """ReLU whose value, or gradient, is nan from its `at`-th batch on."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, bad: bool) -> Tensor:
            ctx.save_for_backward(x)
            ctx.bad = bad and backward  # type: ignore[attr-defined]
            return x.relu() * (math.nan if bad and not backward else 1.0)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor, None]:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return g * (x > 0) * (math.nan if ctx.bad else 1.0), None  # type: ignore[attr-defined]

    class Poisoned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            value: Tensor = Function.apply(x, self.calls >= at)
            return value

    return Plain(Poisoned)


@pytest.mark.parametrize("step", [1, 2, 50, 51, 67])
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_the_first_bad_step_is_named(name: str, step: int) -> None:
    subject = task(name, steps=70, batch_size=8)
    result = child(subject, poison(step, backward=False))
    assert result.reason == f"loss is nan at step {step}"
    result = child(subject, poison(step, backward=True))
    assert result.reason == f"gradient of layer1.weight is not finite at step {step}"


def test_a_child_that_fails_only_when_measured() -> None:
    subject = task("digits-mlp", steps=70, batch_size=8)
    result = child(subject, poison(71, backward=False), split="test")
    assert result.reason == "test loss is nan"
    assert result.metric is None
    assert len(result.curve) == 18


def test_divergence_is_recorded_with_its_step() -> None:
    result = task("digits-mlp", steps=100, lr=50.0).train("exp(x)", seed=0)
    assert result.status == "failed"
    assert result.reason is not None
    assert int(result.reason.rsplit(" ", 1)[1]) > 1


@pytest.mark.parametrize(
    ("text", "lr", "first_window"),
    [
        ("x*exp(x)", 0.01, False),  # step 73, or so: machines round otherwise
        ("x**2*exp(x)", 0.01, True),  # 38
        ("cosh(x)*beta; beta = 0.5 per channel", 0.02, False),  # 85 or 101
    ],
)
def test_going_back_a_window_is_training_from_the_seed(
    text: str, lr: float, first_window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = task("digits-mlp", steps=160, lr=lr)
    result = subject.train(text, seed=0)
    assert result.reason is not None
    assert (int(result.reason.rpartition(" ")[2]) <= WINDOW) == first_window
    monkeypatch.setattr(DenseTrainer, "state", lambda _: None)
    assert replace(subject.train(text, seed=0), seconds=0) == replace(result, seconds=0)


def test_parameters_may_be_huge_but_not_infinite() -> None:
    subject = task("digits-mlp", steps=5)
    data = resident(subject.load(), CPU)
    for value, finite in ((3e38, True), (math.inf, False)):
        trainer = new_trainer("mlp", subject.recipe, Generated(parse("1")), data, seed=0)
        with torch.no_grad():  # behind a constant, where no loss can see it
            trainer.child.get_parameter("layer1.weight").fill_(value)
        assert trainer.advance(5) is finite
    trainer = new_trainer("mlp", subject.recipe, Generated(parse("1")), data, seed=0)
    with torch.no_grad():
        trainer.child.get_parameter("layer1.bias")[3] = math.nan
    assert first_failure(trainer, 5) == "parameters are not finite after step 1"


def test_an_activation_that_raises_is_a_failure_but_the_machine_is_not() -> None:
    class Raises(nn.Module):
        error: Exception = RuntimeError("shapes do not match\nat line 3")

        def forward(self, x: Tensor) -> Tensor:
            raise self.error

    class OutOfMemory(Raises):
        error = torch.OutOfMemoryError("no memory left")

    subject = task("digits-mlp", steps=2)
    result = child(subject, Plain(Raises))
    assert result.reason == "RuntimeError: shapes do not match"
    assert result.curve == ()
    with pytest.raises(torch.OutOfMemoryError):
        child(subject, Plain(OutOfMemory))


# ---------------------------------------------------------------------------------- usage


def test_mistakes_are_told_with_the_nearest_name() -> None:
    with pytest.raises(TaskError, match=r"no task 'minst1d-mlp'.*did you mean 'mnist1d-mlp'"):
        task("minst1d-mlp")
    with pytest.raises(TaskError, match=r"no option 'step'; the options are.*mean 'steps'"):
        task("digits-mlp", step=3)
    with pytest.raises(TaskError, match="no option 'path'"):
        task("digits-mlp", path="here")
    with pytest.raises(TaskError, match="did you mean 'batch_size'"):
        task("digits-mlp").train("x", seed=0, batchsize=3)
    with pytest.raises(TaskError, match="'validation' or 'test'; did you mean 'validation'"):
        task("digits-mlp").train("x", seed=0, split="validate")
    with pytest.raises(TaskError, match="give it path="):
        task("cifar10-resnet20")
    with pytest.raises(TaskError, match="batch_size 1000 is more than the 797"):
        task("digits-mlp", batch_size=1000).train("x", seed=0)
    with pytest.raises(ValueError, match="sigmoid"):
        task("digits-mlp").train("sigmiod(x)", seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": "fast"},
        {"weight_decay": -1.0},
        {"optimizer": "sdg"},
        {"schedule": "step"},
        {"augment": "yes"},
    ],
)
def test_a_recipe_refuses_nonsense(wrong: dict[str, object]) -> None:
    with pytest.raises(TaskError, match=next(iter(wrong))):
        Recipe().replace(**wrong)


@pytest.mark.parametrize("seed", [-1, 0.5, True, 2**63, None])
def test_seeds_are_whole_numbers(seed: object) -> None:
    with pytest.raises(TaskError, match="seed"):
        task("digits-mlp").train("x", seed=seed)  # type: ignore[arg-type]


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(TaskError, match="no device 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(TaskError, match="torch sees"):
        resolve_device("cuda:99")


def test_every_row_describes_itself() -> None:
    for name, row in TASKS.items():
        assert row.child in CHILDREN
        assert row.description
        assert name.endswith(row.child)


def test_a_worker_keeps_to_one_thread() -> None:
    threads = torch.get_num_threads()
    try:
        use_one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_importing_tasks_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'sklearn', 'mnist1d', 'sympy', 'PIL'}"
    code = f"import sys, actsearch.tasks; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
