"""Patterns of terms: by which rules a production over classes is another production over classes.

a − b is a + (−b), min(a, b) is −max(−a, −b), and operands of a symmetric production may be
exchanged: such rules hold for any operands, so that they are proved once for each production, on
its normal form, and then applied to class numbers only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.normal_form import normal_form
from actsearch.grammar.expression import Expression

Codes = NDArray[np.int64]
"""Numbers that stand for functions: twice that of a function, plus 1 for its negative."""
_BITS = 28  # of an operand's number in a pattern's
_WIDE = 1 << 62  # from here on the numbers of patterns with more than two operands


@dataclass(frozen=True)
class Change:
    """How operands change places and signs, and the sign of the whole.

    Attributes:
        sign: of the whole.
        order: which operand comes to each place.
        signs: with which sign.
    """

    sign: int
    order: tuple[int, ...]
    signs: tuple[int, ...]

    def packed(self, operands: Sequence[Codes]) -> Codes:
        """The changed sign and operands as one number for each row."""
        result = np.full(len(operands[0]) if operands else 1, int(self.sign < 0), dtype=np.int64)
        for place, own in zip(self.order, self.signs, strict=True):
            result = (result << _BITS) | (operands[place] ^ int(own < 0))
        return result

    def then(self, other: Change) -> Change:
        """This change, and another one after it."""
        return Change(
            self.sign * other.sign,
            tuple(self.order[place] for place in other.order),
            tuple(
                self.signs[place] * own for place, own in zip(other.order, other.signs, strict=True)
            ),
        )


class Patterns:
    """The canonical patterns of productions.

    Args:
        templates: productions over placeholders, each with its number of operands.
    """

    def __init__(self, templates: Sequence[tuple[Expression, int]]) -> None:
        self._ways: list[tuple[int, Change]] = []
        self._symmetries: list[list[Change]] = []
        self._wide: dict[tuple[int, ...], int] = {}
        known: list[tuple[Expression, int]] = []
        for template, count in templates:
            form = normal_form(template)
            for number, (other, arity) in enumerate(known):
                change = _found(form, other, count) if arity == count else None
                if change is not None:
                    self._ways.append((number, change))
                    break
            else:
                self._ways.append((len(known), _identity(count)))
                known.append((template, count))
                self._symmetries.append(
                    [c for c in _changes(count) if _changed(template, c) is form]
                )

    def codes(self, number: int, operands: Sequence[Codes]) -> Codes:
        """Numbers of a production over rows of operands: those with equal ones are equal functions.

        Args:
            number: of the production.
            operands: for each of its operands the numbers of functions and signs.
        """
        base, change = self._ways[number]
        if len(operands) > 2:
            rows = zip(*(column.tolist() for column in operands), strict=True)
            found = [self._wide.setdefault((base, *row), len(self._wide)) for row in rows]
            return np.array(found, dtype=np.int64) + _WIDE
        ways = [change.then(symmetry).packed(operands) for symmetry in self._symmetries[base]]
        return np.asarray(np.minimum.reduce(ways) * len(self._symmetries) + base)


def _identity(count: int) -> Change:
    return Change(1, tuple(range(count)), (1,) * count)


def _changes(count: int) -> list[Change]:
    if count > 2:
        return [_identity(count)]
    return [
        Change(sign, order, signs)
        for sign in (1, -1)
        for order in itertools.permutations(range(count))
        for signs in itertools.product((1, -1), repeat=count)
    ]


def _changed(template: Expression, change: Change) -> Expression:
    """sign·template over the changed operands, in normal form."""
    operands: dict[Expression, Expression] = {
        placeholder(place): placeholder(source) if own > 0 else -placeholder(source)
        for place, (source, own) in enumerate(zip(change.order, change.signs, strict=True))
    }
    result = template.substitute(operands)
    return normal_form(result if change.sign > 0 else -result)


def _found(form: Expression, template: Expression, count: int) -> Change | None:
    """The change by which a template becomes this normal form."""
    return next((c for c in _changes(count) if _changed(template, c) is form), None)
