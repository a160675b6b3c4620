"""The terms of the last step compared at more points: groups with equal keys are split further.

The first member of a group takes those that agree with it everywhere; the first of what is left
takes those that agree with it, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import (
    Floats,
    Points,
    evaluate_rows,
    keys,
    placeholder,
)
from actsearch.equivalence.streams import Arm
from actsearch.equivalence.term_tables import Shape, TermTable
from actsearch.equivalence.terms import TermBuilder
from actsearch.grammar.expression import Apply, Expression

_CHUNK = 4096
_ROUNDS = 40
_EARLY = 3  # rounds after which what is left is sorted by keys
_KEY_TOLERANCE = 1e-8  # of what may agree: the rounds that follow look closer
_UNDEFINED = 3e307
_CHEAP = frozenset({"add", "sub", "neg", "mul", "abs", "max", "min"})
"""Operators that take no longer to compute than their value takes to be fetched."""

Ints = NDArray[Any]


@dataclass(frozen=True)
class _Column:
    """What varies from row to row in the terms of a shape: values of the classes of a child."""

    name: str
    child: int
    table: Floats


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
        self._leaves = pool.leaves(np.float64)
        self._width = len(big)
        places = dict.fromkeys((big.place, *(p for shape in shapes for p in shape.places)))
        tables = {place: builder.values_at(builder.table(place), pool) for place in places}
        self._big = tables[big.place]
        self._shape_of = np.array([arm.shape for arm in arms])
        free = {arm.shape: arm.free for arm in arms}
        self._made = {
            number: (free[number], *self._columns(arm_template, [tables[p] for p in shape.places]))
            for number, shape in enumerate(shapes)
            for arm_template in [builder.template(shape.production)]
            if number in free
        }
        most = max(len(arm.others) for arm in arms)
        self._others = np.zeros((len(arms), most), dtype=np.int64)
        for number, arm in enumerate(arms):
            self._others[number, : len(arm.others)] = [other or 0 for other in arm.others]

    def _columns(
        self, template: Expression, tables: Sequence[Floats]
    ) -> tuple[Expression, list[_Column]]:
        """A template in which what depends on one child alone, and takes time, is a table, too."""
        columns = [_Column(placeholder(n).name, n, table) for n, table in enumerate(tables)]
        for node, child in _single_child(template, len(tables)):
            name = placeholder(len(columns))
            values = {**self._leaves, placeholder(child).name: tables[child]}
            with np.errstate(all="ignore"):
                columns.append(_Column(name.name, child, evaluate_rows(node, values, {})))
            template = template.substitute({node: name})
        used = {parameter.name for parameter in template.parameters}
        return template, [column for column in columns if column.name in used]

    def of(self, rows: Ints) -> Floats:
        """The values of rows: undefined is a huge number, and what overflows is nan."""
        arms, chosen = np.divmod(rows, self._width)
        shapes = self._shape_of[arms]
        found = np.empty((len(rows), len(self.pool)))
        with np.errstate(all="ignore"):
            for number in np.unique(shapes).tolist():
                where = np.flatnonzero(shapes == number)
                free, template, columns = self._made[number]
                values = dict(self._leaves)
                for column in columns:
                    others = self._others[arms[where], column.child]
                    own = chosen[where] if column.child == free else others
                    values[column.name] = column.table[own]
                found[where] = evaluate_rows(template, values, {})
            odd = np.flatnonzero(
                ~np.isfinite(found.sum(axis=1))
            )  # few: a pass less than to ask all
            if len(odd):
                values_there = found[odd]
                undefined = np.isnan(values_there)
                values_there[np.isinf(values_there)] = np.nan
                values_there[undefined] = _UNDEFINED
                found[odd] = values_there
        return found

    def sub_terms(self, rows: Ints) -> Floats:
        """The sizes of the large sub-terms of rows; 0 where these are undefined."""
        sizes = np.abs(self._big[rows % self._width])
        return np.asarray(np.nan_to_num(sizes, copy=False, nan=0.0, posinf=np.inf))


def _single_child(template: Expression, count: int) -> Iterator[tuple[Expression, int]]:
    """The largest parts of a template that depend on one child alone, and take time to compute."""
    children = {placeholder(number): number for number in range(count)}
    stack = [template]
    while stack:
        node = stack.pop()
        parts = list(node.postorder())
        inside = {children[part] for part in parts if part in children}
        if len(inside) == 1 and any(
            isinstance(part, Apply) and part.operator.name not in _CHEAP for part in parts
        ):
            yield node, inside.pop()
        elif len(inside) > 1:
            stack.extend(node.arguments)


def refined(
    wide: WideValues, order: Ints, begins: NDArray[np.bool_], threads: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Groups split where a wider pool tells members apart."""
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(order))
    several = np.flatnonzero(ends - starts > 1)
    several = several[np.argsort(order[starts[several]], kind="stable")]  # few shapes to a chunk
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
    sizes = span[:, 1] - span[:, 0]
    group = np.repeat(np.arange(len(span)), sizes)
    places = np.arange(len(group)) + np.repeat(span[:, 0] - np.cumsum(sizes) + sizes, sizes)
    rows = order[places].astype(np.int64)
    rows = rows[np.lexsort((rows, group))]  # members of a group by row: the first is the root
    values = wide.of(rows)
    label = np.full(len(rows), -1)
    left = np.arange(len(rows))
    for number in range(_ROUNDS):
        if number == _EARLY:
            left, group = _sorted_by_key(wide, values, left, group)
        first = np.diff(group[left], prepend=-1) != 0
        heads = left[first]
        label[heads] = heads
        left = left[~first]
        head = heads[np.searchsorted(group[heads], group[left])]
        agree = _agree(wide, rows, values, head, left)
        label[left[agree]] = head[agree]
        left = left[~agree]
        if not len(left):
            break
    label[left] = left  # what is still left after so many rounds stays apart
    own = np.repeat(np.arange(len(span)), sizes)
    resorted = np.lexsort((rows, label, own))
    order[places] = rows[resorted]
    begins[places] = np.diff(label[resorted], prepend=-1) != 0


def _sorted_by_key(wide: WideValues, values: Floats, left: Ints, group: Ints) -> tuple[Ints, Ints]:
    """What is left of groups of many functions, those with the same key together.

    Returns:
        The places by group, and for each place of the chunk its new group.
    """
    with np.errstate(invalid="ignore"):
        known = values[left] @ np.zeros(values.shape[1]) == 0
    first = np.where(known, keys(values[left], wide.pool.weights)[:, 0], 0.0)
    order = np.lexsort((first, group[left]))
    apart = np.diff(first[order], prepend=-np.inf) > _KEY_TOLERANCE
    apart |= np.diff(group[left][order], prepend=-1) != 0
    group = np.full(len(group), -1)
    group[left[order]] = np.cumsum(apart)
    return left[np.lexsort((left, group[left]))], group


def _agree(
    wide: WideValues, rows: Ints, values: Floats, first: Ints, second: Ints
) -> NDArray[np.bool_]:
    """Whether pairs of rows differ nowhere by more than rounding explains.

    That is 1e-9 times the larger of 1 and |value|, and 1e-12 times the size of the large sub-term.
    """
    with np.errstate(all="ignore"):
        distance = values[first]
        distance -= values[second]
        found = np.asarray(np.einsum("ij,ij->i", distance, distance) <= 1e-18)  # each is <= 1e-9
        unclear = np.flatnonzero(~found)
        distance = np.abs(distance[unclear])
        distance -= 1e-9 * np.maximum(1, np.abs(values[second[unclear]]))
        found[unclear] = ~(distance > 0).any(axis=1)
        wrong = np.flatnonzero(~found[unclear])
        distance = distance[wrong] - 1e-12 * wide.sub_terms(rows[second[unclear[wrong]]])
        found[unclear[wrong]] = ~(distance > 0).any(axis=1)
    return found
