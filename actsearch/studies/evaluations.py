"""Evaluations: what a driver's proposal comes to, at which fidelity and at what price.

A proposal is excluded, takes over what is known of an equal function, or trains children. What is
known need not have been trained here: baselines and an earlier study's trainings count, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actsearch.drivers import Rung
from actsearch.studies.records import Training, Trial, mean_of
from actsearch.studies.store import searched


@dataclass(frozen=True)
class Fidelities:
    """How a study trains its candidates: one fidelity, or the rungs of successive halving.

    Attributes:
        rungs: the fidelities, the cheapest first.
        seeds: of the children; a rung uses the first of them.
        full: steps of the task's recipe; 1 where it has none.
    """

    rungs: tuple[Rung, ...]
    seeds: tuple[int, ...]
    full: int

    @property
    def price(self) -> int:
        """What a trial stands for in steps: by the recipe, from each seed that all train from."""
        return self.full * (self.rungs[0].seeds if len(self.rungs) == 1 else 1)

    def steps(self, training: Training) -> int:
        """What a training costs in optimiser steps; nothing for one whose result is taken over."""
        if training.copied:
            return 0
        return self.full if training.budget is None else training.budget

    def missing(self, trial: Trial, rung: int) -> list[int]:
        """The seeds that a trial has yet to be trained from for a rung."""
        wanted = self.rungs[rung]
        held = {t.seed for t in trial.trainings if t.budget == wanted.steps}
        return [seed for seed in self.seeds[: wanted.seeds] if seed not in held]

    def counted(self, trial: Trial, rung: int) -> list[Training]:
        """The trainings that a rung consists of; the first one, whatever the trial began with."""
        if rung == 0:
            return [t for t in trial.trainings if t.rung == 0]
        wanted = self.rungs[rung]
        seeds = self.seeds[: wanted.seeds]
        return [t for t in trial.trainings if t.budget == wanted.steps and t.seed in seeds]

    def entry(self, known: int) -> int | None:
        """The rung that so many known trainings by the task's own recipe are as good as."""
        fit = (k for k, rung in enumerate(self.rungs) if rung.steps is None and rung.seeds <= known)
        return max(fit, default=None)


@dataclass(eq=False)
class Evaluation:
    """A proposal of the driver, or of a warm start, on its way to its reward.

    Attributes:
        trial: of the candidate.
        rung: at which it is evaluated.
        trainings: that its reward is the mean of.
        own: those that the trial has because of it.
        warm: whether it was not the driver that proposed it.
        costs: whether any of its own has to be done, or had to be.
    """

    trial: Trial
    rung: int
    trainings: Sequence[Training]
    own: Sequence[Training]
    warm: bool = False
    costs: bool = field(init=False)

    def __post_init__(self) -> None:
        self.costs = any(not training.copied for training in self.own)

    @property
    def known(self) -> bool:
        """Whether the reward is that of another trial, or there is none."""
        return self.trial.decision != "train"

    @property
    def reward(self) -> float | None:
        """Mean metric, once all trainings are finished; None where one failed or it is excluded."""
        if not self.trainings or any(training.state == "failed" for training in self.trainings):
            return None
        return mean_of(self.trainings, "metric")

    @property
    def metrics(self) -> dict[int, float]:
        """The metric by seed."""
        return {t.seed: t.metric for t in self.trainings if t.metric is not None}


class Library:
    """Finished trainings that any candidate of the same function may take over.

    Args:
        baselines: trainings of baselines, on the validation split.
    """

    def __init__(self, baselines: Iterable[Training]) -> None:
        self._of: dict[str, list[Training]] = defaultdict(list)
        for training in baselines:
            if training.finished:
                self._of[training.expression].append(training)

    @property
    def expressions(self) -> tuple[str, ...]:
        """The functions that something is known of."""
        return tuple(self._of)

    def taken_over(
        self, baseline: str | None, trial: Trial, rung: int, steps: int | None, seeds: Sequence[int]
    ) -> list[Training]:
        """Copies of a baseline's trainings with so many steps from these seeds."""
        if baseline is None:
            return []
        return [
            training.copy_for(trial.number, trial.expression, rung)
            for training in self._of[baseline]
            if training.budget == steps and training.seed in seeds
        ]


def needed(library: Library, fidelities: Fidelities, trial: Trial, rung: int) -> list[Training]:
    """The trainings that a trial needs for a rung and does not have, new or taken over."""
    seeds = fidelities.missing(trial, rung)
    steps = fidelities.rungs[rung].steps
    copies = library.taken_over(trial.baseline, trial, rung, steps, seeds)
    held = {training.seed for training in copies}
    fresh = searched(trial, [seed for seed in seeds if seed not in held], rung, steps)
    return copies + fresh


def warm_trainings(trial: Trial, known: Iterable[Mapping[str, Any]]) -> list[Training]:
    """An earlier study's trainings of a candidate, as finished ones of this trial."""
    return [
        Training(0, "search", trial.number, trial.expression, split="validation", **facts)
        for facts in known
    ]
