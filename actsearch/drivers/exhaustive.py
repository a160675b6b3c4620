"""Every candidate once: in the order of the space, or in a uniformly random one."""

from __future__ import annotations

from typing import Any, ClassVar

from actsearch.drivers.base import Driver, Space, SpaceExhausted


class Exhaustive(Driver):
    """Proposes every candidate exactly once, then raises `SpaceExhausted`.

    Args:
        shuffle: in a random order instead of that of the space.
    """

    name: ClassVar[str] = "exhaustive"
    repeats = False

    def __init__(self, space: Space, seed: int, shuffle: bool = False) -> None:
        super().__init__(space, seed)
        self._count = space.count()
        self._shuffle = shuffle
        self._position = 0
        self._moved: dict[int, int] = {}

    def _propose(self) -> int:
        if self._position == self._count:
            raise SpaceExhausted(self._count)
        index = self._draw() if self._shuffle else self._position
        self._position += 1
        return index

    def _draw(self) -> int:
        """One step of Fisher and Yates' shuffle that stores only the places that were touched.

        Any prefix of the order is a uniform sample without replacement, also of 10^12 candidates.
        """
        last = self._position
        chosen = self.random.randrange(last, self._count)
        moved = self._moved.pop(last, last)
        if chosen == last:
            return moved
        index = self._moved.get(chosen, chosen)
        self._moved[chosen] = moved
        return index

    def _state(self) -> dict[str, Any]:
        return {"position": self._position, "moved": [list(item) for item in self._moved.items()]}

    def _load(self, state: dict[str, Any]) -> None:
        self._position = state["position"]
        self._moved = dict(state["moved"])
