"""Random search: uniform over the space, without replacement."""

from __future__ import annotations

from typing import ClassVar

from actsearch.drivers.base import Space
from actsearch.drivers.exhaustive import Exhaustive


class RandomSearch(Exhaustive):
    """Uniformly random candidates, none of them twice (Bergstra and Bengio 2012)."""

    name: ClassVar[str] = "random"

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed, shuffle=True)
