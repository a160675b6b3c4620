"""False merges of a partition's last step taken apart, at the very points that tell rows apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from actsearch.equivalence.audit import POINTS, audit_points, check_point, values_of_rows
from actsearch.equivalence.balls import Ball, is_value, precision
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.marks import UNDECIDED
from actsearch.equivalence.points import Values

_BITS = 512

Point = tuple[tuple[str, str], ...]
"""Names with exact values, as in a `Witness`."""


@dataclass(frozen=True)
class Refuted:
    """Rows that leave their class together.

    Attributes:
        rows: they are proved to be equal.
        points: at each of them they differ from the first row of their class.
    """

    rows: tuple[int, ...]
    points: tuple[Point, ...]


def split_false(
    found: Partition, refuted: Sequence[Refuted], further: Iterable[Values] = ()
) -> int:
    """Take merges that are shown false apart, in place; returns how many rows moved.

    What leaves one class stays together unless balls are disjoint at a point by which anything
    leaves that class, or at a further one.
    """
    leaving: dict[int, list[Refuted]] = defaultdict(list)
    told: dict[Point, dict[int, None]] = defaultdict(dict)
    for own in refuted:
        number = int(found.numbers[own.rows[0]])
        leaving[number].append(own)
        for point in own.points:
            told[point][number] = None
    anywhere = audit_points(1)[0]
    asked: list[tuple[Values, Iterable[int]]] = [
        (anywhere | {name: Fraction(value) for name, value in point}, classes)
        for point, classes in sorted(told.items(), key=lambda item: -len(item[1]))
    ]
    asked += [(values, leaving) for values in further]
    parts = {number: [own] for number, own in leaving.items()}
    for values, classes in asked:
        with precision(_BITS):
            value = values_of_rows(found, values)
            for number in classes:
                parts[number] = [finer for part in parts[number] for finer in _parted(part, value)]
    if refuted:
        together = [part for own in parts.values() for part in own]
        rows = [[row for own in part for row in own.rows] for part in together]
        labels = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        found.split(np.concatenate(rows), labels)
    return sum(len(own.rows) for own in refuted)


def _parted(part: list[Refuted], value: Callable[[int], Ball]) -> Iterable[list[Refuted]]:
    """Those whose balls at a point are disjoint apart; all together if one is undecided there."""
    if len(part) == 1:
        return [part]
    balls = [value(own.rows[0]) for own in part]
    if any(ball is UNDECIDED for ball in balls):
        return [part]
    finer: list[tuple[Ball, list[Refuted]]] = []
    for ball, own in zip(balls, part, strict=True):
        for first, members in finer:
            if _may_be_equal(first, ball):
                members.append(own)
                break
        else:
            finer.append((ball, [own]))
    return (members for _, members in finer)


def _may_be_equal(first: Ball, second: Ball) -> bool:
    if is_value(first) and is_value(second):
        return bool(first.overlaps(second))
    return first is second


def repair(found: Partition, count: int = POINTS, seed: int = 0) -> int:
    """Check every merge of the last step at fresh points, and take apart what is false, in place.

    Returns:
        How many rows left their classes.
    """
    moved, since = 0, 0
    while True:
        told: dict[int, list[Point]] = defaultdict(list)
        for values in audit_points(count, seed):
            for _, row in check_point(found, values, since)[2]:
                told[row].append(tuple((name, str(value)) for name, value in values.items()))
        if not told:
            return moved
        since = found.count
        moved += split_false(
            found, [Refuted((row,), tuple(points)) for row, points in told.items()]
        )
