"""What a task is, how a child is trained, and what comes back: Recipe, Task, ChildResult.

This file imports nothing heavy: torch and the data are touched by `Task.train` only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from actsearch.grammar.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from actsearch.grammar import Expression
    from actsearch.tasks.data import Dataset

SPLITS = ("validation", "test")
"""What a child may be measured on. Both train on the training split alone, so that the curves of a
search and of its final re-test compare."""


class TaskError(UsageError):
    """A task, option, data set or device that does not exist or cannot be used."""


@dataclass(frozen=True)
class Recipe:
    """How a child network is trained. Every field is an option of `task(name, ...)`.

    Attributes:
        steps: optimiser steps.
        batch_size: examples a step; an epoch drops its incomplete last batch.
        lr: learning rate of the weights; an activation's parameters multiply it by their own rate.
        weight_decay: L2 penalty on the weights, never on an activation's parameters.
        width: hidden units of an MLP, first-stage channels of a convolutional network, model
            dimension of a Transformer.
        optimizer: "adam" (Kingma and Ba 2015, β = (0.9, 0.999), ε = 1e-8) or "sgd" (Nesterov, 0.9).
        schedule: "constant", "linear" (to 0) or "cosine" (to 0; Loshchilov and Hutter 2017).
        augment: random 4-pixel shifts and horizontal flips of image batches.
    """

    steps: int = 400
    batch_size: int = 64
    lr: float = 0.01
    weight_decay: float = 0.0
    width: int = 100
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    augment: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise TaskError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name, least in (("lr", "above"), ("weight_decay", "at least")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TaskError(f"{name} must be a number, not {value!r}")
            if not (0.0 < value < float("inf") or (value == 0 and least == "at least")):
                raise TaskError(f"{name} must be finite and {least} 0, not {value!r}")
        for name, known in (
            ("optimizer", ("adam", "sgd")),
            ("schedule", ("constant", "linear", "cosine")),
            ("augment", (False, True)),
        ):
            value = getattr(self, name)
            if value not in known:
                names = ", ".join(map(repr, known))
                raise TaskError(f"{name} must be one of {names}, not {value!r}")

    def replace(self, **overrides: Any) -> Recipe:
        """This recipe with some fields changed; TaskError names an unknown one and the nearest."""
        check_options(overrides, RECIPE_OPTIONS)
        return dataclasses.replace(self, **overrides)


RECIPE_OPTIONS = tuple(f.name for f in dataclasses.fields(Recipe))


@dataclass(frozen=True)
class ChildResult:
    """What came of training one child network; plain data, ready for JSON.

    Attributes:
        metric: accuracy in [0, 1] on the split, None where the child failed.
        loss: mean cross-entropy in nats on the split, None where the child failed.
        status: "done" or "failed".
        reason: why it failed ("loss is nan at step 17"), None where it did not.
        curve: (step, mean training loss since the point before), about 20 finite points.
        seconds: wall-clock of building, training and measuring the child.
        seed: of the initial weights and the batch order, the same for every activation.
        steps: optimiser steps asked for; a failed child may have stopped sooner.
    """

    metric: float | None
    loss: float | None
    status: Literal["done", "failed"]
    reason: str | None
    curve: tuple[tuple[int, float], ...]
    seconds: float
    seed: int
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; `ChildResult.from_dict` inverts it, also after JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChildResult:
        """The result that `to_dict` wrote."""
        curve = tuple((int(step), float(loss)) for step, loss in data["curve"])
        return cls(**{**data, "curve": curve})


@dataclass(frozen=True)
class Task:
    """A data set, a child network and a recipe; picklable, and cheap until `train` is called.

    Attributes:
        name: as in `task(name)`.
        description: one line for a listing.
        load: returns the data set; called once a process.
        child: name of the child network, a key of `actsearch.tasks.children.CHILDREN`.
        recipe: how children are trained.
        options: what the user changed: `task(name, **options)` builds this task again.
    """

    name: str
    description: str
    load: Callable[[], Dataset]
    child: str
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, expressions: Sequence[str | Expression], device: str = "auto") -> None:
        """Build the code of several activations in one go, which is cheaper than in `train`.

        Args:
            expressions: activations that are to be trained.
            device: as for `train`.

        Raises:
            ActSearchError: one of them is no expression.
        """
        from actsearch.tasks.training import prepare

        prepare(expressions, device)

    def train(
        self,
        expression: str | Expression,
        seed: int,
        split: str = "validation",
        device: str = "auto",
        **overrides: Any,
    ) -> ChildResult:
        """Train one child network on the training split and measure it on `split`.

        The seed alone decides initial weights and batch order, so children of different
        activations and equal seed are paired. On one machine and device, equal arguments give a
        bit-identical metric.

        Args:
            expression: the activation; its per-channel parameters get one value a channel.
            seed: 0 or more.
            split: "validation" for a search, "test" for its final re-test.
            device: "auto" (CUDA where torch sees it, else the CPU) or a torch device.
            **overrides: fields of `Recipe` for this child only.

        Raises:
            TaskError: wrong split, device, seed or override, or data that cannot be read.
            ExpressionError: a text that is not an activation expression.

        A loss or gradient that is not finite, or an activation that cannot be built or run, is a
        result of status "failed" with its reason, never an exception.
        """
        if split not in SPLITS:
            hint = did_you_mean(str(split), SPLITS)
            raise TaskError(f"no split {split!r}: a child is measured on {or_list(SPLITS)}{hint}")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise TaskError(f"a seed is a whole number from 0 to 2**63 - 1, not {seed!r}")
        recipe = self.recipe.replace(**overrides)

        from actsearch.tasks.training import train_child

        return train_child(self, recipe, expression, seed=seed, split=split, device=device)


def check_options(given: Iterable[str], known: Iterable[str]) -> None:
    """TaskError for the first option that is not among the known ones."""
    known = tuple(known)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TaskError(f"no option {name!r}; the options are {', '.join(known)}{hint}")


def or_list(names: Iterable[str]) -> str:
    """`'a' or 'b'`."""
    return " or ".join(repr(name) for name in names)
