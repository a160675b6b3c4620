"""Mutating a sentence within its space: the result is derived by the same grammar with the same
number of units.

Four kinds, tried in random order until one applies: another operator in the same place, a fresh
subtree, hoisting a part in place of the whole (what it loses in units grows elsewhere), and
exchanging two parts.
"""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import combinations

from actsearch.grammar.derivation import DerivationTable, Steps, extents

_ATTEMPTS = 8  # at a mutation that changes the sentence, before any other sentence is taken


def mutate(table: DerivationTable, units: int, steps: Steps, rng: random.Random) -> Steps:
    """A derivation of a different sentence, close to `steps`; `steps` if there is no other.

    Args:
        table: counts of the grammar, up to `units`.
        units: the number of units of the space.
        steps: the leftmost derivation to be changed.
        rng: source of every decision.
    """
    count = table.count(0, units)
    if count == 1:
        return steps
    kinds = [_swap_operator, _replace_subtree, _hoist, _exchange]
    for _ in range(_ATTEMPTS):
        results = (kind(table, steps, rng) for kind in rng.sample(kinds, len(kinds)))
        mutated = next(m for m in results if m is not None)  # a fresh subtree always applies
        if mutated != steps:
            return mutated
    other = rng.randrange(count - 1)
    return table.unrank(0, units, other + (other >= table.rank(steps)))


def _swap_operator(table: DerivationTable, steps: Steps, rng: random.Random) -> Steps | None:
    """Another alternative of the same rule over the same children: sin(x) -> cos(x)."""
    grammar = table.grammar
    places = []
    for place, number in enumerate(steps):
        current = grammar.productions[number]
        others = [
            p.number
            for p in grammar.alternatives_of(current.rule)
            if p.children == current.children and p is not current
        ]
        if others:
            places.append((place, others))
    if not places:
        return None
    place, others = rng.choice(places)
    return (*steps[:place], rng.choice(others), *steps[place + 1 :])


def _replace_subtree(table: DerivationTable, steps: Steps, rng: random.Random) -> Steps | None:
    """A uniformly drawn derivation of the same rule with the same number of units."""
    tree = _Tree(table, steps)
    places = [p for p in range(len(steps)) if table.count(tree.rules[p], tree.units[p]) > 1]
    if not places:
        return None
    return tree.regrown(rng.choice(places), 0, rng)


def _hoist(table: DerivationTable, steps: Steps, rng: random.Random) -> Steps | None:
    """A part in place of the whole of the same rule: sin(cos(x)) -> cos(x)."""
    tree = _Tree(table, steps)
    pairs = [
        (outer, inner)
        for outer in range(len(steps))
        for inner in range(outer + 1, tree.ends[outer])
        if tree.rules[inner] == tree.rules[outer]
    ]
    if not pairs:
        return None
    outer, inner = rng.choice(pairs)
    hoisted = (
        *steps[:outer],
        *steps[inner : tree.ends[inner]],
        *steps[tree.ends[outer] :],
    )
    lost = tree.units[outer] - tree.units[inner]
    if lost == 0:
        return hoisted
    # The lost units grow again at the smallest parts that can take them, so that little changes.
    tree = _Tree(table, hoisted)
    able: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(len(hoisted)):
        if table.count(tree.rules[place], tree.units[place] + lost):
            able[tree.units[place]].append(place)
    return tree.regrown(rng.choice(able[min(able)]), lost, rng) if able else None


def _exchange(table: DerivationTable, steps: Steps, rng: random.Random) -> Steps | None:
    """Two parts of the same rule, neither within the other, change places."""
    tree = _Tree(table, steps)
    pairs = [
        (first, second)
        for first, second in combinations(range(len(steps)), 2)
        if tree.rules[first] == tree.rules[second]
        and tree.ends[first] <= second
        and tree.part(first) != tree.part(second)
    ]
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    return (
        *steps[:first],
        *tree.part(second),
        *steps[tree.ends[first] : second],
        *tree.part(first),
        *steps[tree.ends[second] :],
    )


class _Tree:
    """A flat derivation with, at each position, the rule, the end and the units of its subtree."""

    def __init__(self, table: DerivationTable, steps: Steps) -> None:
        productions = table.grammar.productions
        self.table = table
        self.steps = steps
        self.rules = [productions[number].rule for number in steps]
        self.ends = extents(table.grammar, steps)
        before = [0]
        for number in steps:
            before.append(before[-1] + productions[number].units)
        self.units = [before[end] - before[start] for start, end in enumerate(self.ends)]

    def part(self, place: int) -> Steps:
        """The subtree at a position."""
        return self.steps[place : self.ends[place]]

    def regrown(self, place: int, more: int, rng: random.Random) -> Steps:
        """The subtree at a position drawn anew, with `more` units more."""
        rule, units = self.rules[place], self.units[place] + more
        fresh = self.table.unrank(rule, units, rng.randrange(self.table.count(rule, units)))
        return (*self.steps[:place], *fresh, *self.steps[self.ends[place] :])
