"""The terms of the last step, too many to be kept: streamed through, of each two keys are kept.

A term of the last step is a production with one class of a large table, and classes of small ones
for its other children. An `Arm` is a production with everything fixed but the large table's class;
its terms are computed for a block of that table at once. Blocks are shared out among processes;
what they need lies in files that are mapped, not copied.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from actsearch.equivalence.batches import (
    WIDE,
    Floats,
    evaluate_rows,
    keys,
    placeholder,
)
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.term_tables import Shape
from actsearch.equivalence.terms import TermBuilder
from actsearch.equivalence.workers import workers
from actsearch.grammar.expression import Expression, Parameter

_BLOCK = 1024


@dataclass(frozen=True)
class Arm:
    """All terms of a shape that differ in one child only.

    Attributes:
        shape: number of the shape.
        template: the production over placeholders.
        free: the child that varies over a whole table.
        others: the classes of the other children, `None` in the place of the free one.
        weight: how many arrangements this one stands for (2 where operands may be exchanged).
    """

    shape: int
    template: Expression
    free: int
    others: tuple[int | None, ...]
    weight: int = 1


def arms_of(builder: TermBuilder, shapes: Sequence[Shape], big: tuple[int, int]) -> list[Arm]:
    """The arms of some shapes over one large table, mirror images left out."""
    found: list[Arm] = []
    for number, shape in enumerate(shapes):
        template = builder.template(shape.production)
        free = shape.places.index(big)
        twin = _twin(shapes, number)
        symmetric = twin is not None and _symmetric(template)
        if symmetric and twin is not None and twin < number:
            continue
        ranges: list[Iterable[int | None]] = [
            (None,) if child == free else range(len(builder.table(place)))
            for child, place in enumerate(shape.places)
        ]
        weight = 2 if symmetric else 1
        for others in itertools.product(*ranges):
            found.append(Arm(number, template, free, others, weight))
    return found


def _twin(shapes: Sequence[Shape], number: int) -> int | None:
    """The shape with the same production and its two children exchanged."""
    shape = shapes[number]
    if len(shape.sizes) != 2 or len(set(shape.production.children)) != 1:
        return None
    for other, candidate in enumerate(shapes):
        if (
            other != number
            and candidate.production is shape.production
            and candidate.sizes == shape.sizes[::-1]
        ):
            return other
    return None


def _symmetric(template: Expression) -> bool:
    """Whether a template over two placeholders keeps its normal form when they change places."""
    first, second = placeholder(0), placeholder(1)
    exchanged: dict[Expression, Expression] = {first: second, second: first}
    return normal_form(template) is normal_form(template.substitute(exchanged))


@dataclass(frozen=True)
class Job:
    """What a process needs to know to compute keys: the arms, and where the arrays lie."""

    folder: str
    arms: tuple[Arm, ...]
    small: tuple[tuple[str | None, ...], ...]  # for each arm, the file of each other child's table
    rows: int

    def load(self, name: str) -> Floats:
        """An array, mapped."""
        array: Floats = np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r")
        return array


def block_keys(job: Job, start: int, end: int) -> tuple[int, int]:
    """Write the keys of all arms for the rows start … end of the large table."""
    big, weights = job.load("big"), np.asarray(job.load("weights"))
    leaves = {name: np.asarray(job.load(f"leaf_{name}")) for name in ("x", "beta")}
    first = np.load(Path(job.folder) / "first.npy", mmap_mode="r+")
    second = np.load(Path(job.folder) / "second.npy", mmap_mode="r+")
    tables = {name: np.asarray(job.load(name)) for row in job.small for name in row if name}
    for place in range(start, end, _BLOCK):
        stop = min(place + _BLOCK, end)
        rows = np.asarray(big[place:stop])
        for number, values in arm_values(job.arms, job.small, tables, rows, leaves):
            both = keys(values, weights)
            first[number, place:stop] = both[:, 0]
            second[number, place:stop] = both[:, 1]
    return start, end


def arm_values(
    arms: Sequence[Arm],
    small: Sequence[Sequence[str | None]],
    tables: dict[str, Floats],
    rows: Floats,
    leaves: dict[str, Floats],
) -> Iterable[tuple[int, Floats]]:
    """For each arm its float64 values at rows of the large table; wide rows take more digits."""
    with np.errstate(all="ignore"):
        plain = rows.astype(np.float64)
        wide = np.flatnonzero(~(np.nanmax(np.abs(plain), axis=1, initial=0.0) <= WIDE))
    exact = rows[wide]
    plain_leaves = {name: value.astype(np.float64) for name, value in leaves.items()}
    plain_tables = {name: value.astype(np.float64) for name, value in tables.items()}
    memos: dict[tuple[Expression, int, bool], dict[Expression, Floats]] = {}
    for number, arm in enumerate(arms):
        found = _values(arm, small[number], plain_tables, plain, plain_leaves, memos, False)
        if len(wide):
            better = _values(arm, small[number], tables, exact, leaves, memos, True)
            with np.errstate(all="ignore"):
                found[wide] = better.astype(np.float64)
        yield number, found


def _values(
    arm: Arm,
    small: Sequence[str | None],
    tables: dict[str, Floats],
    rows: Floats,
    leaves: dict[str, Floats],
    memos: dict[tuple[Expression, int, bool], dict[Expression, Floats]],
    exact: bool,
) -> Floats:
    """An arm's values; what depends on the large table alone is computed once for all its arms."""
    values = {**leaves, placeholder(arm.free).name: rows}
    fixed: set[str] = set()
    for child, (name, number) in enumerate(zip(small, arm.others, strict=True)):
        if name is not None and number is not None:
            values[placeholder(child).name] = tables[name][number][None]
            fixed.add(placeholder(child).name)
    memo = memos.setdefault((arm.template, arm.free, exact), {})
    for node in _depending(arm.template, frozenset(fixed)):
        memo.pop(node, None)
    with np.errstate(all="ignore"):
        found = evaluate_rows(arm.template, values, memo)
    if found.shape == rows.shape and fixed:  # a new array: no node of the memo
        return found
    return np.array(np.broadcast_to(found, rows.shape), dtype=rows.dtype)


@lru_cache(maxsize=1000)
def _depending(template: Expression, names: frozenset[str]) -> tuple[Expression, ...]:
    """The nodes that depend on some of the parameters."""
    return tuple(
        node
        for node in template.postorder()
        if any(isinstance(part, Parameter) and part.name in names for part in node.postorder())
    )


def run(job: Job, processes: int, progress: Any = None) -> None:
    """Compute all keys into the files `first.npy` and `second.npy`."""
    shape = (len(job.arms), job.rows)
    for name, dtype in (("first", np.float64), ("second", np.float32)):
        path = Path(job.folder) / f"{name}.npy"
        np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
    step = max(_BLOCK, -(-job.rows // (8 * processes) // _BLOCK) * _BLOCK)
    spans = [(start, min(start + step, job.rows)) for start in range(0, job.rows, step)]
    done = 0
    if processes == 1:
        for start, end in spans:
            block_keys(job, start, end)
            done += end - start
            if progress is not None:
                progress(done * len(job.arms))
        return
    with workers(processes) as pool:
        waiting = [pool.submit(block_keys, job, start, end) for start, end in spans]
        for future in as_completed(waiting):
            start, end = future.result()
            done += end - start
            if progress is not None:
                progress(done * len(job.arms))
