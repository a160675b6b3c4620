"""Spaces settled by force: balls compare every name with its class, and class with class.

`python -m tests.actsearch.closed_space` does that for 288,000 names, in about three minutes; the
tests do it for fewer.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from actsearch.equivalence.balls import Ball, ball_value, is_value, precision
from actsearch.equivalence.certificate import Certificate, Witness, decide
from actsearch.equivalence.congruence import Partition, partition
from actsearch.equivalence.holes import with_holes
from actsearch.equivalence.marks import UNDECIDED
from actsearch.equivalence.partition_files import save_partition
from actsearch.equivalence.settlement import (
    Settled,
    settle_and_split,
    with_certified_terms,
)
from actsearch.grammar import parse
from actsearch.grammar.expression import Expression
from actsearch.grammar.search_space import SearchSpace

GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" -> add
    | "mul(" unary ", " unary ")" -> mul
    | "max(" unary ", " unary ")" -> max
    | "sub(" unary ", " unary ")" -> sub
unary: operand -> identity
    | "-" operand -> neg
    | "abs(" operand ")" -> abs
    | operand "**2" -> square
    | "sqrt(" operand ")" -> sqrt
    | "max(0, " operand ")" -> relu
    | "exp(" operand ")" -> exp
    | "tanh(" operand ")" -> tanh
    | "_*" operand -> scaled
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""
BITS = 256

# Points of another making than the implementation's.
PLACES = [
    {"x": Fraction(x), "beta": Fraction(beta)}
    for x, beta in itertools.product(
        ("-37/9", "-13/11", "-2/7", "-1/50", "1/40", "4/13", "17/12", "29/8", "8"),
        ("-77/13", "-9/8", "-1/90", "3/19", "11/10", "31/12", "101/7"),
    )
]
FEW = PLACES[::9]
_KEPT = 50_000  # values of sub-terms at a point

Key = tuple[str, ...]


@dataclass
class Findings:
    """What is found by force.

    Attributes:
        names: number of names that were compared with the first row of their class.
        false: names that differ from it.
        undecided: names that balls could not compare with it at some point.
        alike: pairs of classes that are alike at all points.
        missed: those that are certified equal after all.
        open: those that neither a witness nor a certificate was found for.
    """

    names: int = 0
    false: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    alike: int = 0
    missed: list[tuple[str, str]] = field(default_factory=list)
    open: list[tuple[str, str]] = field(default_factory=list)


def by_force(found: Partition) -> Findings:
    """Compare all names with their class at 7 points, and all classes with each other at 63."""
    result = Findings()
    with precision(BITS):
        _compare_names(found, result)
        pairs = list(_alike(found))
    for a, b in pairs:
        result.alike += 1
        decision = decide(a, b, ({},))
        if isinstance(decision, Certificate):
            result.missed.append((str(a), str(b)))
        elif not isinstance(decision, Witness):
            result.open.append((str(a), str(b)))
    return result


def _compare_names(found: Partition, result: Findings) -> None:
    memos: list[dict[Expression, Ball]] = [{} for _ in FEW]
    firsts: dict[int, list[Ball]] = {}
    for index, text in enumerate(found.space):
        number = found.class_of(index)
        if number not in firsts:
            firsts[number] = _values(found.expression(int(found.roots[number])), memos)
        pairs = zip(firsts[number], _values(with_holes(parse(text), "shared"), memos), strict=True)
        said = {_are_alike(first, second) for first, second in pairs}
        result.names += 1
        if False in said:
            result.false.append(text)
        elif None in said:
            result.undecided.append(text)


def _values(expression: Expression, memos: list[dict[Expression, Ball]]) -> list[Ball]:
    for memo in memos:
        if len(memo) > _KEPT:
            memo.clear()
    return [ball_value(expression, place, memo) for place, memo in zip(FEW, memos, strict=True)]


def _are_alike(first: Ball, second: Ball) -> bool | None:
    if first is UNDECIDED or second is UNDECIDED:
        return None
    if is_value(first) and is_value(second):
        return bool(first.overlaps(second))
    return first is second


def _alike(found: Partition) -> Iterator[tuple[Expression, Expression]]:
    """Pairs of classes that no point tells apart; one at which balls are too wide tells nothing."""
    keys = [_key(found.expression(row)) for row in found.roots.tolist()]
    unknown = [frozenset(place for place, text in enumerate(key) if not text) for key in keys]
    for gaps in {first | second for first in set(unknown) for second in set(unknown)}:
        alike: dict[Key, list[int]] = defaultdict(list)
        for number, key in enumerate(keys):
            if unknown[number] <= gaps:
                alike[_without(key, gaps)].append(number)
        for numbers in alike.values():
            for a, b in itertools.combinations(numbers, 2):
                if unknown[a] | unknown[b] == gaps:
                    first, second = (found.expression(int(found.roots[n])) for n in (a, b))
                    yield first, second


def _without(key: Key, gaps: frozenset[int]) -> Key:
    return tuple(text for place, text in enumerate(key) if place not in gaps)


def _key(expression: Expression) -> Key:
    return tuple(_text(ball_value(expression, place)) for place in PLACES)


def _text(ball: Ball) -> str:
    if ball is UNDECIDED:
        return ""
    if not is_value(ball):
        return str(ball)
    return "0" if ball.contains(0) else str(ball.str(25, radius=False))


def settled(space: SearchSpace, folder: Path, processes: int) -> tuple[Partition, Settled]:
    """What `actsearch dedup --audit N --output` makes of a space, for N above all merges."""
    found = partition(space, processes)
    if found.has_open_terms:
        found = with_certified_terms(found, processes)
    path = save_partition(found, folder / "closed.npz")
    return settle_and_split(path, processes)


def main() -> None:
    """Settle the space of 288,000 names, then look for faults by force."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--processes", type=int, default=2)
    processes = arguments.parse_args().processes
    space = SearchSpace(GRAMMAR, "closed", 2, parameters="shared")
    with tempfile.TemporaryDirectory() as folder:
        found, result = settled(space, Path(folder), processes)
    merges = len(found.numbers) - found.count
    print(f"{space.count():,} names, {len(found.numbers):,} terms, {found.count:,} classes")
    print(f"{merges:,} merges: {result.proved.total():,} proved, {result.certified:,} certified,")
    print(f"{len(result.open)} open")
    faults = by_force(found)
    print(f"{faults.names:,} names: {len(faults.false)} false, {len(faults.undecided)} undecided")
    print(f"{faults.alike} pairs of classes alike: {len(faults.missed)} missed merges")
    print(f"{len(faults.open)} neither missed nor told apart")
    for title, rows in (("false", faults.false), ("undecided", faults.undecided[:40])):
        for text in rows:
            print(f"{title}: {text}")
    for title, pairs in (("missed", faults.missed), ("open", faults.open)):
        for first, second in pairs:
            print(f"{title}: {first}  |  {second}")


if __name__ == "__main__":
    main()
