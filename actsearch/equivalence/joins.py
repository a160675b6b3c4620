"""Functions on a quadrant as the larger of several others, however that was written.

max(max(a, b), c) is the largest of {a, b, c}, |a| of {a, −a}, and −min(a, b) of {−a, −b}. What is
never larger than another one of these, and defined everywhere, may be left out. Sets that are
equal then are equal functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from actsearch.equivalence.memo import Memo
from actsearch.equivalence.orders import Orders
from actsearch.equivalence.term_tables import LARGER, SMALLER, Place, Side
from actsearch.grammar.expression import Apply, Expression

_LARGEST = 8
_JOINED = 1 << 60  # from here on, downwards, the numbers of sets
_MEMO_SIZE = 100_000
_SIGNS: Mapping[str, int] = {"max": 0, "abs": 0, "min": 1}
"""The sign bit: with it flipped in all codes, the production is the largest of its operands."""


@dataclass(frozen=True)
class Known:
    """A class with some function.

    Attributes:
        place: of its table.
        number: in it.
        code: of the function.
        everywhere: whether it is defined on the whole quadrant.
    """

    place: Place
    number: int
    code: int
    everywhere: bool


class Joins:
    """Sets of functions, by code, that others are the largest of; −f has f's code, bit 0 flipped.

    Args:
        orders: of classes on the quadrant.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._known: dict[int, Known] = {}
        self._parts: dict[int, frozenset[int]] = {}
        self._larger: Memo[tuple[int, int], bool] = Memo(_MEMO_SIZE)
        self._numbers: dict[frozenset[int], int] = {}

    def note(
        self, known: Known, template: Expression, operands: Callable[[], Sequence[int]]
    ) -> None:
        """Enter a class: its function, and as what production over which codes it was made."""
        self._known.setdefault(known.code // 2, known)
        sign = _sign(template)
        if sign is None or known.code ^ sign in self._parts:
            return
        parts = self._joined(template, operands(), sign)
        if len(parts) > 1:
            self._parts[known.code ^ sign] = parts

    def code(self, template: Expression, operands: Sequence[int]) -> int:
        """A negative number for a maximum or minimum of functions with these codes.

        Those with equal ones, or with that of a function (`code_of`), are equal functions.
        """
        sign = _sign(template)
        assert sign is not None
        return self._number(self._joined(template, operands, sign), sign)

    def code_of(self, code: int) -> int:
        """The negative number for a function with a code."""
        for sign in (0, 1):
            parts = self._parts.get(code ^ sign)
            if parts is not None:
                return self._number(parts, sign)
        return -1 - code

    def _number(self, parts: frozenset[int], sign: int) -> int:
        if len(parts) == 1:
            (only,) = parts
            return self.code_of(only ^ sign)
        return -_JOINED - 2 * self._numbers.setdefault(parts, len(self._numbers)) - sign

    def _joined(self, template: Expression, operands: Sequence[int], sign: int) -> frozenset[int]:
        assert isinstance(template, Apply)
        own = [code ^ sign for code in operands]
        if template.operator.name == "abs":
            own.append(own[0] ^ 1)
        parts = frozenset().union(*(self._parts.get(code, {code}) for code in own))
        return self._pruned(parts) if len(parts) <= _LARGEST else parts

    def _pruned(self, parts: frozenset[int]) -> frozenset[int]:
        """Without what another one is never smaller than."""
        left = sorted(parts)
        for first, second in itertools.permutations(sorted(parts), 2):
            both = first in left and second in left
            if both and self._everywhere(second) and self._is_larger(first, second):
                left.remove(second)
        return frozenset(left)

    def _everywhere(self, code: int) -> bool:
        known = self._known.get(code // 2)
        return known is not None and known.everywhere

    def _is_larger(self, first: int, second: int) -> bool:
        known = self._larger.get((first, second))
        if known is None:
            self._larger.make_room()
            a, b = self._side(first), self._side(second)
            order = self._orders.of(a, b) if a is not None and b is not None else 0
            known = self._larger[first, second] = bool(order & LARGER)
            self._larger[second, first] = bool(order & SMALLER)
        return known

    def _side(self, code: int) -> Side | None:
        known = self._known.get(code // 2)
        return None if known is None else Side(known.place, known.number, known.code != code)


def _sign(template: Expression) -> int | None:
    """0 for the larger of two operands, or |a|, 1 for the smaller; None for other productions."""
    if not isinstance(template, Apply) or any(map(_is_deep, template.arguments)):
        return None
    return _SIGNS.get(template.operator.name)


def _is_deep(argument: Expression) -> bool:
    return isinstance(argument, Apply)
