"""The terms of the last step compared at more points: groups with equal keys are split further.

The first member of a group takes those that agree with it everywhere; the first of what is left
takes those that agree with it, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import Floats, Points, evaluate_rows, placeholder
from actsearch.equivalence.streams import Arm
from actsearch.equivalence.term_tables import Shape, TermTable
from actsearch.equivalence.terms import TermBuilder

_CHUNK = 8192
_ROUNDS = 40
_UNDEFINED = 3e307

Ints = NDArray[Any]


class WideValues:
    """Values of chosen rows at a wider pool, float64."""

    def __init__(
        self,
        builder: TermBuilder,
        shapes: Sequence[Shape],
        arms: Sequence[Arm],
        big: TermTable,
        pool: Points,
    ) -> None:
        self.pool = pool
        self._shapes, self._arms = shapes, arms
        self._leaves = pool.leaves(np.float64)
        self._tables = {big.place: builder.values_at(big, pool)}
        self._width = len(big)
        self._big = self._tables[big.place]
        for shape in shapes:
            for place in shape.places:
                if place not in self._tables:
                    self._tables[place] = builder.values_at(builder.table(place), pool)

    def of(self, rows: Ints) -> tuple[Floats, Floats]:
        """The values of rows, and by how much rounding may have moved them.

        Undefined is a huge number, and what overflows is nan, which differs from nothing.
        """
        numbers, chosen = np.divmod(rows, self._width)
        found = np.empty((len(rows), len(self.pool)))
        order = np.argsort(numbers, kind="stable")
        bounds = np.flatnonzero(np.diff(numbers[order])) + 1
        errors = np.abs(self._big[chosen])
        with np.errstate(all="ignore"):
            for where in np.split(order, bounds):
                arm = self._arms[int(numbers[where[0]])]
                values = dict(self._leaves)
                for child, (place, other) in enumerate(
                    zip(self._shapes[arm.shape].places, arm.others, strict=True)
                ):
                    own = chosen[where] if other is None else [other]
                    values[placeholder(child).name] = self._tables[place][own]
                found[where] = evaluate_rows(arm.template, values, {})
            undefined = np.isnan(found)
            np.copyto(found, np.nan, where=np.isinf(found))
            np.copyto(found, _UNDEFINED, where=undefined)
            errors *= 1e-3
            errors += np.maximum(1, np.abs(found))
            errors *= 1e-9
        return found, errors


def refined(
    wide: WideValues, order: Ints, begins: NDArray[np.bool_], threads: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Groups split where a wider pool tells members apart."""
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(order))
    several = np.flatnonzero(ends - starts > 1)
    several = several[np.argsort(order[starts[several]], kind="stable")]  # few arms to a chunk
    total = np.cumsum(ends[several] - starts[several])
    cuts = np.searchsorted(total, np.arange(_CHUNK, total[-1] if len(total) else 0, _CHUNK)) + 1
    spans = np.split(np.stack([starts[several], ends[several]], axis=1), cuts)
    with ThreadPoolExecutor(threads) as pool:  # numpy computes outside of the interpreter's lock
        for _ in pool.map(lambda span: _refine(wide, order, begins, span), spans):
            pass
    return order, begins


def _refine(wide: WideValues, order: Ints, begins: NDArray[np.bool_], span: Ints) -> None:
    """Split the groups of a chunk: members that agree with the first, with the next, and so on."""
    if not len(span):
        return
    places = np.concatenate([np.arange(start, end) for start, end in span])
    group = np.repeat(np.arange(len(span)), span[:, 1] - span[:, 0])
    rows = order[places].astype(np.int64)
    inside = np.lexsort((rows, group))  # members of a group by row: the first is the root
    rows = rows[inside]
    values, errors = wide.of(rows)
    label = np.full(len(rows), -1)
    left = np.arange(len(rows))
    for _ in range(_ROUNDS):
        heads = left[np.flatnonzero(np.diff(group[left], prepend=-1))]
        head = heads[np.searchsorted(group[heads], group[left])]
        agree = _agree(values, errors, head, left)
        label[left[agree]] = head[agree]
        left = left[~agree]
        if not len(left):
            break
    label[left] = left  # what is still left after so many rounds stays apart
    resorted = np.lexsort((rows, label, group))
    order[places] = rows[resorted]
    begins[places] = np.diff(label[resorted], prepend=-1) != 0


def _agree(values: Floats, errors: Floats, first: Ints, second: Ints) -> NDArray[np.bool_]:
    """Whether pairs of rows differ nowhere by more than rounding explains."""
    whole = len(second) == len(values)
    with np.errstate(all="ignore"):
        distance = values[first]
        distance -= values if whole else values[second]
        np.abs(distance, out=distance)
        differ = distance > (errors if whole else errors[second])
    return np.asarray(~differ.any(axis=1))
