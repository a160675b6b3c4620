"""The grammar of a search space as plain data: rules, productions over tokens, and its parser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from actsearch.grammar.lalr import SentenceParser
from actsearch.grammar.sentence import render

UNIT = "unit"
"""The rule whose derivations are counted: a space is bounded by its number of core units."""


@dataclass(frozen=True, slots=True)
class Production:
    """One alternative of a rule.

    Attributes:
        number: its place among all productions of the grammar.
        rule: number of the rule that it belongs to.
        place: its place among the alternatives of that rule.
        label: its alias in the grammar file or, without one, its text.
        symbols: what it derives: tokens as strings, rules as their numbers.
        units: 1 for an alternative of the rule `unit`, else 0.
        children: the rules among the symbols, left to right.
    """

    number: int
    rule: int
    place: int
    label: str
    symbols: tuple[str | int, ...]
    units: int
    children: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        children = tuple(symbol for symbol in self.symbols if isinstance(symbol, int))
        object.__setattr__(self, "children", children)


@dataclass(frozen=True, eq=False)
class SpaceGrammar:
    """A checked grammar: every rule is reachable, derives a sentence, and no sentence is ambiguous.

    Attributes:
        name: what the space is called.
        rules: names of the rules; the first one derives the sentences.
        productions: every alternative, rule by rule in the order of the file.
        alternatives: for each rule the numbers of its productions.
        order: the rules, each after those that it needs at the same number of units.
    """

    name: str
    rules: tuple[str, ...]
    productions: tuple[Production, ...]
    alternatives: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @cached_property
    def parser(self) -> SentenceParser:
        """The LALR(1) parser of the sentences. Raises `Conflict` where there is none."""
        return SentenceParser([(p.rule, p.symbols) for p in self.productions])

    @property
    def has_units(self) -> bool:
        """Whether there is a rule `unit`."""
        return UNIT in self.rules

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the rules and productions; neither layout nor comments change it."""
        content = [self.rules, [(p.rule, p.label, p.symbols) for p in self.productions]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def alternatives_of(self, rule: int) -> Iterator[Production]:
        """The productions of a rule."""
        return (self.productions[number] for number in self.alternatives[rule])

    def tokens(self, steps: Sequence[int]) -> list[str]:
        """The tokens of the sentence that a leftmost derivation derives."""
        tokens: list[str] = []
        following = iter(steps)
        stack: list[str | int] = [0]
        while stack:
            symbol = stack.pop()
            if isinstance(symbol, str):
                tokens.append(symbol)
            else:
                stack.extend(reversed(self.productions[next(following)].symbols))
        return tokens

    def render(self, steps: Sequence[int]) -> str:
        """The text that a leftmost derivation of any rule derives."""
        return render(self.tokens(steps))

    def text_of(self, production: Production) -> str:
        """A production as text, with the names of the rules in it: `add(unary, unary)`."""
        return render(s if isinstance(s, str) else self.rules[s] for s in production.symbols)

    def parse(self, tokens: Sequence[str]) -> tuple[int, ...]:
        """The leftmost derivation of a sentence. Raises SpaceError where there is none."""
        return self.parser.parse(tokens, self.name)
