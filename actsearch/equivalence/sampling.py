"""A random audit: merges and near-collisions drawn at random and checked anew, with a bound."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from actsearch.equivalence.certificate import (
    Certificate,
    Deadline,
    Witness,
    compare,
    decide,
    rename,
)
from actsearch.equivalence.changes import Change, plain
from actsearch.equivalence.fingerprint import Pool
from actsearch.equivalence.holes import with_holes
from actsearch.equivalence.normal_form import normal_form
from actsearch.grammar.expression import Expression

if TYPE_CHECKING:
    from actsearch.equivalence.classes import EquivalenceClasses
    from actsearch.equivalence.congruence import Partition

_SECONDS = 20.0
_FRESH = 7919  # added to a seed: points that the grouping did not use

Pair = tuple[Expression, Expression]


@dataclass(frozen=True)
class SampleAudit:
    """What a random audit found.

    Attributes:
        links: merges checked.
        false: merges that a witness refuses.
        near: pairs of different classes with neighbouring fingerprints that were checked.
        missed: of these, pairs that are the same function after all.
        undecided: checks that neither certified nor refused.
        examples: the faults, as text.
        proved: of the merges checked, those with a proof that does not rest on points.
    """

    links: int
    false: int
    near: int
    missed: int
    undecided: int
    examples: tuple[str, ...] = ()
    proved: int = 0

    @property
    def bound(self) -> float:
        """With 95 % confidence the share of false merges is below this (exact binomial bound)."""
        from scipy.stats import beta

        if self.links == 0:
            return 1.0
        if self.false >= self.links:
            return 1.0
        return float(beta.ppf(0.95, self.false + 1, self.links - self.false))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "links_checked": self.links,
            "links_proved": self.proved,
            "false_merges": self.false,
            "near_collisions_checked": self.near,
            "missed_merges": self.missed,
            "undecided": self.undecided,
            "false_share_below": round(self.bound, 6),
            "faults": list(self.examples),
        }


def audit_classes(
    classes: EquivalenceClasses,
    count: int,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> SampleAudit:
    """Check `count` random links and `count` random near-collisions of some classes."""
    generator = random.Random(f"audit {seed}")
    links = [
        _replayed(classes, generator.choice(classes.links))
        for _ in range(count if classes.links else 0)
    ]
    pool = Pool(seed + _FRESH)
    firsts = [
        with_holes(classes.candidates[classes.indices(number)[0]], classes.parameters)
        for number in range(classes.count)
    ]
    by_key = sorted(firsts, key=lambda e: pool.fingerprint(normal_form(e)).key)
    near = [
        (by_key[place], by_key[place + 1])
        for place in (generator.randrange(len(by_key) - 1) for _ in range(count))
        if len(by_key) > 1
    ]
    return _audited(links, near, seed, progress)


def audit_rows(
    found: Partition,
    count: int,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> SampleAudit:
    """Check `count` random merges of the last step of a partition, and as many near-collisions.

    All are compared by ball arithmetic at points that the grouping did not use; besides, it is
    counted how many of the merges are proved.
    """
    from actsearch.equivalence.congruence import neighbours
    from actsearch.equivalence.row_proofs import prove

    generator = random.Random(f"audit {seed}")
    firsts, rows = found.links()
    chosen = [generator.randrange(len(rows)) for _ in range(count if len(rows) else 0)]
    pairs = [[int(firsts[place]), int(rows[place])] for place in chosen]
    proved = prove(found, pairs).rules.total()
    links = [_pair(found, *rows) for rows in pairs]
    near = [_pair(found, *rows) for rows in neighbours(found, count, seed)]
    return replace(_audited(links, near, seed, progress), proved=proved)


def _pair(found: Partition, first: int, second: int) -> Pair:
    return found.expression(first), found.expression(second)


def _replayed(classes: EquivalenceClasses, link: Any) -> Pair:
    """Both sides of a link, changed as its certificate says, with parameters of the same names."""
    certificate: Certificate = link.certificate
    sides = []
    for number, pairs in ((link.first, certificate.first), (link.second, certificate.second)):
        expression = plain(with_holes(classes.candidates[number], classes.parameters))
        sides.append(Change.from_pairs(dict(pairs)).applied(expression))
    return sides[0], rename(sides[1], dict(certificate.renaming))


def _audited(
    links: Sequence[Pair], near: Sequence[Pair], seed: int, progress: Callable[[int], object]
) -> SampleAudit:
    faults: list[str] = []
    false = missed = undecided = 0
    for done, (first, second, linked) in enumerate(_labelled(links, near), 1):
        if linked:
            decision = compare(first, second, Deadline(_SECONDS), seed + _FRESH)
        else:
            decision = decide(first, second, None, Deadline(_SECONDS), seed + _FRESH)
        fault = isinstance(decision, Witness) if linked else isinstance(decision, Certificate)
        if fault:
            false, missed = false + linked, missed + (not linked)
            faults.append(f"{first}  |  {second}: {decision}")
        elif not isinstance(decision, Certificate | Witness):
            undecided += 1
        progress(done)
    return SampleAudit(len(links), false, len(near), missed, undecided, tuple(faults))


def _labelled(
    links: Iterable[Pair], near: Iterable[Pair]
) -> Iterable[tuple[Expression, Expression, bool]]:
    yield from ((a, b, True) for a, b in links)
    yield from ((a, b, False) for a, b in near)
