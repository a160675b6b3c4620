"""Priority-queue training: the controller imitates the best that it has seen, and nothing else.

Abolafia, Norouzi, Shen, Zhao and Le, *Neural Program Synthesis with Priority Queue Training* (2018,
arXiv 1801.03526), without a policy gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from actsearch.drivers.base import Space
from actsearch.drivers.controller import Controller

if TYPE_CHECKING:
    from torch import Tensor


class PriorityQueueTraining(Controller):
    """Each batch is followed by a step up the log-likelihood of the best episodes so far.

    Args:
        elites: length of the queue.
        **options: of `Controller`.
    """

    name: ClassVar[str] = "pqt"

    def __init__(self, space: Space, seed: int, elites: int = 10, **options: Any) -> None:
        super().__init__(space, seed, elites=elites, **options)

    def _gain(self, log_probabilities: Tensor, sampled: Tensor, advantages: Tensor) -> Tensor:
        return 0.0 * log_probabilities
