"""Sentences: a text as tokens of the language, and tokens as text in one canonical form.

Search spaces work on tokens, so that blanks are insignificant and a space's own strings, such as
"max(0, ", can begin and end anywhere in an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from actsearch.grammar.errors import SpaceError, quote

_TOKEN = re.compile(
    r"(?P<word>[A-Za-z_][A-Za-z0-9_]*|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<symbol>\*\*|[<>=!]=|[-+*/(),;=<>])"
    r"|(?P<blank>[ \t\r\n]+)"
)
_SIGNS = frozenset("+-")
_SPACED = frozenset({"=", "<", ">", "<=", ">=", "==", "!="})
_SEPARATORS = frozenset(",;")
_GLUED = frozenset("*<>=!")  # one of these before `*` or `=` would read as one longer token


def tokenise(text: str) -> list[str]:
    """The tokens of an expression, without the blanks between them.

    Raises:
        SpaceError: a character that the language does not use.
    """
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SpaceError(
                f"the character {text[position]!r} is not part of the language\n"
                + quote(text, position)
            )
        if match.lastgroup != "blank":
            tokens.append(match.group())
        position = match.end()
    return tokens


def render(tokens: Iterable[str]) -> str:
    """The tokens as readable text: `max(0, x) + 2*x`. `tokenise` gives the same tokens back."""
    pieces: list[str] = []
    previous = ""
    for token in tokens:
        operand = is_word(previous) or previous == ")"
        if token in _SPACED or (token in _SIGNS and operand):
            pieces.append(f" {token} ")
        elif token in _SEPARATORS:
            pieces.append(f"{token} ")
        elif (is_word(token) and is_word(previous)) or (
            token[0] in "*=" and previous[-1:] in _GLUED
        ):
            pieces.append(f" {token}")
        else:
            pieces.append(token)
        previous = token
    return "".join(pieces).strip()


def is_word(token: str) -> bool:
    """Whether a token is a name or a number."""
    return token[:1].isalnum() or token[:1] in ("_", ".")
