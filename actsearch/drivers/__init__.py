"""Drivers: what to try next. `driver(name, space, seed)` makes one; none of them trains anything.

Importing this package does not import torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from actsearch.drivers.asha import Asha, Rung, check_rungs, parse_rungs
from actsearch.drivers.base import Driver, Space, SpaceExhausted
from actsearch.drivers.evolution import Evolution
from actsearch.drivers.exhaustive import Exhaustive
from actsearch.drivers.ppo import PPO
from actsearch.drivers.pqt import PriorityQueueTraining
from actsearch.drivers.random_search import RandomSearch
from actsearch.drivers.reinforce import Reinforce
from actsearch.drivers.surrogate import Surrogate
from actsearch.grammar.errors import UsageError, did_you_mean

__all__ = [
    "DRIVERS",
    "Asha",
    "Driver",
    "Rung",
    "Space",
    "SpaceExhausted",
    "UnknownDriver",
    "check_rungs",
    "driver",
    "parse_rungs",
]

_KINDS = (Exhaustive, RandomSearch, Evolution, Reinforce, PPO, PriorityQueueTraining, Surrogate)

DRIVERS: Mapping[str, type[Driver]] = {kind.name: kind for kind in _KINDS}
"""Every driver by name; `Asha` wraps any of them."""


class UnknownDriver(UsageError):
    """There is no driver of this name, or it has no option of this name."""


def driver(name: str, space: Space, seed: int = 0, **options: Any) -> Driver:
    """The driver of that name over a space.

    Raises:
        UnknownDriver: no driver, or no option of it, has this name.
        UsageError: an option's value is out of range.
    """
    if name not in DRIVERS:
        hint = did_you_mean(name, DRIVERS)
        raise UnknownDriver(f"no driver {name!r}; there are {', '.join(DRIVERS)}{hint}")
    known = driver_options(name)
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known)
            listed = ", ".join(known) or "none"
            raise UnknownDriver(f"{name} has no option {option!r}; its options: {listed}{hint}")
    return DRIVERS[name](space, seed, **options)


def driver_options(name: str) -> tuple[str, ...]:
    """The options that a driver takes beside the space and the seed."""
    found: dict[str, None] = {}
    for kind in DRIVERS[name].__mro__:
        parameters = inspect.signature(kind).parameters.values()
        found |= dict.fromkeys(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break  # what the base class takes cannot be given
    return tuple(option for option in found if option not in ("space", "seed"))
