"""What a study consists of: trials, which the driver proposes, and the trainings that they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

STAGES = ("baseline", "search", "retest")
TRIAL_STATES = ("pending", "running", "done", "failed", "reused", "excluded")


@dataclass
class Training:
    """One child network, trained or to be trained: a row of the store.

    Attributes are those of the table; `curve` is a list of (step, training loss).
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

    @property
    def finished(self) -> bool:
        """Whether it needs no worker any more."""
        return self.state in ("done", "failed")


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
        trainings: one for each seed.
    """

    number: int
    index: int
    expression: str
    decision: str = "train"
    source: Trial | None = None
    certificate: str | None = None
    exclusion: str | None = None
    trainings: list[Training] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One of `TRIAL_STATES`."""
        if self.decision != "train":
            return {"reuse": "reused", "exclude": "excluded"}[self.decision]
        states = {training.state for training in self.trainings}
        if states <= {"done", "failed"}:
            return "failed" if "failed" in states else "done"
        return "running" if "running" in states else "pending"

    @property
    def reward(self) -> float | None:
        """Mean metric of its trainings, or of its source's; None where it failed or is not done."""
        if self.source is not None:
            return self.source.reward
        return mean_of(self.trainings, "metric") if self.state == "done" else None

    @property
    def loss(self) -> float | None:
        """Mean loss of its trainings, or of its source's."""
        if self.source is not None:
            return self.source.loss
        return mean_of(self.trainings, "loss") if self.state == "done" else None

    @property
    def reason(self) -> str | None:
        """Why it has no reward."""
        if self.source is not None:
            return self.source.reason
        return self.exclusion or next((t.reason for t in self.trainings if t.reason), None)

    @property
    def finished(self) -> bool:
        """Whether no training of its own has to be waited for."""
        return all(training.finished for training in self.trainings)


def mean_of(trainings: Sequence[Training], attribute: str) -> float | None:
    """Mean over the trainings that have this value, summed exactly."""
    values = [value for t in trainings if (value := getattr(t, attribute)) is not None]
    return math.fsum(values) / len(values) if values else None
