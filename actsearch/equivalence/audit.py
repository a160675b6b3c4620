"""The audit of a partition: every merge checked by ball arithmetic at fresh points.

Sub-term merges are settled one by one, by proof or certificate. Merges of the last step are too
many for that: at each of many fresh points all classes of sub-terms are enclosed once, every term
of the last step that is merged with another one is enclosed from them, and so are compared all
merges. Points are independent: each is one unit of work, and an audit resumes after the last one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from actsearch.equivalence.balls import Ball, ball_value, is_value, precision
from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.certificate import (
    Certificate,
    Deadline,
    Witness,
    decide,
    differ_at,
)
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.marks import UNDECIDED
from actsearch.equivalence.partition_files import load_partition
from actsearch.equivalence.points import Values
from actsearch.equivalence.term_tables import Place, TermTable
from actsearch.equivalence.workers import workers
from actsearch.grammar.expression import Apply, Expression

POINTS = 96
BITS = 128
_STRIDE = 50_000
_SECONDS = 20.0

Tables = Mapping[Place, Sequence[Ball] | Mapping[int, Ball]]
"""For each table the values of its classes, at a point."""


def audit_points(count: int = POINTS, seed: int = 0) -> list[Values]:
    """Fresh points (x, β): generic dyadic numbers of both signs and of many sizes."""
    generator = random.Random(f"audit {seed}")
    found = []
    for place in range(count):
        size = 0.002 * (6000 ** ((place + 0.5) / count))  # from 0.002 to 12
        other = 0.01 * (1200 ** generator.random())
        x, beta = (
            Fraction(round(v * generator.uniform(0.9, 1.1) * (1 << 20)) * 2 + 1, 1 << 21)
            for v in (size, other)
        )
        signs = generator.choice((1, -1)), generator.choice((1, -1))
        found.append({"x": signs[0] * x, SHARED_NAME: signs[1] * beta})
    generator.shuffle(found)
    return found


# sub-terms


def settle_links(
    found: Partition, processes: int = 1, progress: Callable[[int, int], object] = lambda *_: None
) -> list[tuple[Place, int, Witness]]:
    """Certify the merges of sub-terms that still wait for it, in place.

    Returns:
        The ones shown false: place of the table, number of the link, and a witness.
    """
    waiting: list[tuple[TermTable, int]] = [
        (table, number)
        for table, number in found.table_links()
        if table.links[number][2].kind == "unproved"
    ]
    pairs = []
    for table, number in waiting:
        first, second, _ = table.links[number]
        pairs.append((found.builder.form(table, first), found.builder.form(table, second)))
    false: list[tuple[Place, int, Witness]] = []
    for done, (place, decision) in enumerate(_decisions(pairs, processes), 1):
        table, number = waiting[place]
        first, second, _ = table.links[number]
        if isinstance(decision, Certificate):
            table.links[number] = (first, second, decision)
        elif isinstance(decision, Witness):
            false.append((table.place, number, decision))
        progress(done, len(pairs))
    return false


def _decisions(
    pairs: list[tuple[Expression, Expression]], processes: int
) -> Iterator[tuple[int, Any]]:
    step = 64
    spans = [pairs[start : start + step] for start in range(0, len(pairs), step)]
    if processes == 1:
        for number, span in enumerate(spans):
            yield from ((number * step + i, d) for i, d in enumerate(_decide_all(span)))
        return
    with workers(processes) as pool:
        waiting = {pool.submit(_decide_all, span): number for number, span in enumerate(spans)}
        for future in as_completed(waiting):
            start = waiting[future] * step
            yield from ((start + i, d) for i, d in enumerate(future.result()))


def _decide_all(pairs: list[tuple[Expression, Expression]]) -> list[Any]:
    return [decide(a, b, ({},), Deadline(_SECONDS)) for a, b in pairs]


# the last step


def check_point(
    found: Partition, values: Values, since: int = 0
) -> tuple[int, int, list[tuple[int, int]]]:
    """Compare all merges of the last step at a point.

    Args:
        found: the partition.
        values: the point.
        since: number of the first class that is looked at.

    Returns:
        How many were compared, at how many of them balls could not decide, and the pairs of rows
        that are shown different.
    """
    firsts, rows = found.links(since)
    order = np.argsort(firsts, kind="stable")
    firsts, rows = firsts[order], rows[order]
    ball: Ball = UNDECIDED
    last = -1
    with precision(BITS):
        tables = _ball_tables(found, values)
        evaluate = _row_evaluator(found, tables, values)
        undecided = 0
        suspects: list[tuple[int, int]] = []
        for start in range(0, len(rows), _STRIDE):
            pairs = zip(
                firsts[start : start + _STRIDE].tolist(),
                rows[start : start + _STRIDE].tolist(),
                strict=True,
            )
            for first, row in pairs:
                if first != last:
                    last, ball = first, evaluate(first)
                other = evaluate(row)
                if is_value(ball) and is_value(other):
                    if not ball.overlaps(other):
                        suspects.append((first, row))
                elif ball is UNDECIDED or other is UNDECIDED:
                    undecided += 1
                elif ball is not other:
                    suspects.append((first, row))
    false = []
    for first, row in suspects:
        if differ_at(found.expression(first), found.expression(row), values):
            false.append((first, row))
    return len(rows), undecided, false


def _ball_tables(found: Partition, values: Values) -> dict[Place, list[Ball]]:
    """The values of all classes of sub-terms."""
    builder = found.builder
    places = {place for shape in found.shapes for place in shape.places}
    tables: dict[Place, list[Ball]] = {}
    for target in places:
        for place in builder.needed(target):
            if place in tables:
                continue
            table = builder.table(place)
            column = []
            for shape, children in table.firsts:
                own = table.shapes[shape]
                balls = [tables[p][c] for p, c in zip(own.places, children, strict=True)]
                column.append(_applied(builder.template(own.production), balls, values))
            tables[place] = column
    return tables


class _LazyTable(dict[int, Ball]):
    """The values of the classes of a table that somebody asks for."""

    def __init__(self, found: Partition, place: Place, values: Values, memo: _LazyTables) -> None:
        super().__init__()
        self._builder = found.builder
        self._table = found.builder.table(place)
        self._values = values
        self._memo = memo

    def __missing__(self, number: int) -> Ball:
        shape, children = self._table.firsts[number]
        own = self._table.shapes[shape]
        balls = [self._memo[p][c] for p, c in zip(own.places, children, strict=True)]
        template = self._builder.template(own.production)
        ball = self[number] = _applied(template, balls, self._values)
        return ball


class _LazyTables(dict[Place, _LazyTable]):
    """The values of classes of sub-terms at a point, computed where they are asked for."""

    def __init__(self, found: Partition, values: Values) -> None:
        super().__init__()
        self._found = found
        self._values = values

    def __missing__(self, place: Place) -> _LazyTable:
        table = self[place] = _LazyTable(self._found, place, self._values, self)
        return table


def values_of_rows(found: Partition, values: Values) -> Callable[[int], Ball]:
    """The values of rows at a point, for who asks for few; call it inside `precision(bits)`."""
    return _row_evaluator(found, _LazyTables(found, values), values)


def _applied(template: Expression, balls: list[Ball], values: Mapping[str, Fraction]) -> Ball:
    memo: dict[Expression, Ball] = {placeholder(number): ball for number, ball in enumerate(balls)}
    return ball_value(template, values, memo)


def _row_evaluator(found: Partition, tables: Tables, values: Values) -> Callable[[int], Ball]:
    """The value of a row; per arm, what does not depend on the large table is computed once."""
    width = len(found.big)
    column = tables[found.big.place]

    def memo_of(number: int) -> tuple[Expression, Expression, dict[Expression, Ball]]:
        arm = found.arms[number]
        memo: dict[Expression, Ball] = {}
        for child, (place, chosen) in enumerate(
            zip(found.shapes[arm.shape].places, arm.others, strict=True)
        ):
            if chosen is not None:
                memo[placeholder(child)] = tables[place][chosen]
        free = placeholder(arm.free)
        for node in _without(arm.template, free):
            ball_value(node, values, memo)
        return arm.template, free, memo

    functions: dict[int, Callable[[Ball], Ball]] = {}

    def evaluate(row: int) -> Ball:
        number, chosen = divmod(row, width)
        function = functions.get(number)
        if function is None:
            function = functions[number] = _function(*memo_of(number), values)
        return function(column[chosen])

    return evaluate


@cache
def _without(template: Expression, free: Expression) -> tuple[Expression, ...]:
    """The nodes of a template that do not depend on what is free in it."""
    return tuple(node for node in template.postorder() if free not in node.postorder())


_TWO_BALLS: Mapping[str, Callable[[Ball, Ball], Ball]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": lambda a, b: a.max(b),
    "min": lambda a, b: a.min(b),
}
"""Operators that are defined everywhere, and whose values are finite where their operands are."""


def _function(
    template: Expression, free: Expression, fixed: Mapping[Expression, Ball], values: Values
) -> Callable[[Ball], Ball]:
    """An arm as a function of the large table's ball: a direct one where the template is simple."""

    def general(ball: Ball) -> Ball:
        memo = dict(fixed)
        memo[free] = ball
        return ball_value(template, values, memo)

    if not isinstance(template, Apply) or template.operator.name not in _TWO_BALLS:
        return general
    first, second = template.arguments
    other = fixed.get(second if first is free else first)
    if free not in (first, second) or not is_value(other):
        return general
    operation = _TWO_BALLS[template.operator.name]
    if first is free:
        return lambda ball: operation(ball, other) if is_value(ball) else ball
    return lambda ball: operation(other, ball) if is_value(ball) else ball


@cache
def _loaded(path: str) -> Partition:
    return load_partition(path)


def _check_saved(path: str, values: Values) -> tuple[int, int, list[tuple[int, int]]]:
    return check_point(_loaded(path), values)


def audit(
    path: str | Path,
    processes: int = 1,
    count: int = POINTS,
    done: int = 0,
    seed: int = 0,
) -> Iterator[tuple[int, int, int, list[tuple[int, int]]]]:
    """Audit the last step of a saved partition, point by point.

    Args:
        path: what `save_partition` wrote.
        processes: that check points.
        count: number of points.
        done: how many of them an earlier audit has checked.
        seed: another seed, other points.

    Yields:
        For each point its number, how many merges were compared there, how many of them balls could
        not decide, and the pairs of rows shown different.
    """
    chosen = audit_points(count, seed)
    if processes == 1:
        for number in range(done, count):
            yield number, *_check_saved(str(path), chosen[number])
        return
    with workers(processes) as pool:
        waiting = {
            pool.submit(_check_saved, str(path), chosen[number]): number
            for number in range(done, count)
        }
        for future in as_completed(waiting):
            yield waiting[future], *future.result()
