"""Proofs of the merges of a partition's last step, in bulk: by patterns, by forms, then one by one.

On each quadrant the rows of a class are sorted by their patterns over the functions that their
sub-terms are there (`quadrant_rows`): equal ones are equal. What is left is written as a form over
|x| and |β|, from forms of the sub-terms that are made once. Rows that are joined on all four
quadrants are proved equal.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.polynomial import Form
from actsearch.equivalence.quadrant_rows import HARD, Ints, QuadrantRows
from actsearch.equivalence.quadrants import (
    QUADRANTS,
    Key,
    comparable,
    digest_of,
    key_of,
    same,
    same_under_bars,
)

RULES: tuple[str, ...] = ("", "pattern", "normal form", "ordering or algebra")
"""How a row was proved to equal the first one with its label, by number; the dearest counts."""
_LARGEST_COMPARED = 2
_IN_VAIN = 4  # failures in turn after which no proof is looked for in a class, one by one


@dataclass
class Proved:
    """What was proved of some groups of rows.

    Attributes:
        rules: how many rows were joined by each rule.
        left: for each group the rows that no proof joins to another one of these; the first of
            each group comes first.
    """

    rules: Counter[str] = field(default_factory=Counter)
    left: list[list[int]] = field(default_factory=list)

    @property
    def unproved(self) -> int:
        """Number of merges without a proof."""
        return sum(len(rows) - 1 for rows in self.left)


def groups_of(found: Partition, numbers: Iterable[int] | None = None) -> list[list[int]]:
    """The rows of the classes that have several, in ascending order.

    Args:
        found: the partition.
        numbers: of these classes only.
    """
    order = np.argsort(found.numbers, kind="stable")
    starts = np.flatnonzero(np.diff(found.numbers[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    chosen = np.flatnonzero(ends - starts > 1)
    if numbers is not None:
        labels = found.numbers[order[starts]]
        chosen = chosen[np.isin(labels[chosen], np.fromiter(numbers, dtype=np.int64))]
    return [order[starts[k] : ends[k]].tolist() for k in chosen]


@dataclass(frozen=True)
class Labels:
    """What is proved on a quadrant of the rows of some groups.

    Attributes:
        places: for each row the place, in its group, of the first row that is proved to be equal.
        rules: the number of the rule (`RULES`).
        digests: of the functions of the rows that no other one of their group comes before.
    """

    places: Ints
    rules: Ints
    digests: Mapping[int, bytes]


def prove(found: Partition, groups: Sequence[Sequence[int]]) -> Proved:
    """Prove as many merges of some groups of rows as can be, quadrant by quadrant."""
    labels = [labelled(QuadrantRows(found, quadrant), groups) for quadrant in QUADRANTS]
    return proved(groups, labels)


def proved(groups: Sequence[Sequence[int]], labels: Sequence[Labels]) -> Proved:
    """What labels of the rows of some groups, on every quadrant, prove together."""
    starts = np.cumsum([0, *(len(rows) for rows in groups)])
    whole = together(starts, labels)
    rules = np.maximum.reduce([own.rules for own in labels])
    result = Proved()
    for start, rows in zip(starts[:-1].tolist(), groups, strict=True):
        own = whole[start : start + len(rows)]
        first = own == np.arange(len(rows))
        result.left.append([row for place, row in enumerate(rows) if first[place]])
        result.rules.update(RULES[rule] for rule in rules[start : start + len(rows)][~first])
    return result


def together(starts: Ints, labels: Sequence[Labels]) -> Ints:
    """For each row the place, in its group, of the first row that is equal on every quadrant.

    Args:
        starts: where each group of rows begins, and where the last one ends.
        labels: on every quadrant.
    """
    sizes = np.diff(starts)
    group = np.repeat(np.arange(len(sizes)), sizes)
    columns = np.stack([group, *(own.places for own in labels)])
    order = np.lexsort((np.arange(len(group)), *columns[::-1]))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (np.diff(columns[:, order], axis=1) != 0).any(axis=0)
    firsts = order[begins][np.cumsum(begins) - 1]
    whole = np.empty(len(order), dtype=np.int64)
    whole[order] = firsts - starts[:-1][group[order]]
    return whole


def labelled(rows: QuadrantRows, groups: Sequence[Sequence[int]]) -> Labels:
    """Labels of the rows of some groups on a quadrant; all equal where it tells nothing new.

    Args:
        rows: of the quadrant.
        groups: of rows.
    """
    starts = np.cumsum([0, *(len(group) for group in groups)]).tolist()
    places, rules = np.zeros((2, starts[-1]), dtype=np.int64)
    digests: dict[int, bytes] = {}
    asked = [n for n, group in enumerate(groups) if rows.tells(group)]
    codes = rows.codes(np.array([row for n in asked for row in groups[n]], dtype=np.int64)).tolist()
    begin = 0
    for number in asked:
        group, start = groups[number], starts[number]
        end = start + len(group)
        own = codes[begin : begin + len(group)]
        begin += len(group)
        if own.count(own[0]) == len(own):
            rules[start + 1 : end] = 1
        else:
            places[start:end], rules[start:end], heads = _group_labels(rows, group, own)
            digests.update((start + place, digest) for place, digest in heads.items())
    return Labels(places, rules, digests)


def _group_labels(
    rows: QuadrantRows, group: Sequence[int], codes: Sequence[int]
) -> tuple[list[int], list[int], dict[int, bytes]]:
    """Places and rules of a group's rows, and digests of those that are left apart, if any."""
    first: dict[int, int] = {}
    labels = [first.setdefault(code, place) for place, code in enumerate(codes)]
    reasons = [int(label != place) for place, label in enumerate(labels)]
    moved, opened = _by_form(rows, group, list(first.values()))
    for place, label in enumerate(labels):
        if label in moved:
            labels[place], reason = moved[label]
            reasons[place] = max(reasons[place], reason)
    if len(opened) == 1:
        return labels, reasons, {}
    digests = {
        place: digest_of(group[place] if form is None else key_of(form))
        for place, form in opened.items()
    }
    return labels, reasons, digests


def _by_form(
    rows: QuadrantRows, group: Sequence[int], heads: Sequence[int]
) -> tuple[dict[int, tuple[int, int]], dict[int, Form | None]]:
    """Which rows are proved to equal an earlier one, and how; the others, with their forms."""
    moved: dict[int, tuple[int, int]] = {}
    by_key: dict[Key, int] = {}
    opened: dict[int, Form | None] = {}
    in_vain = 0
    for place in heads:
        try:
            form = rows.form(group[place])
        except HARD:
            opened[place] = None
            continue
        key = key_of(form)
        label = by_key.get(key)
        if label is not None:
            moved[place] = label, 2
            continue
        compared = _LARGEST_COMPARED if in_vain < _IN_VAIN else 0
        for label, other in itertools.islice(opened.items(), compared):
            if other is not None and _same(rows, (group[label], group[place]), other, form):
                moved[place] = label, 3
                in_vain = 0
                break
        else:
            label = place
            opened[place] = form
            in_vain += 1
        by_key[key] = label
    return moved, opened


def _same(rows: QuadrantRows, pair: tuple[int, int], first: Form, second: Form) -> bool:
    """Whether two rows with these forms are proved equal on a quadrant."""
    if not comparable(first, second):
        return False
    if same_under_bars(first, second):
        return True
    return rows.equal_on_cells(*pair) or same(first, second)
