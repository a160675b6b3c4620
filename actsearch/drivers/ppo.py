"""Proximal policy optimisation with the clipped objective, as in the Swish paper's search.

Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal Policy Optimization Algorithms* (2017,
arXiv 1707.06347), equation 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from actsearch.drivers.base import Space
from actsearch.drivers.controller import Controller

if TYPE_CHECKING:
    from torch import Tensor


class PPO(Controller):
    """Several epochs a batch up min(r A, clip(r, 1 - ε, 1 + ε) A).

    Args:
        batch: how many rewards make one update.
        epochs: gradient steps on each batch.
        clip: ε; r is the ratio of new to old probability of each component chosen.
        **options: of `Controller`.
    """

    name: ClassVar[str] = "ppo"

    def __init__(
        self,
        space: Space,
        seed: int,
        batch: int = 16,
        epochs: int = 4,
        clip: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(space, seed, batch, **options)
        self.epochs = epochs
        self.clip = clip

    def _gain(self, log_probabilities: Tensor, sampled: Tensor, advantages: Tensor) -> Tensor:
        return clipped_objective((log_probabilities - sampled).exp(), advantages, self.clip)


def clipped_objective(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """min(r A, clip(r, 1 - ε, 1 + ε) A): for A < 0 it is the larger ratio that counts."""
    import torch

    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)
