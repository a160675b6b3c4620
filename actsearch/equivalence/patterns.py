"""Patterns of terms: by which rules a production over classes is another production over classes.

a − b is a + (−b), min(a, b) is −max(−a, −b), and operands of a symmetric production may be
exchanged: such rules hold for any operands, so that they are proved once for each production, on
its normal form, and then applied to class numbers only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.normal_form import normal_form
from actsearch.grammar.expression import Expression

Operand = tuple[int, int]
"""A number that stands for a function, and the sign it is taken with."""
Pattern = tuple[int, int, tuple[Operand, ...]]
"""Number of a production, the sign of the whole, and the operands."""


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

    def applied(self, sign: int, operands: Sequence[Operand]) -> tuple[int, tuple[Operand, ...]]:
        """The changed sign and operands."""
        changed = tuple(
            (operands[place][0], operands[place][1] * own)
            for place, own in zip(self.order, self.signs, strict=True)
        )
        return sign * self.sign, changed


class Patterns:
    """The canonical patterns of productions.

    Args:
        templates: productions over placeholders, each with its number of operands.
    """

    def __init__(self, templates: Sequence[tuple[Expression, int]]) -> None:
        self._ways: list[tuple[int, Change]] = []
        self._symmetries: list[list[Change]] = []
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

    def canonical(self, number: int, operands: Sequence[Operand]) -> Pattern:
        """The pattern of a production over some operands: equal ones are equal functions."""
        base, change = self._ways[number]
        sign, own = change.applied(1, operands)
        return base, *min(symmetry.applied(sign, own) for symmetry in self._symmetries[base])


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
