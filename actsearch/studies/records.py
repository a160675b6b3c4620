"""What a study consists of: trials, which the driver proposes, and the trainings that they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

STAGES = ("baseline", "search", "retest")
TRIAL_STATES = ("pending", "running", "done", "failed", "reused", "excluded")


@dataclass
class Training:
    """One child network, trained or to be trained: a row of the store.

    Attributes are those of the table; `curve` is a list of (step, training loss). `rung` and
    `budget` (its number of steps, None for the recipe's) are those of successive halving.
    """

    id: int
    stage: str
    trial: int | None
    expression: str
    seed: int
    split: str
    state: str = "pending"
    lease: int = 0
    losses: int = 0
    worker: str | None = None
    metric: float | None = None
    loss: float | None = None
    seconds: float | None = None
    steps: int | None = None
    curve: list[list[float]] | None = None
    reason: str | None = None
    rung: int = 0
    budget: int | None = None

    @property
    def finished(self) -> bool:
        """Whether it needs no worker any more."""
        return self.state in ("done", "failed")

    @property
    def copied(self) -> bool:
        """Whether its result was taken over from a baseline or an earlier study: it cost nothing.

        Nobody has ever held it.
        """
        return self.finished and self.lease == 0

    def copy_for(self, trial: int, expression: str, rung: int) -> Training:
        """This result for a trial whose function is the same."""
        return replace(
            self,
            id=0,
            stage="search",
            trial=trial,
            expression=expression,
            rung=rung,
            lease=0,
            losses=0,
            seconds=0.0,
            worker=None,
        )


@dataclass
class Trial:
    """One proposal of the driver: a row of the store, with the trainings that it took.

    Attributes:
        number: its place in the order of proposal.
        index: its position in the space.
        expression: its text.
        decision: "train", "reuse" (of an equivalent trial's reward) or "exclude".
        source: the earlier trial whose reward it reuses.
        certificate: why the two are the same function.
        exclusion: why it is excluded.
        baseline: the baseline that is the same function, by `certificate`.
        trainings: one for each seed; with successive halving, for each rung and seed.
    """

    number: int
    index: int
    expression: str
    decision: str = "train"
    source: Trial | None = None
    certificate: str | None = None
    exclusion: str | None = None
    baseline: str | None = None
    trainings: list[Training] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One of `TRIAL_STATES`."""
        if self.decision != "train":
            return {"reuse": "reused", "exclude": "excluded"}[self.decision]
        if self.rung < 0:
            states = {training.state for training in self.trainings}
            return "running" if "running" in states else "pending"
        return "failed" if any(t.state == "failed" for t in self._complete) else "done"

    @property
    def rung(self) -> int:
        """The highest rung all of whose trainings are finished; -1 for none, 0 without rungs."""
        waiting = [training.rung for training in self.trainings if not training.finished]
        done = [t.rung for t in self.trainings if not waiting or t.rung < min(waiting)]
        return max(done, default=-1 if waiting else 0)

    @property
    def _complete(self) -> list[Training]:
        """The trainings up to that rung."""
        rung = self.rung
        return [training for training in self.trainings if training.rung <= rung]

    @property
    def counted(self) -> list[Training]:
        """Those that the reward is the mean of: with as many steps as that rung has."""
        complete = self._complete
        budget = max(complete, key=lambda t: t.rung).budget if complete else None
        return [training for training in complete if training.budget == budget]

    @property
    def reward(self) -> float | None:
        """Mean metric of its trainings, or of its source's; None where it failed or is not done.

        With successive halving, of those with as many steps as the highest rung that it reached.
        """
        if self.source is not None:
            return self.source.reward
        return mean_of(self.counted, "metric") if self.state == "done" else None

    @property
    def loss(self) -> float | None:
        """Mean loss of its trainings, or of its source's."""
        if self.source is not None:
            return self.source.loss
        return mean_of(self.counted, "loss") if self.state == "done" else None

    @property
    def reason(self) -> str | None:
        """Why it has no reward."""
        if self.source is not None:
            return self.source.reason
        return self.exclusion or next((t.reason for t in self.trainings if t.reason), None)

    @property
    def trained_here(self) -> bool:
        """Whether a training of its own was done, or is to be, and not taken over."""
        return any(not training.copied for training in self.trainings)

    @property
    def finished(self) -> bool:
        """Whether no training of its own has to be waited for."""
        return all(training.finished for training in self.trainings)


def mean_of(trainings: Sequence[Training], attribute: str) -> float | None:
    """Mean over the trainings that have this value, summed exactly."""
    values = [value for t in trainings if (value := getattr(t, attribute)) is not None]
    return math.fsum(values) / len(values) if values else None
