"""What is left after the proofs in bulk: lemmas, each about two functions on a quadrant.

Many merges come down to one lemma, that two functions are equal on a quadrant; it is settled
once, by ball arithmetic at fresh points of the quadrant and at switching points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from actsearch.equivalence.audit import audit_points
from actsearch.equivalence.certificate import Certificate, Deadline, FreshPoint, Witness, compare
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.quadrants import QUADRANTS
from actsearch.equivalence.row_proofs import Labels, together

FRESH = 48
"""Points of a quadrant at which balls are compared, besides the switching points."""
CERTIFIED, FALSE, OPEN = "certified", "false", "open"
_SECONDS = 20.0

Lemma = tuple[int, bytes, bytes]
"""Number of a quadrant, and the digests of two functions on it."""


@dataclass
class Link:
    """A merge that was not proved: the first row of its class, another one, and what it needs.

    Attributes:
        first: row that the class is compared with.
        row: the other one.
        lemmas: which together settle it.
    """

    first: int
    row: int
    lemmas: tuple[Lemma, ...]


def open_links(
    groups: Sequence[Sequence[int]], labels: Sequence[Labels]
) -> Iterator[tuple[Link, dict[Lemma, tuple[int, int]]]]:
    """The merges that no proof holds, and for each of their lemmas two rows that it is about.

    Args:
        groups: rows of one class each.
        labels: of these, on every quadrant.
    """
    starts = np.cumsum([0, *map(len, groups)])
    whole = together(starts, labels)
    begin = np.repeat(starts[:-1], np.diff(starts))
    left = np.flatnonzero((whole != 0) & (whole == np.arange(len(whole)) - begin))
    group_of = np.searchsorted(starts, left, side="right") - 1
    for place, number in zip(left.tolist(), group_of.tolist(), strict=True):
        start = int(starts[number])
        group = groups[number]
        needed: dict[Lemma, tuple[int, int]] = {}
        for quadrant, own in enumerate(labels):
            sides = int(own.places[start]), int(own.places[place])
            if sides[0] != sides[1]:
                digests = sorted((own.digests[start + side], group[side]) for side in sides)
                (first, a), (second, b) = digests
                needed[quadrant, first, second] = a, b
        yield Link(group[0], group[place - start], tuple(needed)), needed


def settled(found: Partition, lemma: Lemma, rows: tuple[int, int]) -> str:
    """Whether ball arithmetic certifies a lemma, refuses it, or neither.

    Args:
        found: the partition.
        lemma: the lemma.
        rows: two rows that are its functions on the quadrant.
    """
    first, second = (found.expression(row) for row in rows)
    signs = dict(zip(("x", SHARED_NAME), QUADRANTS[lemma[0]], strict=True))
    fresh = _fresh(lemma[0])
    decision = compare(first, second, Deadline(_SECONDS), within=signs, fresh=fresh)
    if isinstance(decision, Witness):
        return FALSE
    return CERTIFIED if isinstance(decision, Certificate) else OPEN


@cache
def _fresh(quadrant: int) -> tuple[FreshPoint, ...]:
    signs = dict(zip(("x", SHARED_NAME), QUADRANTS[quadrant], strict=True))
    return tuple(
        FreshPoint({name: signs[name] * abs(value) for name, value in values.items()})
        for values in audit_points(FRESH, seed=quadrant + 1)
    )


def status(link: Link, known: Mapping[Lemma, str]) -> str:
    """What the lemmas of a merge say of it."""
    found = {known[lemma] for lemma in link.lemmas}
    return next(state for state in (FALSE, OPEN, CERTIFIED) if state in found)
