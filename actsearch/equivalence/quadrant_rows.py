"""The rows of a partition on one quadrant: patterns over functions of sub-terms, and forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.cell_rows import WHOLE, CellRows, chooses
from actsearch.equivalence.cells import Cells
from actsearch.equivalence.congruence import Partition
from actsearch.equivalence.enclosures import SIZE_OF_BETA, SIZE_OF_X
from actsearch.equivalence.joins import Joins, Known
from actsearch.equivalence.normal_form import apply_form, form_of
from actsearch.equivalence.orderings import hasty
from actsearch.equivalence.orders import Orders
from actsearch.equivalence.patterns import Patterns
from actsearch.equivalence.polynomial import Form, TooLarge, atom_form
from actsearch.equivalence.products import NOWHERE, nowhere
from actsearch.equivalence.quadrants import key_of
from actsearch.equivalence.term_tables import Place
from actsearch.equivalence.terms import PARAMETER
from actsearch.grammar.expression import Apply, Expression, Input

HARD = TooLarge, RecursionError
"""What is raised where a row has no form of moderate size."""
_X = Input("x")
_LARGEST_FORM = 60

Ints = NDArray[Any]


class QuadrantRows:
    """Patterns and forms of the rows of a partition on one quadrant.

    Args:
        found: the partition.
        quadrant: signs of x and β.
    """

    def __init__(self, found: Partition, quadrant: tuple[int, int]) -> None:
        self._found = found
        self._repeats = quadrant[1] < 0
        self._leaves: dict[Expression, Form] = {
            _X: atom_form(SIZE_OF_X).scaled(Fraction(quadrant[0])),
            PARAMETER: atom_form(SIZE_OF_BETA).scaled(Fraction(quadrant[1])),
        }
        self._cells = Cells(found.builder, quadrant)
        self._closer = Orders(found.builder, quadrant, self._cells)
        self._joins = Joins(self._closer)
        self._looked_at: set[tuple[Place, int, int]] = set()
        self._on_cells = CellRows(
            found, self._cells, lambda *term: self._operand(*term)[0], self._code_of_applied
        )
        self._forms: dict[tuple[Place, int], Form] = {}
        self._operands: dict[tuple[Place, int], tuple[int, bool]] = {}
        self._numbers: dict[object, int] = {}
        self._functions: dict[int, Form] = {}
        self._orders: dict[tuple[Place, int], NDArray[np.int8]] = {}
        self._templates = [found.builder.template(shape.production) for shape in found.shapes]
        self._patterns = Patterns(
            [(t, len(s.sizes)) for t, s in zip(self._templates, found.shapes, strict=True)]
        )

    def tells(self, rows: Sequence[int]) -> bool:
        """Whether some rows are to be compared here: without β they are on the quadrant before."""
        return not self._repeats or any(map(self._found.varies, rows))

    def form_of_class(self, place: Place, number: int) -> Form:
        """The form of a class of sub-terms.

        Raises:
            TooLarge: it has none of moderate size.
        """
        known = self._forms.get((place, number))
        if known is None:
            table = self._found.builder.table(place)
            shape, children = table.firsts[number]
            own = table.shapes[shape]
            inner = [self.form_of_class(p, c) for p, c in zip(own.places, children, strict=True)]
            template = self._found.builder.template(own.production)
            known = self._forms[place, number] = self._applied(template, inner)
        return known

    def form(self, row: int) -> Form:
        """The form of a term of the last step.

        Raises:
            TooLarge: it has none of moderate size.
        """
        shape, children = self._found.term(row)
        places = self._found.shapes[shape].places
        inner = [self.form_of_class(p, c) for p, c in zip(places, children, strict=True)]
        whole = self._whole(shape, children)
        if whole is not None:
            return nowhere(inner[whole].on(inner[1 - whole].domain))
        with hasty():
            return self._applied(self._templates[shape], inner)

    def equal_on_cells(self, first: int, second: int) -> bool:
        """Whether two rows are proved to have the same values on each cell (`cell_rows`)."""
        return self._on_cells.equal(first, second)

    def codes(self, rows: Ints) -> Ints:
        """Numbers of the rows' patterns: rows with equal ones are equal functions.

        Where one operand of a maximum is the larger one on the quadrant, and the other one is
        defined there, the pattern is that of the operand.
        """
        found = self._found
        codes = np.empty(len(rows), dtype=np.int64)
        if not len(rows):
            return codes
        self._compare(rows)
        numbers, chosen = np.divmod(rows, len(found.big))
        order = np.argsort(numbers, kind="stable")
        for where in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            arm = found.arms[int(numbers[where[0]])]
            places = found.shapes[arm.shape].places
            if self._compared(arm.shape):
                codes[where] = [self._resolved(arm.shape, row) for row in rows[where].tolist()]
                continue
            columns = []
            for place, other in zip(places, arm.others, strict=True):
                own = chosen[where].tolist() if other is None else [other] * len(where)
                columns.append([self._operand(place, number) for number in own])
            operands = [np.array([code for code, _ in column]) for column in columns]
            codes[where] = self._patterns.codes(arm.shape, operands)
        return codes

    def _resolved(self, shape: int, row: int) -> int:
        """The number of a maximum or minimum, which is that of its operand where it is one."""
        _, children = self._found.term(row)
        places = self._found.shapes[shape].places
        operands = [self._operand(*term) for term in zip(places, children, strict=True)]
        whole = self._whole(shape, children)
        if whole is not None and operands[1 - whole][1]:
            return self._joins.code_of(operands[whole][0])
        return self._joins.code(self._templates[shape], [code for code, _ in operands])

    def _compared(self, shape: int) -> bool:
        return chooses(self._templates[shape])

    def _whole(self, shape: int, children: Sequence[int]) -> int | None:
        """The operand that a maximum or minimum is on the whole quadrant, where that is proved."""
        if not self._compared(shape):
            return None
        places = self._found.shapes[shape].places
        free = places.index(self._found.big.place)
        known = self._orders.get((places[1 - free], children[free]))
        if known is None:
            return None
        template = self._templates[shape]
        assert isinstance(template, Apply)
        order = int(known[children[1 - free]])  # of the other operand and the free one
        own, other = WHOLE[template.operator.name]
        if order & own:
            return 1 - free
        return free if order & other else None

    def _compare(self, rows: Ints) -> None:
        """Find the orders that the rows' maxima and minima ask for, all at once."""
        found = self._found
        numbers, chosen = np.divmod(rows, len(found.big))
        asked: dict[Place, dict[int, Ints]] = {}
        for number in np.unique(numbers):
            arm = found.arms[int(number)]
            if self._compared(arm.shape):
                places = found.shapes[arm.shape].places
                at = 1 - places.index(found.big.place)
                other = arm.others[at]
                assert other is not None
                own = asked.setdefault(places[at], {})
                own[other] = np.union1d(own.get(other, []), chosen[numbers == number]).astype(int)
        for place, pairs in asked.items():
            distinct = np.unique(np.concatenate(list(pairs.values()))).tolist()
            fresh = [n for n in distinct if (place, n) not in self._orders]
            orders = self._cells.orders(place, found.big.place, fresh)
            self._orders.update(((place, n), orders[:, at]) for at, n in enumerate(fresh))
            self._compare_closely(place, pairs)

    def _compare_closely(self, place: Place, pairs: Mapping[int, Ints]) -> None:
        """Look closer at classes of a table and those of the large one that cells leave open.

        Args:
            place: of the table.
            pairs: for each number in it those in the large one that it is compared with.
        """
        known = self._orders
        fresh = {
            other: [
                number
                for number in chosen.tolist()
                if not known[place, number][other] and (place, other, number) not in self._looked_at
            ]
            for other, chosen in pairs.items()
        }
        orders = self._closer.closer(place, self._found.big.place, fresh)
        for other, numbers in fresh.items():
            self._looked_at.update((place, other, number) for number in numbers)
            for number, order in zip(numbers, orders[other].tolist(), strict=True):
                known[place, number][other] = order

    def _operand(self, place: Place, number: int) -> tuple[int, bool]:
        """Twice the number of a class's function on the quadrant, up to its sign, plus 1 if that is
        −1; and whether the function is defined on all of the quadrant.
        """
        known = self._operands.get((place, number))
        if known is None:
            try:
                form = self.form_of_class(place, number)
                known = self._code(form), not form.domain
            except HARD:
                known = 2 * self._numbers.setdefault((place, number), len(self._numbers)), False
            self._operands[place, number] = known
            self._note(place, number, *known)
        return known

    def _note(self, place: Place, number: int, code: int, everywhere: bool) -> None:
        """Enter a class into the sets of functions of which others are the largest."""
        table = self._found.builder.table(place)
        shape, children = table.firsts[number]
        own = table.shapes[shape]
        template = self._found.builder.template(own.production)

        def operands() -> list[int]:
            terms = zip(own.places, children, strict=True)
            known = {placeholder(n): self._operand(*term)[0] for n, term in enumerate(terms)}
            return [
                known[a] if a in known else self._code(self._applied(a, []))
                for a in template.arguments
            ]

        if template in (placeholder(0), -placeholder(0)):
            self._operand(own.places[0], children[0])  # it is entered as what it is made of
        self._joins.note(Known(place, number, code, everywhere), template, operands)

    def _code(self, form: Form) -> int:
        """Twice the number of a form up to its sign, plus 1 if that is −1."""
        mirrored = form is not NOWHERE and form.leading() < 0
        if mirrored:
            form = form.scaled(Fraction(-1))
        own = self._numbers.setdefault(key_of(form), len(self._numbers))
        self._functions.setdefault(own, form)
        return 2 * own + mirrored

    def _code_of_applied(self, template: Expression, operands: Sequence[int]) -> int | None:
        """The code of a production over functions that have codes; None where it is too large."""
        inner = []
        for code in operands:
            form = self._functions.get(code // 2)
            if form is None:
                return None
            inner.append(form.scaled(Fraction(-1)) if code % 2 else form)
        try:
            return self._code(self._applied(template, inner))
        except HARD:
            return None

    def _applied(self, template: Expression, inner: Sequence[Form]) -> Form:
        known = self._leaves | {placeholder(n): form for n, form in enumerate(inner)}
        for node in _nodes(template):
            if node in known:
                continue
            if isinstance(node, Apply):
                known[node] = apply_form(node.operator.name, *(known[a] for a in node.arguments))
            else:
                known[node] = form_of(node)
        found = known[template]
        if len(found.terms) > _LARGEST_FORM:
            raise TooLarge
        return found


@cache
def _nodes(template: Expression) -> tuple[Expression, ...]:
    """What a production is made of, operands first."""
    return tuple(template.postorder())
