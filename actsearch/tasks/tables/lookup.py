"""The task `table:NAME`: a training is looked up, so that drivers can be compared in seconds."""

from __future__ import annotations

from typing import Any

from actsearch.grammar import Expression
from actsearch.tasks.base import ChildResult, TaskError
from actsearch.tasks.tables.contents import Table, table

PREFIX = "table:"


class TableTask:
    """Answers from a table what a child network came to; used as `Task` is.

    Args:
        source: the table, its name or its path.

    The table has some seeds; a child's seed modulo their number says which of them is read.
    """

    splits = ("validation",)
    """A table knows nothing of a test split: a study that uses it has no re-test."""

    def __init__(self, source: str | Table) -> None:
        self.table = source if isinstance(source, Table) else table(source)
        self.name = f"{PREFIX}{self.table.name}"

    def train(
        self,
        expression: str | Expression,
        seed: int,
        split: str = "validation",
        device: str = "auto",
        **_: Any,
    ) -> ChildResult:
        """What the table says of a function.

        Args:
            expression: of the table's space.
            seed: which of the table's seeds is read, modulo their number.
            split: "validation".
            device: of no consequence.

        Raises:
            TaskError: another split.
        """
        if split not in self.splits:
            raise TaskError(f"{self.name} has no {split} split: search with --retest 0")
        number = self.table.class_of(str(expression))
        if number is None:
            return ChildResult(None, None, "failed", "not in the table", (), 0.0, seed, 0)
        column = seed % len(self.table.seeds)
        metric, loss = self.table.metrics[number][column], self.table.losses[number][column]
        if metric is None:
            return ChildResult(None, None, "failed", "failed in the table", (), 0.0, seed, 0)
        return ChildResult(metric, loss, "done", None, (), 0.0, seed, 0)
