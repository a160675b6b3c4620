"""The LALR loop: lark makes the tables and the callbacks, and this runs them over a text.

Lark's own loop spends most of its time on chains of rules with one symbol (sum -> product -> … ->
atom), which build nothing. Here a chain is followed once and remembered, and one regular expression
finds the tokens: twice as many expressions a second, with the same grammar file.
"""

from __future__ import annotations

import re
from typing import Any

END = "$END"


class Token(str):
    """A piece of the text, and where it begins."""

    start_pos: int


class BadCharacter(Exception):
    """No token begins at `position`."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class BadToken(Exception):
    """A token that cannot stand where it does; at the end its type is "$END".

    Attributes:
        expected: the types of the tokens that could.
    """

    def __init__(self, kind: str, text: str, position: int, expected: set[str]) -> None:
        super().__init__(kind, text, position)
        self.kind = kind
        self.text = text
        self.position = position
        self.expected = expected


class LalrParser:
    """A parser for a Lark grammar, building its result as it goes.

    Args:
        grammar: the text of the grammar; its terminals may be strings, which win over the regular
            expressions of other terminals only where the grammar allows them.
        transformer: a lark Transformer with a method for each rule and alias; it gets the list of
            the rule's children.
    """

    def __init__(self, grammar: str, transformer: Any) -> None:
        from lark import Lark
        from lark.lexer import PatternStr

        lark = Lark(grammar, parser="lalr", lexer="contextual", transformer=transformer)
        patterns, self._fixed, ignored = [], {}, set(lark.ignore_tokens)
        for terminal in lark.terminals:
            if isinstance(terminal.pattern, PatternStr):
                self._fixed[terminal.pattern.value] = terminal.name
            else:
                patterns.append((terminal.name, terminal.pattern.to_regexp()))
        symbols = sorted((s for s in self._fixed if not s.isalpha()), key=len, reverse=True)
        patterns.append(("", "|".join(map(re.escape, symbols))))
        # Longer symbols first: "==" is a comparison before "=" is a sign of its own.
        self._scan = re.compile("|".join(f"({pattern})" for _, pattern in _groups(patterns))).match
        self._kinds = [None if name in ignored else name for name, _ in patterns]
        self._load(lark)

    def _load(self, lark: Any) -> None:
        table = lark.parser.parser._parse_table
        callbacks = lark._callbacks
        (self._start,) = table.start_states.values()
        (self._end,) = table.end_states.values()
        self._actions: list[dict[str, Any]] = [{} for _ in range(max(table.states) + 1)]
        for state, actions in table.states.items():
            for name, (action, argument) in actions.items():
                if action.name == "Shift":
                    self._actions[state][name] = argument
                    continue
                silent = argument.options.expand1 and len(argument.expansion) == 1
                build = None if silent and not argument.alias else callbacks[argument]
                self._actions[state][name] = (len(argument.expansion), build, argument.origin.name)
        self._chains: dict[tuple[int, int, str], int] = {}

    def parse(self, text: str) -> Any:
        """What the transformer's method for the start rule returns.

        Raises:
            BadCharacter: the text has a character that begins no token.
            BadToken: a token, or the end of the text, where another token was expected.
        """
        states: list[int] = [self._start]
        values: list[Any] = []
        scan, kinds, fixed = self._scan, self._kinds, self._fixed
        position, length = 0, len(text)
        while position < length:
            match = scan(text, position)
            if match is None or match.lastindex is None:
                raise BadCharacter(position)
            kind = kinds[match.lastindex - 1]
            if kind is not None:
                token = Token(match.group())
                token.start_pos = position
                if not kind or (token in fixed and fixed[token] in self._actions[states[-1]]):
                    kind = fixed[token]
                self._feed(states, values, kind, token)
                states.append(self._actions[states[-1]][kind])
                values.append(token)
            position = match.end()
        end = Token("")
        end.start_pos = length
        self._feed(states, values, END, end)
        return values[-1]

    def _feed(self, states: list[int], values: list[Any], kind: str, token: Token) -> None:
        """Reduce until `kind` can be shifted, or until everything is the start rule."""
        actions = self._actions
        while True:
            action = actions[states[-1]].get(kind)
            if action is None:
                expected = {name for name in actions[states[-1]] if name.isupper() or name == END}
                raise BadToken(kind, str(token), token.start_pos, expected)
            if isinstance(action, int):
                return
            count, build, origin = action
            if build is None:
                key = (states[-2], states[-1], kind)
                if key not in self._chains:
                    self._chains[key] = self._follow(*key)
                states[-1] = self._chains[key]
                continue
            if count:
                children = values[-count:]
                del values[-count:], states[-count:]
            else:
                children = []
            values.append(build(children))
            states.append(actions[states[-1]][origin])
            if states[-1] == self._end and kind == END:
                return

    def _follow(self, below: int, state: int, kind: str) -> int:
        """The state after all the rules with one symbol that `kind` reduces by."""
        while True:
            action = self._actions[state].get(kind)
            if action is None or isinstance(action, int) or action[1] is not None:
                return state
            state = self._actions[below][action[2]]


def _groups(patterns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The patterns without capturing groups of their own, so that a group's number is a kind."""
    return [(name, re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)) for name, pattern in patterns]
