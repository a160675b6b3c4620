"""Classes of sub-terms, bottom-up: a rule of a grammar with a number of units, each class once.

A term is a production over classes of smaller terms. Replacing a sub-term by an equal one changes
no function (congruence), so only one member of each class is ever built upon. Holes are the one
parameter β here: as parameters of their own they would be renamed apart in every copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from actsearch.equivalence.batches import (
    Floats,
    Points,
    evaluate_rows,
    grouped,
    keys,
    placeholder,
    points,
)
from actsearch.equivalence.certificate import Certificate, Deadline, decide, differ_at
from actsearch.equivalence.holes import SHARED_NAME, with_holes
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.term_tables import Place, Shape, Term, TermTable
from actsearch.grammar.errors import SpaceError
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import parse
from actsearch.grammar.sentence import render
from actsearch.grammar.space_grammar import Production

if TYPE_CHECKING:
    from actsearch.grammar.search_space import SearchSpace

LARGEST_TABLE = 400_000
"""Terms of a table, before merging, that are kept with their values."""
LARGEST_CERTIFIED = 20_000
"""Terms of a table whose links are certified at once; those of larger ones wait for the audit."""
PENDING = Certificate("unproved", "floats")
"""Of a link that agrees at every point looked at, and that is still to be certified."""
PARAMETER = Parameter(SHARED_NAME)
"""The one parameter that all holes are."""
NOTHING: Mapping[int, int] = {}
_CHUNK = 4096
_FINE = 2048
_MAX_SUSPICIONS = 8
_MAX_COMPARED = 2
_SECONDS = 10.0
_MEMO_SIZE = 4_000


class TermBuilder:
    """Builds the tables of a space, each from smaller ones.

    Args:
        space: the space; its holes count as one parameter.
        pool: where values are taken.
        progress: called with a line about what is done.
    """

    def __init__(
        self,
        space: SearchSpace,
        pool: Points,
        progress: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.space = space
        self.grammar = space.grammar
        self.pool = pool
        self._progress = progress
        self.splits: set[tuple[Place, Term, Term]] = set()
        self._fine_tables: dict[Place, Floats] = {}
        self._fine = points(_FINE, 1e-9, 40.0, pool.seed + 1, (0.05, 6.0))
        self._fine_leaves = self._fine.leaves(np.float64)
        self._fine_memo: Memo[Expression, Floats] = Memo(_MEMO_SIZE)
        self.tables: dict[Place, TermTable] = {}
        self._templates: dict[int, Expression] = {}
        self._varying: dict[tuple[Place, int], bool] = {}

    @cached_property
    def leaves(self) -> dict[str, Floats]:
        """Values of `x` and β at the pool."""
        return self.pool.leaves()

    def template(self, production: Production) -> Expression:
        """A production as an expression over placeholders for its children."""
        known = self._templates.get(production.number)
        if known is None:
            names = (placeholder(number).name for number in itertools.count())
            tokens = [s if isinstance(s, str) else next(names) for s in production.symbols]
            known = _plain(with_holes(parse(render(tokens)), "shared"))
            self._templates[production.number] = known
        return known

    def varies(self, place: Place, number: int) -> bool:
        """Whether the parameter occurs in a class of sub-terms, as it is first written."""
        known = self._varying.get((place, number))
        if known is None:
            shape, children = self.table(place).firsts[number]
            own = self.table(place).shapes[shape]
            known = PARAMETER in self.template(own.production).parameters or any(
                self.varies(below, child) for below, child in zip(own.places, children, strict=True)
            )
            self._varying[place, number] = known
        return known

    def shapes(self, place: Place) -> tuple[Shape, ...]:
        """How the terms of a place are made."""
        rule, units = place
        found = []
        for production in self.grammar.alternatives_of(rule):
            rest = units - production.units
            for sizes in itertools.product(range(rest + 1), repeat=len(production.children)):
                shape = Shape(production, sizes)
                if sum(sizes) == rest and all(
                    self.space.table.count(*child) for child in shape.places
                ):
                    found.append(shape)
        return tuple(found)

    def table(self, place: Place) -> TermTable:
        """The classes of a place.

        Raises:
            SpaceError: too many terms to be kept.
        """
        if place not in self.tables:
            self.tables[place] = self._build(place)
        return self.tables[place]

    def values_at(self, table: TermTable, pool: Points) -> Floats:
        """The values of a table's classes at another pool, float64."""
        leaves = pool.leaves(np.longdouble)
        known: dict[Place, Floats] = {}
        for place in self.needed(table.place):
            other = self.table(place)
            values = np.empty((len(other), len(pool)), dtype=np.longdouble)
            shapes = np.array([shape for shape, _ in other.firsts])
            for number in np.unique(shapes):
                shape = other.shapes[number]
                where = np.flatnonzero(shapes == number)
                for start in range(0, len(where), _CHUNK):
                    rows = where[start : start + _CHUNK]
                    given = dict(leaves)
                    for child, below in enumerate(shape.places):
                        picked = [other.firsts[row][1][child] for row in rows]
                        given[placeholder(child).name] = known[below][picked]
                    with np.errstate(all="ignore"):
                        template = self.template(shape.production)
                        values[rows] = evaluate_rows(template, given, {})
            known[place] = values
        with np.errstate(over="ignore"):
            return known[table.place].astype(np.float64)

    def needed(self, place: Place) -> list[Place]:
        """The places that a table is built from, each after those it needs."""
        found: list[Place] = []
        stack = [(place, False)]
        while stack:
            current, expanded = stack.pop()
            if current in found:
                continue
            if expanded:
                found.append(current)
            else:
                stack.append((current, True))
                below = (child for s in self.table(current).shapes for child in s.places)
                stack.extend((child, False) for child in dict.fromkeys(below))
        return found

    def size(self, shape: Shape) -> int:
        """Number of terms of a shape."""
        size = 1
        for child in shape.places:
            size *= len(self.table(child))
        return size

    def _build(self, place: Place) -> TermTable:
        shapes = self.shapes(place)
        sizes = [self.size(shape) for shape in shapes]
        if sum(sizes) > LARGEST_TABLE:
            name = self.grammar.rules[place[0]]
            raise SpaceError(
                f"{sum(sizes):,} terms {name!r} with {place[1]} units are too many to be kept; "
                f"at most {LARGEST_TABLE:,} are"
            )
        rows = np.concatenate([self._values(shape) for shape in shapes])
        both = keys(rows, self.pool.weights)
        order, begins = grouped(both[:, 0], both[:, 1])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        table = TermTable(place, shapes, [], [], [])
        numbers = np.full(len(rows), -1, dtype=np.int64)
        anchors: list[int] = []
        groups = list(_groups(order, begins))
        agreeing = (
            self._agreeing(table, groups, starts) if len(rows) > LARGEST_CERTIFIED else NOTHING
        )
        for members in groups:
            self._settle(table, members, starts, numbers, anchors, agreeing)
        self._number(table, numbers, anchors, starts)
        table.values = rows[[anchors[number] for number in self._order]]
        merged = len(rows) - len(table)
        name = self.grammar.rules[place[0]]
        self._progress(f"{name}, {place[1]} units: {len(rows)} terms, {merged} merged")
        return table

    def _values(self, shape: Shape) -> Floats:
        """The values of all terms of a shape, in the order of `itertools.product`."""
        template = self.template(shape.production)
        tables = [self.table(child) for child in shape.places]
        count = self.size(shape)
        found = np.empty((count, len(self.pool)), dtype=np.longdouble)
        dims = [len(table) for table in tables]
        with np.errstate(all="ignore"):
            for start in range(0, count, _CHUNK):
                places = np.arange(start, min(start + _CHUNK, count))
                children = np.unravel_index(places, dims) if dims else ()
                values = dict(self.leaves)
                for number, (table, rows) in enumerate(zip(tables, children, strict=True)):
                    values[placeholder(number).name] = table.values[rows]
                found[places] = evaluate_rows(template, values, {})
        return found

    def term(self, table: TermTable, row: int, starts: np.ndarray[Any, Any]) -> Term:
        """The term with a number."""
        shape = int(np.searchsorted(starts, row, side="right")) - 1
        dims = [len(self.table(child)) for child in table.shapes[shape].places]
        inside = np.unravel_index(row - int(starts[shape]), dims) if dims else ()
        return shape, tuple(int(i) for i in inside)

    def form(self, table: TermTable, term: Term) -> Expression:
        """An expression of a term's function: the production over the children's normal forms."""
        shape = table.shapes[term[0]]
        children = (
            self.form_of(self.table(place), number)
            for place, number in zip(shape.places, term[1], strict=True)
        )
        return self.template(shape.production).substitute(
            {placeholder(number): child for number, child in enumerate(children)}
        )

    def form_of(self, table: TermTable, number: int) -> Expression:
        """The function of a class, in normal form."""
        known = table.forms.get(number)
        if known is None:
            known = table.forms[number] = normal_form(self.form(table, table.firsts[number]))
        return known

    def _settle(
        self,
        table: TermTable,
        members: Sequence[int],
        starts: np.ndarray[Any, Any],
        numbers: np.ndarray[Any, Any],
        anchors: list[int],
        agreeing: Mapping[int, int],
    ) -> None:
        """Split what lies together into classes, with a certificate for each link."""
        opened: list[tuple[int, Term, Expression]] = []
        known: dict[Expression, tuple[int, Term]] = {}
        for row in members:
            first = agreeing.get(row)
            if first is not None:
                term, other = self.term(table, row, starts), self.term(table, first, starts)
                if (table.place, other, term) not in self.splits:
                    table.links.append((other, term, PENDING))
                    numbers[row] = numbers[first]
                    continue
            if len(members) > 1 and (agreeing is NOTHING or first is not None):
                term = self.term(table, row, starts)
                form = normal_form(self.form(table, term))
                link = self._link(form, known, opened)
                if link is not None:
                    number, other, certificate = link
                    known.setdefault(form, (number, term))
                    table.links.append((other, term, certificate))
                    numbers[row] = number
                    continue
                known[form] = len(anchors), term
                opened.append((len(anchors), term, form))
            numbers[row] = len(anchors)
            anchors.append(row)

    def _agreeing(
        self, table: TermTable, groups: Sequence[Sequence[int]], starts: np.ndarray[Any, Any]
    ) -> dict[int, int]:
        """For each term that agrees at a fine pool with an earlier one of its group: that one."""
        found: dict[int, int] = {}
        several = [members for members in groups if len(members) > 1]
        while several:
            taken = [several.pop()]
            while several and sum(map(len, taken)) < _CHUNK // 4:
                taken.append(several.pop())
            rows = np.array([row for members in taken for row in members])
            values = self._fine_rows(table, rows, starts)
            begin = 0
            for members in taken:
                own = values[begin : begin + len(members)]
                begin += len(members)
                self._match(table, members, own, starts, found)
        return found

    def _match(
        self,
        table: TermTable,
        members: Sequence[int],
        values: Floats,
        starts: np.ndarray[Any, Any],
        found: dict[int, int],
    ) -> None:
        """`_agreeing` for one group: each round settles what agrees with the first that is left."""
        left = np.arange(len(members))
        anchors: list[int] = []
        while len(left):
            first = int(left[0])
            same = ~_suspicious(values[first], values[left]).any(axis=1)
            for earlier in anchors[:_MAX_COMPARED]:  # floats may differ where functions do not
                terms = [self.term(table, members[i], starts) for i in (earlier, first)]
                forms = [normal_form(self.form(table, term)) for term in terms]
                places = np.flatnonzero(_suspicious(values[earlier], values[first]))
                if not self._apart(forms[0], forms[1], places):
                    found.update((members[i], members[earlier]) for i in left[same])
                    break
            else:
                found.update((members[i], members[first]) for i in left[same] if i != first)
                anchors.append(first)
            left = left[~same]

    def _fine_rows(
        self, table: TermTable, rows: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]
    ) -> Floats:
        """The values of some terms at the fine pool, float64."""
        values = np.empty((len(rows), len(self._fine)))
        shapes = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(shapes):
            shape = table.shapes[number]
            where = np.flatnonzero(shapes == number)
            tables = [self.table(child) for child in shape.places]
            inside = rows[where] - starts[number]
            children = np.unravel_index(inside, [len(child) for child in tables]) if tables else ()
            given = dict(self._fine_leaves)
            for child, (other, picked) in enumerate(zip(tables, children, strict=True)):
                given[placeholder(child).name] = self._fine_table(other)[picked]
            with np.errstate(all="ignore"):
                values[where] = evaluate_rows(self.template(shape.production), given, {})
        return values

    def _fine_table(self, table: TermTable) -> Floats:
        """The values of the classes of a small table at the fine pool."""
        known = self._fine_tables.get(table.place)
        if known is None:
            forms = (self.form_of(table, number) for number in range(len(table)))
            known = np.array([self._fine_values(form) for form in forms])
            self._fine_tables[table.place] = known
        return known

    def _link(
        self,
        form: Expression,
        known: dict[Expression, tuple[int, Term]],
        opened: list[tuple[int, Term, Expression]],
    ) -> tuple[int, Term, Certificate] | None:
        """The class, among those with nearly equal keys, that a function belongs to."""
        if form in known:
            return *known[form], Certificate("proved", "normal form")
        for number, other, anchor in opened:
            if not self._agree(anchor, form):
                continue
            decision = decide(anchor, form, ({},), Deadline(_SECONDS))
            if isinstance(decision, Certificate):
                return number, other, decision
        return None

    def _agree(self, a: Expression, b: Expression) -> bool:
        """Whether nothing tells two functions apart at many points; where floats do, balls must."""
        suspicious = _suspicious(self._fine_values(a), self._fine_values(b))
        return not self._apart(a, b, np.flatnonzero(suspicious))

    def _apart(self, a: Expression, b: Expression, places: np.ndarray[Any, Any]) -> bool:
        """Whether balls tell two functions apart at one of some points of the fine pool."""
        for place in places[:_MAX_SUSPICIONS]:
            values = {"x": self._fine.x[place], SHARED_NAME: self._fine.beta[place]}
            if differ_at(a, b, values):
                return True
        return False

    def _fine_values(self, form: Expression) -> Floats:
        self._fine_memo.make_room()
        known = self._fine_memo.get(form)
        if known is None:
            with np.errstate(all="ignore"):
                found = evaluate_rows(form, self._fine_leaves, {})
            shape = (len(self._fine),)
            known = self._fine_memo[form] = np.broadcast_to(found.reshape(-1), shape)
        return known

    def _number(
        self,
        table: TermTable,
        numbers: np.ndarray[Any, Any],
        anchors: list[int],
        starts: np.ndarray[Any, Any],
    ) -> None:
        """Number the classes in order of their first terms, and count their sentences."""
        self._order = sorted(range(len(anchors)), key=anchors.__getitem__)
        rank = np.empty(len(anchors), dtype=np.int64)
        rank[self._order] = np.arange(len(anchors))
        numbers[:] = rank[numbers]
        counts = [0] * len(anchors)
        for place, shape in enumerate(table.shapes):
            tables = [self.table(child) for child in shape.places]
            own = numbers[starts[place] : starts[place + 1]]
            table.numbers.append(own.reshape([len(child) for child in tables]))
            for number, ways in zip(own.tolist(), _products(tables), strict=True):
                counts[number] += ways
        table.counts = counts
        table.firsts = [self.term(table, anchors[old], starts) for old in self._order]

    def check(self, sample: int = 100) -> None:
        """Whether the grammar composes: a sentence means what its parts mean.

        Raises:
            SpaceError: it does not (`x + 1` put into `term "*" term` without parentheses).
        """
        for index in dict.fromkeys(self.space.sample_indices(sample, 0)):
            derivation = self.space.derivation(index)
            stack: list[Expression] = []
            for number in reversed(derivation.steps):
                production = self.grammar.productions[number]
                parts: dict[Expression, Expression] = {
                    placeholder(i): stack.pop() for i in range(len(production.children))
                }
                stack.append(self.template(production).substitute(parts))
            if stack[0] is not _plain(with_holes(parse(derivation.sentence), "shared")):
                raise SpaceError(
                    f"the sentence {derivation.sentence!r} does not mean what its parts mean: put "
                    "the operands of the grammar's operators in parentheses"
                )


def _plain(expression: Expression) -> Expression:
    return expression.substitute({p: Parameter(p.name) for p in expression.parameters})


def _suspicious(first: Floats, second: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where floats differ by more than rounding explains; infinite ones explain anything."""
    with np.errstate(all="ignore"):
        error = np.abs(first - second) > 1e-9 * np.maximum(1, np.abs(first))
    unclear = np.isinf(first) | np.isinf(second)
    return np.asarray((error | (np.isnan(first) != np.isnan(second))) & ~unclear)


def _groups(order: np.ndarray[Any, Any], begins: np.ndarray[Any, Any]) -> Iterator[list[int]]:
    """The groups of `grouped`, the members of each in ascending order."""
    starts = np.flatnonzero(begins)
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        yield sorted(order[start:end].tolist())


def _products(tables: Sequence[TermTable]) -> Iterator[int]:
    """How many sentences each combination of child classes has."""
    for counts in itertools.product(*(table.counts for table in tables)):
        ways = 1
        for count in counts:
            ways *= count
        yield ways
