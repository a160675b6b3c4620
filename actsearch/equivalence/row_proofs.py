"""Proofs of the merges of a partition's last step, in bulk: pattern by pattern, then form by form.

On each quadrant the rows of a class are sorted by their patterns over the functions that their
sub-terms are there (`patterns`): equal ones are equal. What is left is written as a form over |x|
and |β|, from forms of the sub-terms that are made once. Rows that are joined on all four quadrants
are proved equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.normal_form import apply_form, form_of
from actsearch.equivalence.patterns import Operand, Pattern, Patterns
from actsearch.equivalence.polynomial import Form, TooLarge, atom_form
from actsearch.equivalence.products import NOWHERE
from actsearch.equivalence.quadrants import QUADRANTS, Key, key_of, same
from actsearch.equivalence.term_tables import Place
from actsearch.grammar.expression import Apply, Expression, Input, Parameter

RULES: tuple[str, ...] = ("", "pattern", "normal form", "ordering or algebra")
"""How a row was proved to equal the first one with its label, by number; the dearest counts."""
_X, _BETA = Input("x"), Parameter(SHARED_NAME)
_LARGEST_COMPARED = 6
_LARGEST_FORM = 60
_HARD = TooLarge, RecursionError

Ints = NDArray[np.int64]


@dataclass
class Proved:
    """What was proved of some groups of rows.

    Attributes:
        rules: how many rows were joined by each rule.
        left: for each group the rows that no proof joins to another one of these; the first of
            each group comes first.
    """

    rules: Counter[str] = field(default_factory=Counter)
    left: list[list[int]] = field(default_factory=list)

    @property
    def unproved(self) -> int:
        """Number of merges without a proof."""
        return sum(len(rows) - 1 for rows in self.left)


def groups_of(found: Partition, numbers: Iterable[int] | None = None) -> list[list[int]]:
    """The rows of the classes that have several, in ascending order.

    Args:
        found: the partition.
        numbers: of these classes only.
    """
    order = np.argsort(found.numbers, kind="stable")
    starts = np.flatnonzero(np.diff(found.numbers[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    chosen = np.flatnonzero(ends - starts > 1)
    if numbers is not None:
        labels = found.numbers[order[starts]]
        chosen = chosen[np.isin(labels[chosen], np.fromiter(numbers, dtype=np.int64))]
    return [order[starts[k] : ends[k]].tolist() for k in chosen]


def prove(found: Partition, groups: Sequence[Sequence[int]]) -> Proved:
    """Prove as many merges of some groups of rows as can be, quadrant by quadrant."""
    labels = [[0] * len(rows) for rows in groups]
    reasons = [[0] * len(rows) for rows in groups]
    for quadrant in QUADRANTS:
        forms = QuadrantForms(found, quadrant)
        for number, rows in enumerate(groups):
            if quadrant[1] < 0 and not any(forms.has_parameter(row) for row in rows):
                continue  # nothing has changed since the quadrant before
            labels[number], rules = group_labels(forms, rows, labels[number])
            reasons[number] = list(map(max, reasons[number], rules))
    result = Proved()
    for rows, own, rules in zip(groups, labels, reasons, strict=True):
        result.left.append([row for place, row in enumerate(rows) if own[place] == place])
        result.rules.update(RULES[rule] for place, rule in enumerate(rules) if own[place] != place)
    return result


class QuadrantForms:
    """Forms of the sub-terms, and of the rows, of a partition on one quadrant.

    Args:
        found: the partition.
        quadrant: signs of x and β.
    """

    def __init__(self, found: Partition, quadrant: tuple[int, int]) -> None:
        self._found = found
        self._leaves: dict[Expression, Form] = {
            _X: atom_form(SIZE_OF_X).scaled(Fraction(quadrant[0])),
            _BETA: atom_form(SIZE_OF_BETA).scaled(Fraction(quadrant[1])),
        }
        self._forms: dict[tuple[Place, int], Form] = {}
        self._operands: dict[tuple[Place, int], Operand] = {}
        self._numbers: dict[object, int] = {}
        self._varying: dict[tuple[Place, int], bool] = {}
        self._templates = [found.builder.template(shape.production) for shape in found.shapes]
        self._patterns = Patterns(
            [(t, len(s.sizes)) for t, s in zip(self._templates, found.shapes, strict=True)]
        )

    def of_class(self, place: Place, number: int) -> Form:
        """The form of a class of sub-terms.

        Raises:
            TooLarge: it has none of moderate size.
        """
        known = self._forms.get((place, number))
        if known is None:
            table = self._found.builder.table(place)
            shape, children = table.firsts[number]
            own = table.shapes[shape]
            inner = [self.of_class(p, c) for p, c in zip(own.places, children, strict=True)]
            template = self._found.builder.template(own.production)
            known = self._forms[place, number] = self._applied(template, inner)
        return known

    def of_row(self, row: int) -> Form:
        """The form of a term of the last step.

        Raises:
            TooLarge: it has none of moderate size.
        """
        shape, children = self._found.term(row)
        places = self._found.shapes[shape].places
        inner = [self.of_class(p, c) for p, c in zip(places, children, strict=True)]
        return self._applied(self._templates[shape], inner)

    def has_parameter(self, row: int) -> bool:
        """Whether the parameter occurs in a row."""
        shape, children = self._found.term(row)
        places = self._found.shapes[shape].places
        return _BETA in self._templates[shape].parameters or any(
            self._varies(p, c) for p, c in zip(places, children, strict=True)
        )

    def _varies(self, place: Place, number: int) -> bool:
        known = self._varying.get((place, number))
        if known is None:
            table = self._found.builder.table(place)
            shape, children = table.firsts[number]
            own = table.shapes[shape]
            known = _BETA in self._found.builder.template(own.production).parameters or any(
                self._varies(p, c) for p, c in zip(own.places, children, strict=True)
            )
            self._varying[place, number] = known
        return known

    def pattern(self, row: int) -> Pattern:
        """The pattern of a term of the last step: rows with equal ones are equal."""
        shape, children = self._found.term(row)
        places = self._found.shapes[shape].places
        operands = [self._operand(p, c) for p, c in zip(places, children, strict=True)]
        return self._patterns.canonical(shape, operands)

    def _operand(self, place: Place, number: int) -> Operand:
        """The number of a class's function on the quadrant, up to its sign, and the sign."""
        known = self._operands.get((place, number))
        if known is None:
            sign, key = 1, (place, number)  # of a class without a form
            found: tuple[object, ...] = key
            try:
                form = self.of_class(place, number)
                sign = -1 if form is not NOWHERE and form.leading() < 0 else 1
                found = key_of(form.scaled(Fraction(-1)) if sign < 0 else form)
            except _HARD:
                pass
            known = self._numbers.setdefault(found, len(self._numbers)), sign
            self._operands[place, number] = known
        return known

    def _applied(self, template: Expression, inner: Sequence[Form]) -> Form:
        known: dict[Expression, Form] = {placeholder(n): form for n, form in enumerate(inner)}
        known |= self._leaves

        def visit(node: Expression, parts: tuple[Form, ...]) -> Form:
            if node in known:
                return known[node]
            if isinstance(node, Apply):
                return apply_form(node.operator.name, *parts)
            return form_of(node)

        found = template.fold(visit)
        if len(found.terms) > _LARGEST_FORM:
            raise TooLarge
        return found


def group_labels(
    forms: QuadrantForms, rows: Sequence[int], earlier: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Labels of a group's rows: rows with equal ones are proved equal on the quadrant.

    Args:
        forms: of the quadrant.
        rows: the rows.
        earlier: labels of other quadrants; only rows with equal ones are compared.

    Returns:
        For each row the place, in the group, of the first row that is proved to be equal, and the
        number of the rule (`RULES`). What has no form of moderate size has a label of its own.
    """
    by_pattern: dict[tuple[int, Pattern], int] = {}
    labels = [
        by_pattern.setdefault((earlier[place], forms.pattern(row)), place)
        for place, row in enumerate(rows)
    ]
    reasons = [int(label != place) for place, label in enumerate(labels)]
    heads = [place for place, label in enumerate(labels) if label == place]
    several = Counter(earlier[place] for place in heads)
    moved = _by_form(
        forms, rows, [(place, earlier[place]) for place in heads if several[earlier[place]] > 1]
    )
    for place, label in enumerate(labels):
        if label in moved:
            labels[place], reason = moved[label]
            reasons[place] = max(reasons[place], reason)
    return labels, reasons


def _by_form(
    forms: QuadrantForms, rows: Sequence[int], heads: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Place -> the earlier place with the same label before whose row is proved equal, and how."""
    moved: dict[int, tuple[int, int]] = {}
    by_key: dict[tuple[int, Key], int] = {}
    firsts: dict[int, list[tuple[int, Form]]] = {}
    for place, before in heads:
        try:
            form = forms.of_row(rows[place])
        except _HARD:
            continue
        key = key_of(form)
        label = by_key.get((before, key))
        if label is not None:
            moved[place] = label, 2
            continue
        opened = firsts.setdefault(before, [])
        for label, other in opened[:_LARGEST_COMPARED]:
            if same(other, form):
                moved[place] = label, 3
                break
        else:
            label = place
            opened.append((place, form))
        by_key[before, key] = label
    return moved
