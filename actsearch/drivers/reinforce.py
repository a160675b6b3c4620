"""REINFORCE: the policy gradient of Williams (1992) with a moving-average baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actsearch.drivers.controller import Batch, Controller

if TYPE_CHECKING:
    from torch import Tensor


class Reinforce(Controller):
    """One gradient step a batch up E[A log π] + entropy bonus, with A from a moving average."""

    name: ClassVar[str] = "reinforce"

    def _update(self, batch: Batch, advantages: Tensor) -> None:
        log_probabilities, entropies = self.policy.evaluate(batch)
        gain = (advantages * log_probabilities).sum() + self.entropy * entropies.sum()
        self.policy.improve(-gain / batch.present.sum())
