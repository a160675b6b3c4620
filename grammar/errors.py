"""What can be wrong with an expression or a search space: one class for each kind of mistake.

Every message fits on one screen, quotes the user's own text with a caret under the culprit, says
what was expected and, where a name is unknown, proposes the nearest one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_EXCERPT = 72  # characters of the user's text that are quoted around the mistake


class ActSearchError(Exception):
    """Whatever ActSearch refuses or cannot do; `str(error)` is a message for people."""


class UsageError(ActSearchError, ValueError):
    """What the user gave is not what was expected: a name, an option, an expression, a space."""


class ExpressionError(UsageError):
    """A text that is not an activation expression.

    Attributes:
        text: what the user wrote.
        position: 0-based offset of the mistake in `text`, or None where there is no single place.
    """

    def __init__(self, message: str, text: str = "", position: int | None = None) -> None:
        self.message = message
        self.text = text
        self.position = position
        super().__init__(message)

    def __str__(self) -> str:
        if self.position is None:
            return self.message
        return f"{self.message}\n{quote(self.text, self.position)}"

    def __reduce__(self) -> tuple[type[ExpressionError], tuple[str, str, int | None]]:
        return type(self), (self.message, self.text, self.position)


class UnexpectedCharacter(ExpressionError):
    """A character that the language does not use, control characters among them."""


class UnexpectedToken(ExpressionError):
    """A token where another was expected: `x +* 2`, `x**`, `beta =`."""


class UnbalancedParentheses(ExpressionError):
    """An opening parenthesis that is never closed, or a closing one that was never opened."""


class EmptyExpression(ExpressionError):
    """Nothing but blanks."""


class UnknownFunction(ExpressionError):
    """A call of a function that is not in the operator table and is no named activation."""


class WrongArity(ExpressionError):
    """A function called with too few or too many arguments."""


class MisplacedComparison(ExpressionError):
    """A comparison outside `where(...)`, or a value where `where` wants a comparison."""


class BadNumber(ExpressionError):
    """A number that float64 cannot hold, or with too many digits."""


class BadDeclaration(ExpressionError):
    """A parameter declared twice, or declared and never used."""


class TextTooLong(ExpressionError):
    """More text than the parser accepts."""


class ConflictingParameters(ExpressionError):
    """One parameter name with two different declarations inside one expression."""


class SpaceError(UsageError):
    """A search-space grammar that cannot be counted, or an index or sentence outside of it."""


def quote(text: str, position: int) -> str:
    """The part of `text` around `position` on one line, and a caret under the place."""
    position = min(max(position, 0), len(text))
    start = max(0, min(position - _EXCERPT // 2, len(text) - _EXCERPT))
    end = min(len(text), start + _EXCERPT)
    before = "…" if start > 0 else ""
    after = "…" if end < len(text) else ""
    shown = "".join(c if c.isprintable() else "�" for c in text[start:end])
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + position - start)}^"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'sigmoid'?` for the nearest known name, or an empty string."""
    lowered = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.55)
    return f"; did you mean {lowered[nearest[0]]!r}?" if nearest else ""
