"""What a driver is: it proposes positions of a space (`ask`) and learns their rewards (`tell`).

A driver knows nothing of training, duplicates or processes. Its proposals depend on its seed, its
options and the order of the calls alone, and its whole state is plain data.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from actsearch.grammar import Expression


class Walk(Protocol):
    """One derivation in the making: a component is chosen at a time, where the grammar allows."""

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """For each component of the space, whether it may come next."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the derivation is complete."""
        ...

    @property
    def index(self) -> int:
        """The position of the finished derivation in its space."""
        ...

    def choose(self, component: int) -> None:
        """Append a component, by its position in `space.components`."""
        ...


class Space(Protocol):
    """What drivers need of a search space; `actsearch.grammar.space` makes real ones."""

    @property
    def components(self) -> Sequence[str]:
        """The vocabulary of a controller: every alternative that a derivation can choose."""
        ...

    def count(self) -> int:
        """How many candidates the space has."""
        ...

    def expression(self, index: int) -> Expression:
        """The function at a position."""
        ...

    def mutate(self, index: int, rng: random.Random) -> int:
        """A neighbour of a candidate."""
        ...

    def walk(self) -> Walk:
        """Begin a derivation."""
        ...

    def walk_of(self, index: int) -> list[int]:
        """The components that write a candidate."""
        ...


class SpaceExhausted(Exception):
    """Every candidate of the space has been proposed."""

    def __init__(self, count: int) -> None:
        super().__init__(f"all {count:,} candidates of the space have been proposed")


class Driver(ABC):
    """Proposes candidates of a space and learns from their rewards.

    Args:
        space: what is searched.
        seed: proposals are a function of it, of the options and of the calls so far.

    `ask` may be called several times before the first `tell`; rewards may be told in any order.
    """

    name: ClassVar[str]
    repeats: bool = True
    """Whether a candidate may be proposed twice. A driver that never does ends by itself."""
    rung: int = 0
    """At which fidelity the latest proposal is to be evaluated; only `Asha` has several."""

    def __init__(self, space: Space, seed: int) -> None:
        if space.count() < 1:
            raise ValueError("the space has no candidates to propose")
        self.space = space
        self.seed = seed
        self.random = random.Random(seed)
        self._pending: list[int] = []

    def ask(self) -> int:
        """The next candidate, as a position in the space.

        Raises:
            SpaceExhausted: a driver that never repeats itself has proposed everything.
        """
        index = self._propose()
        self._pending.append(index)
        return index

    def tell(
        self, index: int, reward: float | None, metrics: Mapping[int, float] | None = None
    ) -> None:
        """The reward of a candidate that was asked for, higher is better; None where it failed.

        Args:
            index: of the candidate.
            reward: mean over its seeds.
            metrics: by seed; what `Asha` measures the noise by.

        Raises:
            ValueError: the candidate is not awaiting a reward, or the reward is not finite.
        """
        if index not in self._pending:
            raise ValueError(f"candidate {index} is not awaiting a reward")
        _check(reward)
        self._pending.remove(index)
        self._learn(index, reward)

    def tell_known(self, index: int, reward: float | None) -> None:
        """The reward of a candidate that was asked for and needed no training: it is another one's.

        Raises:
            ValueError: as `tell`.
        """
        self.tell(index, reward)

    def observe(
        self,
        index: int,
        reward: float | None,
        metrics: Mapping[int, float] | None = None,
        rung: int | None = None,
    ) -> None:
        """Learn the reward of a candidate that was not asked for, as in a warm start.

        Args:
            index, reward, metrics: as in `tell`.
            rung: where the candidate takes part in a competition, if in any.

        Raises:
            ValueError: the reward is not finite.
        """
        _check(reward)
        self._observe(index, reward)

    def revise(self, index: int, reward: float | None) -> None:
        """A better estimate of a reward that was told before; None where it has failed since.

        Raises:
            ValueError: the reward is not finite.
        """
        _check(reward)
        self._revise(index, reward)

    def state_dict(self) -> dict[str, Any]:
        """The whole state as plain data for JSON; `load_state_dict` continues exactly from it."""
        version, words, gauss = self.random.getstate()
        return {
            "driver": self.name,
            "random": [version, list(words), gauss],
            "pending": list(self._pending),
            **self._state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: the state is another driver's.
        """
        if state["driver"] != self.name:
            raise ValueError(f"this is the state of {state['driver']!r}, not of {self.name!r}")
        version, words, gauss = state["random"]
        self.random.setstate((version, tuple(words), gauss))
        self._pending = list(state["pending"])
        self._load(state)

    @abstractmethod
    def _propose(self) -> int:
        """The next candidate."""

    def _learn(self, index: int, reward: float | None) -> None:  # noqa: B027
        """Learn from one reward; drivers that learn nothing leave this out."""

    def _observe(self, index: int, reward: float | None) -> None:  # noqa: B027
        """Learn from a candidate of others; drivers that learn nothing leave this out."""

    def _revise(self, index: int, reward: float | None) -> None:  # noqa: B027
        """Correct what was learned; drivers that keep no rewards leave this out."""

    def _state(self) -> dict[str, Any]:
        """What a subclass adds to the state."""
        return {}

    def _load(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Read what `_state` wrote."""


def _check(reward: float | None) -> None:
    if reward is not None and not math.isfinite(reward):
        raise ValueError(f"a reward is a finite number, or None for a failure, not {reward}")
