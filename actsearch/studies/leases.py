"""Which leases have expired: those whose holder's heart has not beaten for a while.

No clock is compared with another one, and none that can be set is read: the observer sees how often
a row has been beaten, and waits by its own monotonic clock. A jump of the system's time therefore
takes nothing from anybody. If an observer errs (its host slept, the network was away), a training
is begun a second time, and the lease's number sees to it that only one result counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

BEAT_SECONDS = 5.0
"""From one heartbeat of a worker to the next."""

EXPIRY_SECONDS = 60.0
"""Without any, after which a lease has expired."""


class LeaseWatch:
    """Watches the heartbeats of leases.

    Args:
        expiry: seconds without a heartbeat after which a lease has expired.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, expiry: float = EXPIRY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expiry = expiry
        self._clock = clock
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}

    def expired(self, held: Iterable[tuple[int, int, int]]) -> list[int]:
        """Which of the trainings in work have lost their holder.

        Args:
            held: (id, lease, number of heartbeats) of each, as just read.

        Returns:
            Their ids. A lease that is seen for the first time has just been beaten.
        """
        now = self._clock()
        seen: dict[tuple[int, int], tuple[int, float]] = {}
        for number, lease, beats in held:
            before = self._seen.get((number, lease))
            fresh = before is None or before[0] != beats
            seen[number, lease] = (beats, now) if fresh or before is None else before
        self._seen = seen
        return [key[0] for key, (_, since) in seen.items() if now - since >= self._expiry]
