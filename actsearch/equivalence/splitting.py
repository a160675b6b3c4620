"""False merges of a partition's last step taken apart, at the very points that tell rows apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from actsearch.equivalence.audit import POINTS, audit_points, check_point, values_of_rows
from actsearch.equivalence.balls import is_value, precision
from actsearch.equivalence.certificate import differ_at
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
    parts = {number: [own] for number, own in leaving.items()}
    undivided = {number for number, own in leaving.items() if len(own) > 1}
    anywhere = audit_points(1)[0]
    asked: list[tuple[Values, Iterable[int], bool]] = [
        (anywhere | {name: Fraction(value) for name, value in point}, classes, True)
        for point, classes in sorted(told.items(), key=lambda item: -len(item[1]))
    ]
    asked += [(values, leaving, False) for values in further]
    for values, classes, refutes in asked:
        with precision(_BITS):
            alike = _Alike(found, values, refutes)
            for number in undivided.intersection(classes):
                parts[number] = [finer for part in parts[number] for finer in _parted(part, alike)]
                if len(parts[number]) == len(leaving[number]):
                    undivided.remove(number)
    if refuted:
        together = [part for own in parts.values() for part in own]
        rows = [[row for own in part for row in own.rows] for part in together]
        labels = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        found.split(np.concatenate(rows), labels)
    return sum(len(own.rows) for own in refuted)


class _Alike:
    """Whether rows may have the same value at a point; to be asked inside `precision(bits)`.

    Args:
        found: the partition.
        values: the point.
        closely: whether numbers beyond the range of balls are looked at one by one.
    """

    def __init__(self, found: Partition, values: Values, closely: bool) -> None:
        self._found = found
        self._values = values
        self._value = cache(values_of_rows(found, values))
        self._closely = closely

    def __call__(self, first: int, second: int) -> bool:
        a, b = self._value(first), self._value(second)
        if a is UNDECIDED or b is UNDECIDED:
            pair = self._found.expression(first), self._found.expression(second)
            return not (self._closely and differ_at(*pair, self._values))
        return bool(a.overlaps(b)) if is_value(a) and is_value(b) else a is b


def _parted(part: list[Refuted], alike: Callable[[int, int], bool]) -> list[list[Refuted]]:
    """Those that differ apart; what may be equal to several holds these together."""
    finer: list[list[Refuted]] = []
    for own in part:
        joined, others = [own], []
        for members in finer:
            if any(alike(other.rows[0], own.rows[0]) for other in members):
                joined = members + joined
            else:
                others.append(members)
        finer = [*others, joined]
    return finer


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
