"""A bounded memory of what was computed: it forgets everything when it is full."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """A dictionary for results that can be computed again.

    Who uses it makes room before a computation, not at each insertion, so that what the computation
    enters on its way stays there until it is done.

    Args:
        most: how many results are kept, about.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def make_room(self) -> bool:
        """Forget everything if there are too many results; whether that was so."""
        full = len(self) > self._most
        if full:
            self.clear()
        return full
