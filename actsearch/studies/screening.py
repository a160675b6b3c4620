"""Screening: what is known of a candidate before a training run is spent on it.

A candidate that cannot train is excluded with its reason; one that is proved to be the same
function as an earlier one shares that one's reward.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from actsearch.grammar import Expression
from actsearch.grammar.errors import UsageError, did_you_mean
from actsearch.grammar.evaluate import evaluate_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXCLUSIONS = ("constant", "undefined")
"""Reasons for which a search can exclude candidates."""

INTERVAL = (-5.0, 5.0)
"""Where a candidate has to be defined and must not be constant."""

_GRID = np.linspace(*INTERVAL, 1001)
_OTHER_PARAMETERS = (0.37, -1.61)


class EquivalenceIndex(Protocol):
    """Finds the class of a candidate among those seen before."""

    def find_or_add(self, expression: Expression) -> tuple[Any, bool, Any]:
        """(class, whether it is new, certificate of membership)."""
        ...


def check_exclusions(names: Collection[str]) -> None:
    """UsageError for the first name that is not among `EXCLUSIONS`."""
    for name in names:
        if name not in EXCLUSIONS:
            hint = did_you_mean(name, EXCLUSIONS)
            raise UsageError(f"cannot exclude {name!r}; exclude {' or '.join(EXCLUSIONS)}{hint}")


def exclusion(expression: Expression, names: Collection[str]) -> str | None:
    """Why a search that excludes these kinds of candidates excludes this one; None if it does not.

    "undefined" looks at 1001 points of [-5, 5], with parameters at their initial values, as they
    are when training begins. "constant" compares the same points at other parameters as well.
    """
    values = _values(expression, {})
    if "undefined" in names and not np.isfinite(values).all():
        where = _GRID[~np.isfinite(values)][0]
        return f"undefined or infinite at x = {where:g}"
    if "constant" in names and _is_constant(expression, values):
        return "constant on [-5, 5]"
    return None


def _values(expression: Expression, parameters: dict[str, float]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        values = evaluate_numpy(expression, {"x": _GRID, "gate": _GRID[::-1], **parameters})
    return np.broadcast_to(values, _GRID.shape)


def _is_constant(expression: Expression, values: NDArray[np.float64]) -> bool:
    if not expression.inputs:
        return True
    others = (
        _values(expression, {parameter.name: value for parameter in expression.parameters})
        for value in _OTHER_PARAMETERS
    )
    return all(np.ptp(v) <= 1e-12 * np.max(np.abs(v)) for v in (values, *others))
