"""The table of tasks, and `task(name, **options)`, which reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from actsearch.grammar.errors import did_you_mean
from actsearch.tasks import data, image_files
from actsearch.tasks.base import RECIPE_OPTIONS, Recipe, Task, TaskError, check_options


@dataclass(frozen=True)
class TaskRow:
    """One row of the table: what is fixed about a task before a user's options."""

    description: str
    load: Callable[..., data.Dataset]
    child: str
    recipe: Recipe
    data_options: tuple[str, ...] = ()


# The three embedded recipes were chosen so that ReLU neither saturates nor stays near chance, and
# a child on mnist1d takes about 0.3 s of one core.
TASKS: dict[str, TaskRow] = {
    "mnist1d-mlp": TaskRow(
        "MNIST-1D (generated, 10 classes, 40 samples a signal), MLP with two hidden layers of 100",
        data.mnist1d,
        "mlp",
        Recipe(steps=400, batch_size=64, lr=0.01, width=100),
    ),
    "digits-mlp": TaskRow(
        "scikit-learn digits (8x8, 10 classes), MLP with two hidden layers of 64",
        data.digits,
        "mlp",
        Recipe(steps=100, batch_size=64, lr=0.003, width=64),
    ),
    "digits-cnn": TaskRow(
        "scikit-learn digits (8x8, 10 classes), CNN with two 3x3 convolutions",
        data.digits,
        "cnn",
        Recipe(steps=100, batch_size=64, lr=0.003, width=16),
    ),
    "fashion-mnist-mlp": TaskRow(
        "Fashion-MNIST (idx files in path), MLP with two hidden layers of 256",
        image_files.fashion_mnist,
        "mlp",
        Recipe(steps=2000, batch_size=128, lr=0.001, width=256),
        ("path",),
    ),
    "fashion-mnist-cnn": TaskRow(
        "Fashion-MNIST (idx files in path), CNN with two 3x3 convolutions",
        image_files.fashion_mnist,
        "cnn",
        Recipe(steps=2000, batch_size=128, lr=0.001, width=32),
        ("path",),
    ),
    "imagefolder-cnn": TaskRow(
        "your images (a folder of class folders in path), CNN with two 3x3 convolutions",
        image_files.image_folder,
        "cnn",
        Recipe(steps=2000, batch_size=64, lr=0.001, width=32),
        ("path", "size"),
    ),
    "imagefolder-resnet20": TaskRow(
        "your images (a folder of class folders in path), ResNet-20",
        image_files.image_folder,
        "resnet20",
        Recipe(steps=5000, batch_size=64, lr=0.003, width=16, schedule="cosine", augment=True),
        ("path", "size"),
    ),
}

# The Swish paper searched with a ResNet-20 of 10,000 steps and re-tested on the deeper three; their
# recipe is that of the papers that introduced them: Nesterov, 128 images a step, 64,000 steps.
_SGD = Recipe(
    steps=64_000,
    batch_size=128,
    lr=0.1,
    weight_decay=5e-4,
    width=16,
    optimizer="sgd",
    schedule="cosine",
    augment=True,
)
_ON_CIFAR = {
    "resnet20": ("ResNet-20", _SGD.replace(steps=10_000, weight_decay=1e-4)),
    "resnet164": ("pre-activation ResNet-164", _SGD.replace(weight_decay=1e-4)),
    "wrn28-10": ("Wide ResNet 28-10", _SGD),
    "densenet100-12": ("DenseNet-100-12", _SGD.replace(batch_size=64, weight_decay=1e-4)),
    "transformer": (
        "Transformer of two layers on 4x4 patches",
        Recipe(10_000, 128, lr=1e-3, width=128, schedule="cosine", augment=True),
    ),
}
for _data, _load, _title in (
    ("cifar10", image_files.cifar10, "CIFAR-10"),
    ("cifar100", image_files.cifar100, "CIFAR-100"),
):
    for _child, (_network, _recipe) in _ON_CIFAR.items():
        TASKS[f"{_data}-{_child}"] = TaskRow(
            f"{_title} (binary version in path), {_network}", _load, _child, _recipe, ("path",)
        )

EMBEDDED: tuple[str, ...] = ("mnist1d-mlp", "digits-mlp", "digits-cnn")
"""The tasks that need no files of the user's."""


def task(name: str, **options: Any) -> Task:
    """The task of that name.

    Args:
        name: a key of `TASKS`, or "table:" and the name or path of a table.
        **options: fields of `Recipe`, and `path=` for the tasks that read the user's files.

    Raises:
        TaskError: an unknown name or option (the nearest known one is proposed), a missing path.
    """
    if name.startswith("table:"):
        from actsearch.tasks.tables import TableTask

        check_options(options, ())
        return cast("Task", TableTask(name.removeprefix("table:")))  # it has Task's `train`
    if name not in TASKS:
        hint = did_you_mean(str(name), TASKS)
        raise TaskError(f"no task {name!r}; the tasks are {', '.join(TASKS)}{hint}")
    row = TASKS[name]
    check_options(options, (*row.data_options, *RECIPE_OPTIONS))
    if "path" in row.data_options:
        if "path" not in options:
            raise TaskError(f"task {name!r} reads files of yours: give it path=...")
        options["path"] = os.fspath(options["path"])
    data_options = {k: v for k, v in options.items() if k in row.data_options}
    recipe_options = {k: v for k, v in options.items() if k not in row.data_options}
    return Task(
        name=name,
        description=row.description,
        load=partial(row.load, **data_options) if data_options else row.load,
        child=row.child,
        recipe=row.recipe.replace(**recipe_options),
        options=dict(options),
    )
