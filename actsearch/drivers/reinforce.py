"""REINFORCE: the policy gradient of Williams (1992) with a moving-average baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actsearch.drivers.controller import Controller

if TYPE_CHECKING:
    from torch import Tensor


class Reinforce(Controller):
    """One gradient step a batch up A log π, with the advantage A over a moving average."""

    name: ClassVar[str] = "reinforce"

    def _gain(self, log_probabilities: Tensor, sampled: Tensor, advantages: Tensor) -> Tensor:
        return advantages * log_probabilities
