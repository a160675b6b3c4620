"""Regularised evolution: tournaments in a population from which the oldest always dies.

Real, Aggarwal, Huang and Le, *Regularized Evolution for Image Classifier Architecture Search*
(2019, arXiv 1802.01548).
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from actsearch.drivers.base import Driver, Space, SpaceExhausted
from actsearch.grammar.errors import UsageError

MUTATION_ATTEMPTS = 20
"""How often a parent is mutated in search of a child that has not been proposed yet."""


class Evolution(Driver):
    """Regularised (ageing) evolution over grammar mutations.

    Args:
        population: how many of the latest candidates live.
        tournament: how many of them are drawn for each tournament; the best one is the parent.

    The first `population` candidates are uniformly random. Failed candidates never live.
    """

    name: ClassVar[str] = "evolution"

    def __init__(self, space: Space, seed: int, population: int = 32, tournament: int = 8) -> None:
        super().__init__(space, seed)
        if not 1 <= tournament <= population:
            raise UsageError(
                f"a tournament has 1 to {population} (the population) members, not {tournament}"
            )
        self.population = population
        self.tournament = tournament
        self._living: deque[tuple[int, float]] = deque(maxlen=population)
        self._proposed: dict[int, None] = {}

    def _propose(self) -> int:
        if len(self._proposed) < self.population or not self._living:
            index = self._stranger()
        else:
            index = self._child()
        self._proposed[index] = None
        return index

    def _stranger(self) -> int:
        """A uniformly random candidate, a new one where chance finds one."""
        count = self.space.count()
        if len(self._proposed) == count:
            raise SpaceExhausted(count)
        for _ in range(MUTATION_ATTEMPTS):
            index = self.random.randrange(count)
            if index not in self._proposed:
                break
        return index

    def _child(self) -> int:
        """A mutation of a tournament's winner; if it is known already, a mutation of that."""
        drawn = min(self.tournament, len(self._living))
        parent = max(self.random.sample(list(self._living), drawn), key=lambda member: member[1])
        index = parent[0]
        for _ in range(MUTATION_ATTEMPTS):
            index = self.space.mutate(index, self.random)
            if index not in self._proposed:
                return index
        return self._stranger()

    def _learn(self, index: int, reward: float | None) -> None:
        if reward is not None:
            self._living.append((index, reward))

    def _observe(self, index: int, reward: float | None) -> None:
        self._proposed[index] = None
        self._learn(index, reward)

    def _revise(self, index: int, reward: float | None) -> None:
        living = [(k, reward if k == index else before) for k, before in self._living]
        alive = ((k, value) for k, value in living if value is not None)
        self._living = deque(alive, maxlen=self.population)

    def _state(self) -> dict[str, Any]:
        return {
            "living": [list(member) for member in self._living],
            "proposed": list(self._proposed),
        }

    def _load(self, state: dict[str, Any]) -> None:
        living = ((index, reward) for index, reward in state["living"])
        self._living = deque(living, maxlen=self.population)
        self._proposed = dict.fromkeys(state["proposed"])
