"""Regularised evolution: tournaments in a population from which the oldest always dies.

Real, Aggarwal, Huang and Le, *Regularized Evolution for Image Classifier Architecture Search*
(2019, arXiv 1802.01548). Of several children, the one is evaluated whose components have done best.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from actsearch.drivers.base import Driver, Space, SpaceExhausted
from actsearch.drivers.component_model import ComponentModel
from actsearch.grammar.errors import UsageError

MUTATION_ATTEMPTS = 20
"""How often a parent is mutated in search of a child that has not been proposed yet."""


class Evolution(Driver):
    """Regularised (ageing) evolution over grammar mutations.

    Args:
        population: how many of the latest candidates live.
        tournament: how many of them are drawn for each tournament, of which the best is the parent;
            half of the population where it is not given.
        litter: how many children, each of a tournament of its own, are weighed by a linear model of
            their components; 1 for evolution without a model.

    The first `population` candidates are uniformly random. Failed candidates never live.
    """

    name: ClassVar[str] = "evolution"

    def __init__(
        self,
        space: Space,
        seed: int,
        population: int = 24,
        tournament: int | None = None,
        litter: int = 8,
    ) -> None:
        super().__init__(space, seed)
        tournament = (population + 1) // 2 if tournament is None else tournament
        if not 1 <= tournament <= population:
            raise UsageError(
                f"a tournament has 1 to {population} (the population) members, not {tournament}"
            )
        if litter < 1:
            raise UsageError(f"a litter has at least 1 child, not {litter}")
        self.population = population
        self.tournament = tournament
        self.litter = litter
        self._living: deque[tuple[int, float]] = deque(maxlen=population)
        self._proposed: dict[int, None] = {}
        self._told: list[tuple[int, float | None]] = []
        self._model = ComponentModel(len(space.components))

    def _propose(self) -> int:
        if len(self._proposed) < self.population or not self._living:
            index = self._stranger()
        else:
            index = self._fittest()
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

    def _fittest(self) -> int:
        """The most promising of a litter."""
        children = [self._child() for _ in range(self.litter)]
        if len(children) == 1:
            return children[0]
        worth = self._model.draw([reward for _, reward in self._told], self.random)
        return children[self._model.best([self.space.walk_of(k) for k in children], worth)]

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
        self._told.append((index, reward))
        self._model.add(self.space.walk_of(index))

    def _observe(self, index: int, reward: float | None) -> None:
        self._proposed[index] = None
        self._learn(index, reward)

    def _revise(self, index: int, reward: float | None) -> None:
        living = [(k, reward if k == index else before) for k, before in self._living]
        alive = ((k, value) for k, value in living if value is not None)
        self._living = deque(alive, maxlen=self.population)
        self._told = [(k, reward if k == index else before) for k, before in self._told]

    def _state(self) -> dict[str, Any]:
        return {
            "living": [list(member) for member in self._living],
            "proposed": list(self._proposed),
            "told": [list(pair) for pair in self._told],
        }

    def _load(self, state: dict[str, Any]) -> None:
        living = ((index, reward) for index, reward in state["living"])
        self._living = deque(living, maxlen=self.population)
        self._proposed = dict.fromkeys(state["proposed"])
        self._told = [(index, reward) for index, reward in state["told"]]
        self._model = ComponentModel(len(self.space.components))
        for index, _ in self._told:
            self._model.add(self.space.walk_of(index))
