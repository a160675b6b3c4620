"""Counting, ranking and unranking derivations with exact integers, and the derivation as a tree.

A derivation is kept flat: the productions of its leftmost derivation, one after the other, which is
its tree in preorder. Nothing here recurses; depth is bounded by memory.

Order of the derivations of one rule with a given number of units: by alternative, as the grammar
lists them; then by units of the first child, fewer first; then by the first child; then likewise by
the other children, left to right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from operator import mul

from actsearch.grammar.space_grammar import Production, SpaceGrammar

Steps = tuple[int, ...]
Children = tuple[int, ...]


class DerivationTable:
    """How many derivations each rule has, for every number of units up to a bound."""

    def __init__(self, grammar: SpaceGrammar, units: int) -> None:
        self.grammar = grammar
        self.units = units
        self._counts: list[list[int]] = [[] for _ in grammar.rules]
        self._ways: dict[Children, list[int]] = {(): [1] + [0] * units}
        self._alternative_starts: dict[tuple[int, int], list[int]] = {}
        self._size_starts: dict[tuple[Children, int], list[int]] = {}
        for level in range(units + 1):
            for rule in grammar.order:
                self._counts[rule].append(sum(self._sizes(rule, level)))
        # Complete every row now: from here on threads may share the table.
        for production in grammar.productions:
            for start in range(len(production.children)):
                self.ways(production.children[start:], units)

    def count(self, rule: int, units: int) -> int:
        """Number of derivations of a rule with exactly `units` units."""
        return self._counts[rule][units] if 0 <= units <= self.units else 0

    def feasible(self, children: Children) -> int:
        """For which numbers of units the children have a derivation: bit k is set for k units."""
        return sum(1 << k for k in range(self.units + 1) if self.ways(children, k))

    def ways(self, children: Children, units: int) -> int:
        """Number of ways to derive the children, left to right, with `units` units together."""
        if units < 0:
            return 0
        row = self._ways.setdefault(children, [])
        if len(row) <= units:
            first = self._counts[children[0]]
            self.ways(children[1:], units)
            rest = self._ways[children[1:]]
            for total in range(len(row), units + 1):
                row.append(sum(map(mul, first[: total + 1], reversed(rest[: total + 1]))))
        return row[units]

    def unrank(self, rule: int, units: int, rank: int) -> Steps:
        """The derivation of `rule` with `units` units that has the given rank."""
        steps: list[int] = []
        stack = [(rule, units, rank)]
        while stack:
            rule, units, rank = stack.pop()
            starts = self._starts(rule, units)
            place = bisect_right(starts, rank) - 1
            rank -= starts[place]
            number = self.grammar.alternatives[rule][place]
            steps.append(number)
            production = self.grammar.productions[number]
            units -= production.units
            parts = []
            children = production.children
            while children:
                splits = self._splits(children, units)
                size = bisect_right(splits, rank) - 1
                rank -= splits[size]
                units -= size
                own, rank = divmod(rank, self.ways(children[1:], units))
                parts.append((children[0], size, own))
                children = children[1:]
            stack.extend(reversed(parts))
        return tuple(steps)

    def rank(self, steps: Sequence[int]) -> int:
        """The rank of a derivation among those of its rule and number of units."""
        finished: list[tuple[int, int]] = []  # (units, rank) of subtrees, the leftmost last
        for number in reversed(steps):
            production = self.grammar.productions[number]
            parts = [finished.pop() for _ in production.children]
            units = sum(size for size, _ in parts)
            total = units + production.units
            rank = self._starts(production.rule, total)[production.place]
            children = production.children
            for size, own in parts:
                rank += self._splits(children, units)[size]
                units -= size
                children = children[1:]
                rank += own * self.ways(children, units)
            finished.append((total, rank))
        return finished[0][1]

    def longest_walk(self, rule: int, units: int) -> int:
        """The largest number of choices in a derivation: steps at rules with several ways on."""
        longest: list[list[int]] = [[] for _ in self.grammar.rules]
        impossible = -1

        def best(children: Children, level: int) -> int:
            reached = {0: 0}
            for child in children:
                extended: dict[int, int] = {}
                for done, length in reached.items():
                    for size, more in enumerate(longest[child][: level - done + 1]):
                        if more != impossible:
                            extended[done + size] = max(extended.get(done + size, 0), length + more)
                reached = extended
            return reached.get(level, impossible)

        for level in range(units + 1):
            for number in self.grammar.order:
                lengths = {
                    p.children: best(p.children, level - p.units)
                    for p in self.grammar.alternatives_of(number)
                    if p.units <= level
                }
                length = max(lengths.values(), default=impossible)
                choice = len(self.grammar.alternatives[number]) > 1
                longest[number].append(length + choice if length != impossible else impossible)
        return longest[rule][units]

    def _sizes(self, rule: int, units: int) -> list[int]:
        return [
            self.ways(production.children, units - production.units)
            for production in self.grammar.alternatives_of(rule)
        ]

    def _starts(self, rule: int, units: int) -> list[int]:
        """The rank at which each alternative of a rule begins."""
        key = (rule, units)
        if key not in self._alternative_starts:
            sizes = self._sizes(rule, units)
            self._alternative_starts[key] = list(accumulate(sizes[:-1], initial=0))
        return self._alternative_starts[key]

    def _splits(self, children: Children, units: int) -> list[int]:
        """The rank at which each number of units of the first child begins."""
        key = (children, units)
        if key not in self._size_starts:
            first = self._counts[children[0]]
            sizes = (first[k] * self.ways(children[1:], units - k) for k in range(units))
            self._size_starts[key] = list(accumulate(sizes, initial=0))
        return self._size_starts[key]


class Derivation:
    """How a grammar derives one sentence: a production, and a derivation for each of its rules.

    Attributes:
        grammar: the grammar whose productions these are.
        steps: numbers of the productions in leftmost order, which is the tree in preorder.
    """

    def __init__(self, grammar: SpaceGrammar, steps: Sequence[int]) -> None:
        self.grammar = grammar
        self.steps: Steps = tuple(steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Derivation):
            return NotImplemented
        return self.grammar is other.grammar and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return f"<derivation of {self.sentence}>"

    @property
    def production(self) -> Production:
        """The production at the root."""
        return self.grammar.productions[self.steps[0]]

    @cached_property
    def children(self) -> tuple[Derivation, ...]:
        """The derivations of the rules in the root's production, left to right."""
        ends = extents(self.grammar, self.steps)
        found = []
        start = 1
        while start < len(self.steps):
            found.append(Derivation(self.grammar, self.steps[start : ends[start]]))
            start = ends[start]
        return tuple(found)

    @property
    def units(self) -> int:
        """How often the rule `unit` is derived."""
        return sum(self.grammar.productions[number].units for number in self.steps)

    @cached_property
    def sentence(self) -> str:
        """The text."""
        return self.grammar.render(self.steps)

    def __iter__(self) -> Iterator[Production]:
        """The productions in leftmost order."""
        return (self.grammar.productions[number] for number in self.steps)


def extents(grammar: SpaceGrammar, steps: Sequence[int]) -> list[int]:
    """For each position in a flat derivation, the position after the subtree that begins there."""
    ends = [0] * len(steps)
    for position in range(len(steps) - 1, -1, -1):
        end = position + 1
        for _ in grammar.productions[steps[position]].children:
            end = ends[end]
        ends[position] = end
    return ends
