"""The fidelities of a study: what successive halving can do on a task, and with which seeds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from actsearch.drivers import Rung, check_rungs, parse_rungs
from actsearch.grammar.errors import UsageError
from actsearch.studies.evaluations import Fidelities
from actsearch.studies.protocol import training_seeds

SEEDS = (1, 2, 4, 8)
"""Seeds of the rungs unless told otherwise, as far as the task has them."""
FIRST_SHARE = 4
"""The first rung of a task with a recipe takes a quarter of its steps."""


def chosen_rungs(asha: bool | str, task: Any) -> tuple[Rung, ...] | None:
    """The rungs of a study on a task; None without successive halving.

    Args:
        asha: whether, or the rungs as `parse_rungs` reads them.
        task: what is trained.

    Raises:
        UsageError: rungs that make no sense, or that this task does not have.
    """
    if asha is False:
        return None
    full, columns = full_steps(task), seed_columns(task)
    if asha is True:
        rungs = [Rung(None, seeds) for seeds in SEEDS if columns is None or seeds <= columns]
        if full is not None and full >= FIRST_SHARE:
            rungs.insert(0, Rung(full // FIRST_SHARE, 1))
        if len(rungs) < 2:
            raise UsageError("successive halving needs several seeds, and this table has one")
        return check_rungs(rungs)
    given = [r if r.steps != full else Rung(None, r.seeds) for r in parse_rungs(asha)]
    for rung in check_rungs(given):
        if columns is not None and rung.steps is not None:
            raise UsageError(
                f"a table knows nothing of trainings with {rung.steps} steps: its rungs are "
                "fullx1,fullx2 and so on"
            )
        if columns is not None and rung.seeds > columns:
            raise UsageError(f"this table has {columns} seeds, and rung {rung} wants {rung.seeds}")
        if rung.steps is not None and full is not None and rung.steps > full:
            raise UsageError(f"rung {rung} has more steps than the recipe's {full}")
        if rung.steps is not None and not _takes_steps(task):
            raise UsageError(f"this task's `train` takes no steps, so it has no rung {rung}")
    return tuple(given)


def fidelities(config: Mapping[str, Any], task: Any) -> Fidelities:
    """How a study with this configuration trains its candidates."""
    rungs = tuple(Rung(*pair) for pair in config["rungs"] or [[None, config["seeds"]]])
    count = max(rung.seeds for rung in rungs)
    seeds = search_seeds(config["seed"], count, seed_columns(task))
    return Fidelities(rungs, tuple(seeds), full_steps(task) or 1)


def search_seeds(seed: int, count: int, columns: int | None = None) -> list[int]:
    """Seeds of the search's children; on a table, such that no two of them read the same column.

    Raises:
        UsageError: the table has fewer seeds.
    """
    if columns is None:
        return training_seeds(seed, "search", count)
    if count > columns:
        raise UsageError(f"this table has {columns} seeds, not {count}")
    (first,) = training_seeds(seed, "search", 1)
    return [first + k for k in range(count)]


def full_steps(task: Any) -> int | None:
    """Steps of a task's recipe; None for a task without one."""
    recipe = getattr(task, "recipe", None)
    return None if recipe is None else int(recipe.steps)


def seed_columns(task: Any) -> int | None:
    """How many seeds a table has; None for a task that trains."""
    table = getattr(task, "table", None)
    return None if table is None else len(table.seeds)


def _takes_steps(task: Any) -> bool:
    parameters = inspect.signature(task.train).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return "steps" in parameters or inspect.Parameter.VAR_KEYWORD in kinds
