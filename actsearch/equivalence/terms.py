"""Classes of sub-terms, bottom-up: a rule of a grammar with a number of units, each class once.

A term is a production over classes of smaller terms. Replacing a sub-term by an equal one changes
no function (congruence), so only one member of each class is ever built upon. Holes are the one
parameter β here: as parameters of their own they would be renamed apart in every copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
)
from actsearch.equivalence.certificate import Certificate, Deadline, Unknown, decide
from actsearch.equivalence.holes import with_holes
from actsearch.equivalence.normal_form import normal_form
from actsearch.grammar.errors import SpaceError
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import parse
from actsearch.grammar.sentence import render
from actsearch.grammar.space_grammar import Production

if TYPE_CHECKING:
    from actsearch.grammar.search_space import SearchSpace

LARGEST_TABLE = 400_000
"""Terms of a table, before merging, that are kept with their values."""
_CHUNK = 4096
_SECONDS = 10.0

Place = tuple[int, int]
"""A rule and a number of units."""


@dataclass(frozen=True)
class Shape:
    """A production with the number of units of each child: what terms are made from."""

    production: Production
    sizes: tuple[int, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Rule and units of each child."""
        return tuple(zip(self.production.children, self.sizes, strict=True))


@dataclass(eq=False)
class TermTable:
    """The classes of the terms that a rule derives with a number of units.

    Attributes:
        place: the rule and the number of units.
        shapes: how the terms are made.
        numbers: for each shape an array, child class × child class …, of the terms' classes.
        firsts: for each class its first term: shape and child classes.
        forms: for each class an expression of that function, in normal form.
        counts: for each class how many sentences it has.
        links: the certified links (term, term, certificate); a term is a shape and child classes.
        doubts: links that could not be settled; the terms are kept apart.
        values: for each class its values at the pool, longdouble.
    """

    place: Place
    shapes: tuple[Shape, ...]
    numbers: list[np.ndarray[Any, np.dtype[np.int64]]]
    firsts: list[tuple[int, tuple[int, ...]]]
    forms: list[Expression]
    counts: list[int]
    links: list[tuple[Term, Term, Certificate]] = field(default_factory=list)
    doubts: list[tuple[Term, Term, str]] = field(default_factory=list)
    values: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.firsts)


Term = tuple[int, tuple[int, ...]]
"""Number of a shape, and the classes of its children."""


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
        self._tables: dict[Place, TermTable] = {}
        self._templates: dict[int, Expression] = {}

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
        if place not in self._tables:
            self._tables[place] = self._build(place)
        return self._tables[place]

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
        table = TermTable(place, shapes, [], [], [], [])
        numbers = np.full(len(rows), -1, dtype=np.int64)
        anchors: list[int] = []
        for members in _groups(order, begins):
            self._settle(table, members, starts, numbers, anchors)
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
            self.table(place).forms[number]
            for place, number in zip(shape.places, term[1], strict=True)
        )
        return self.template(shape.production).substitute(
            {placeholder(number): child for number, child in enumerate(children)}
        )

    def _settle(
        self,
        table: TermTable,
        members: Sequence[int],
        starts: np.ndarray[Any, Any],
        numbers: np.ndarray[Any, Any],
        anchors: list[int],
    ) -> None:
        """Split what lies together into classes, with a certificate for each link."""
        if len(members) == 1:
            numbers[members[0]] = len(anchors)
            anchors.append(members[0])
            return
        opened: list[tuple[int, Term, Expression]] = []
        for row in members:
            term = self.term(table, row, starts)
            form = normal_form(self.form(table, term))
            for number, other, anchor in opened:
                decision = decide(anchor, form, ({},), Deadline(_SECONDS))
                if isinstance(decision, Certificate):
                    table.links.append((other, term, decision))
                    numbers[row] = number
                    break
                if isinstance(decision, Unknown):
                    table.doubts.append((other, term, decision.reason))
            else:
                numbers[row] = len(anchors)
                opened.append((len(anchors), term, form))
                anchors.append(row)

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
        table.forms = [normal_form(self.form(table, term)) for term in table.firsts]

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
                parts = {placeholder(i): stack.pop() for i in range(len(production.children))}
                stack.append(self.template(production).substitute(parts))
            if stack[0] is not _plain(with_holes(parse(derivation.sentence), "shared")):
                raise SpaceError(
                    f"the sentence {derivation.sentence!r} does not mean what its parts mean: put "
                    "the operands of the grammar's operators in parentheses"
                )


def _plain(expression: Expression) -> Expression:
    return expression.substitute({p: Parameter(p.name) for p in expression.parameters})


def _groups(
    order: np.ndarray[Any, Any], begins: np.ndarray[Any, Any]
) -> Iterator[list[int]]:
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
