"""Lark's LALR(1) tables over tokens, with every conflict refused, and a parser that runs on them.

Lark resolves a shift/reduce conflict silently in favour of shifting, which would hide an ambiguity
and leave sentences without an index. A grammar that has a table here has no ambiguous sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from actsearch.grammar.errors import SpaceError, quote
from actsearch.grammar.sentence import render

_END = "$END"
_RULE_IN_MESSAGE = re.compile(r"<rule(\d+) : ")
_TOKEN_IN_MESSAGE = re.compile(r"'.*?'|\$END")


class Conflict(Exception):
    """The grammar is not LALR(1).

    Attributes:
        rules: numbers of the rules whose alternatives clash.
        token: the token at which the parser would have to guess.
    """

    def __init__(self, rules: list[int], token: str) -> None:
        super().__init__(rules, token)
        self.rules = rules
        self.token = token


class SentenceParser:
    """From tokens to the leftmost derivation.

    Args:
        productions: (rule, symbols) of each production; symbols are tokens or rule numbers. Rule 0
            derives the sentences.

    Raises:
        Conflict: the grammar is not LALR(1).
    """

    def __init__(self, productions: Sequence[tuple[int, Sequence[str | int]]]) -> None:
        from lark.common import ParserConf
        from lark.exceptions import GrammarError
        from lark.grammar import NonTerminal, Rule, Terminal
        from lark.parsers.lalr_analysis import LALR_Analyzer

        # A rule above the start rule turns a conflict with acceptance into one that lark sees.
        rules = [Rule(NonTerminal("sentence"), [NonTerminal("rule0")], len(productions))]
        for number, (rule, symbols) in enumerate(productions):
            expansion = [
                Terminal(f"'{s}'") if isinstance(s, str) else NonTerminal(f"rule{s}")
                for s in symbols
            ]
            rules.append(Rule(NonTerminal(f"rule{rule}"), expansion, number))
        analyzer = LALR_Analyzer(ParserConf(rules, {}, ["sentence"]), strict=True)
        try:
            analyzer.compute_lalr()  # type: ignore[no-untyped-call]
        except GrammarError as error:
            found = sorted({int(rule) for rule in _RULE_IN_MESSAGE.findall(str(error))})
            token = _TOKEN_IN_MESSAGE.search(str(error))
            raise Conflict(found or [0], token.group().strip("'") if token else "") from None
        table: Any = analyzer.parse_table
        self._start: int = table.start_states["sentence"]
        self._end: int = table.end_states["sentence"]
        self._states: dict[int, dict[str, Any]] = {
            state: {
                name: argument
                if action.name == "Shift"
                else (argument.order, len(argument.expansion), argument.origin.name)
                for name, (action, argument) in actions.items()
            }
            for state, actions in table.states.items()
        }

    def parse(self, tokens: Sequence[str], space: str) -> tuple[int, ...]:
        """The numbers of the productions in leftmost order.

        Raises:
            SpaceError: the tokens are no sentence; it quotes them with a caret under the first
                token that does not fit, and names the space.
        """
        states = [self._start]
        values: list[list[int]] = []
        for position, token in enumerate([*(f"'{token}'" for token in tokens), _END]):
            while True:
                action = self._states[states[-1]].get(token)
                if action is None:
                    raise SpaceError(self._complaint(tokens, position, states[-1], space))
                if isinstance(action, int):
                    states.append(action)
                    values.append([])
                    break
                number, length, rule = action
                steps = [number]
                for part in values[len(values) - length :]:
                    steps += part
                del states[len(states) - length :], values[len(values) - length :]
                states.append(self._states[states[-1]][rule])
                values.append(steps)
                if states[-1] == self._end and token == _END:
                    return tuple(steps[1:])
        raise AssertionError("the end of the tokens ends the parse")

    def _complaint(self, tokens: Sequence[str], position: int, state: int, space: str) -> str:
        text = render(tokens)
        expected = sorted(name.strip("'") for name in self._states[state] if name[0] == "'")
        if _END in self._states[state]:
            expected.append("the end")
        listed = ", ".join(expected[:12]) + (", …" if len(expected) > 12 else "")
        found = repr(tokens[position]) if position < len(tokens) else "the end"
        before = render(tokens[:position])
        return f"not a sentence of the space {space!r}: found {found}, expected {listed}\n" + quote(
            text, min(len(before), len(text))
        )
