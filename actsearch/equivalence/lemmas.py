"""What is left after the proofs in bulk: lemmas, each about two functions on a quadrant.

Many merges come down to one lemma, that two functions are equal on a quadrant; it is settled
once, by ball arithmetic at fresh points of the quadrant and at switching points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from actsearch.equivalence.audit import audit_points, values_of_rows
from actsearch.equivalence.balls import is_value, precision
from actsearch.equivalence.certificate import (
    Certificate,
    Deadline,
    Pair,
    Witness,
    agree,
    through,
)
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.points import Values
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.equivalence.row_proofs import Labels, together
from actsearch.equivalence.splitting import Point

FRESH = 96
"""Points of a quadrant at which balls are compared, besides the switching points."""
CERTIFIED, FALSE, OPEN = "certified", "false", "open"
_SECONDS = 20.0
_BITS = 256
_FAR = (1.8e-4, 1.5e7, 1.2e6, 4.9e-8, 1.1e-7, 2.5e-3, 60.0, 1.9e3, 2.4e5, 2e-8, 8e-8, 2.5e-7)
"""Some |x| beyond the sizes of other points, where windows of max and min were found."""

Lemma = tuple[int, bytes, bytes]
"""Number of a quadrant, and the digests of two functions on it."""


@dataclass(frozen=True)
class Finding:
    """What ball arithmetic says of a lemma: certified, false, or neither.

    Attributes:
        state: which of these.
        point: where a false one does not hold.
    """

    state: str
    point: Point = ()


@dataclass
class Link:
    """A merge that was not proved: the first row of its class, another one, and what it needs.

    Attributes:
        first: row that the class is compared with.
        row: the other one.
        lemmas: which together settle it.
        equal: rows that are proved equal to the other one, each with the number of the rule.
    """

    first: int
    row: int
    lemmas: tuple[Lemma, ...]
    equal: tuple[tuple[int, int], ...]


def open_links(
    found: Partition, groups: Sequence[Sequence[int]], labels: Sequence[Labels]
) -> Iterator[tuple[Link, dict[Lemma, tuple[int, int]]]]:
    """The merges that no proof holds, and for each of their lemmas two rows that it is about.

    A lemma about functions of x alone is one of the quadrant with β > 0.

    Args:
        found: the partition.
        groups: rows of one class each.
        labels: of these, on every quadrant.
    """
    starts = np.cumsum([0, *map(len, groups)])
    whole = together(starts, labels)
    begin = np.repeat(starts[:-1], np.diff(starts))
    left = np.flatnonzero((whole != 0) & (whole == np.arange(len(whole)) - begin))
    group_of = np.searchsorted(starts, left, side="right") - 1
    rules = np.maximum.reduce([own.rules for own in labels])
    equal: dict[int, list[tuple[int, int]]] = {}
    for at in np.flatnonzero((whole != 0) & (whole != np.arange(len(whole)) - begin)).tolist():
        start = int(begin[at])
        row = groups[int(np.searchsorted(starts, at, side="right")) - 1][at - start]
        equal.setdefault(start + int(whole[at]), []).append((row, int(rules[at])))
    for place, number in zip(left.tolist(), group_of.tolist(), strict=True):
        start = int(starts[number])
        group = groups[number]
        needed: dict[Lemma, tuple[int, int]] = {}
        for quadrant, own in enumerate(labels):
            sides = int(own.places[start]), int(own.places[place])
            if sides[0] != sides[1]:
                digests = sorted((own.digests[start + side], group[side]) for side in sides)
                (first, a), (second, b) = digests
                own_quadrant = quadrant if found.varies(a) or found.varies(b) else quadrant & ~1
                needed[own_quadrant, first, second] = a, b
        same = tuple(equal.get(place, ()))
        yield Link(group[0], group[place - start], tuple(needed), same), needed


def settled(found: Partition, quadrant: int, pairs: Sequence[tuple[int, int]]) -> list[Finding]:
    """What ball arithmetic says of lemmas.

    All are compared at one fresh point after the other, from balls of the classes of sub-terms;
    what holds there, between its own switching points.

    Args:
        found: the partition.
        quadrant: the number of the one that the lemmas are about.
        pairs: for each lemma two rows that are its functions there.
    """
    signs = dict(zip(("x", SHARED_NAME), QUADRANTS[quadrant], strict=True))
    compared = [Pair(found.expression(first), found.expression(second)) for first, second in pairs]
    agreed = [0] * len(pairs)
    findings: list[Finding | None] = [None] * len(pairs)
    for values in fresh_points(quadrant):
        for number in _doubtful(found, values, pairs, compared, findings, agreed):
            pair = compared[number]
            verdict = pair.at(through(values, pair.names), Fraction(0))
            if isinstance(verdict, Witness):
                findings[number] = Finding(FALSE, verdict.point)
            else:
                agreed[number] += verdict
    return [
        known or _between_switches(pair, signs, done)
        for known, pair, done in zip(findings, compared, agreed, strict=True)
    ]


def _between_switches(pair: Pair, signs: Mapping[str, int], agreed: int) -> Finding:
    """What is found between the switching points of two functions that agree at fresh points."""
    places = pair.between_switches(within=signs)
    decision = pair.compared(places, Deadline(_SECONDS), agreed)
    if isinstance(decision, Witness):
        return Finding(FALSE, decision.point)
    return Finding(CERTIFIED if isinstance(decision, Certificate) else OPEN)


def _doubtful(
    found: Partition,
    values: Values,
    pairs: Sequence[tuple[int, int]],
    compared: Sequence[Pair],
    findings: Sequence[Finding | None],
    agreed: list[int],
) -> list[int]:
    """The numbers of open lemmas that a point, at moderate precision, does not bear out.

    Those that it does bear out have agreed at one point more, in place.
    """
    doubtful = []
    with precision(_BITS):
        value = values_of_rows(found, values)
        for number, (first, second) in enumerate(pairs):
            if findings[number]:
                continue
            left, right = value(first), value(second)
            if is_value(left) and is_value(right):
                alike = agree(left, right, compared[number].digits)
            else:
                alike = left is UNDEFINED and right is UNDEFINED
            if alike:
                agreed[number] += 1
            else:
                doubtful.append(number)
    return doubtful


@cache
def fresh_points(quadrant: int) -> tuple[Values, ...]:
    """The points of a quadrant at which its lemmas are looked at, those that tell most first."""
    signs = dict(zip(("x", SHARED_NAME), QUADRANTS[quadrant], strict=True))
    points = audit_points(FRESH - len(_FAR), seed=quadrant + 1)
    far = [
        {"x": Fraction(size), SHARED_NAME: other[SHARED_NAME]}
        for size, other in zip(_FAR, points, strict=False)
    ]
    return tuple(
        {name: signs[name] * abs(value) for name, value in values.items()}
        for values in (*far, *points)
    )


def status(link: Link, known: Mapping[Lemma, Finding]) -> str:
    """What the lemmas of a merge say of it."""
    found = {known[lemma].state for lemma in link.lemmas}
    return next(state for state in (FALSE, OPEN, CERTIFIED) if state in found)
