"""Tasks: (data, child network, recipe) -> metric, the number that a search maximises.

`task("mnist1d-mlp").train("x*sigmoid(x)", seed=0)` trains one child network with that activation
and returns a `ChildResult`. Importing this package loads neither torch nor a data set.
"""

from __future__ import annotations

from actsearch.tasks.base import SPLITS, ChildResult, Recipe, Task, TaskError
from actsearch.tasks.registry import EMBEDDED, TASKS, task

__all__ = ["EMBEDDED", "SPLITS", "TASKS", "ChildResult", "Recipe", "Task", "TaskError", "task"]
