"""The partition of a space too large to be visited name by name: 75,000,000 names in a minute.

Sub-terms are partitioned first, and each class of them is used once (congruence). The terms of the
last step are streamed through: two float keys of each are kept, terms with equal keys are compared
at a second, wider pool of points. Merges of the last step rest on floats until they are audited
(`audit`), and are reported as unproved until then; classes keep exact counts of their members, and
enumerate them on demand.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.equivalence import streams
from actsearch.equivalence.batches import Floats, crossings, grouped, placeholder, points
from actsearch.equivalence.refinement import WideValues, refined
from actsearch.equivalence.streams import Arm, Job
from actsearch.equivalence.term_tables import Place, Shape, Term, TermTable
from actsearch.equivalence.terms import PARAMETER, TermBuilder
from actsearch.grammar.errors import SpaceError
from actsearch.grammar.expression import Expression
from actsearch.grammar.language import parse
from actsearch.grammar.search_space import SearchSpace

LARGEST = 200_000_000
"""Terms of the last step that are partitioned; each takes 20 bytes."""
POOL = (64, 0.05, 1.6)
_WIDE_POOL = (2e-8, 12.0)
_FEW = 3_000_000  # terms of the last step that are compared at many points
_FEW_POINTS, _MANY_POINTS = 128, 1024
_REPRESENTED = 300

Ints = NDArray[Any]


@dataclass(eq=False)
class Partition:
    """Classes of a space whose holes are one parameter, by their terms of the last step.

    A row is such a term: arm · (classes of the large table) + class of the large table.

    Attributes:
        space: the space.
        builder: the tables of the sub-terms.
        prefix: productions that lead from the start to the terms of the last step.
        shapes: the shapes of these.
        arms: their arms.
        big: the large table.
        numbers: the class of each row.
        roots: the first row of each class.
        seconds: how long it took.
        history: (what, seconds) of its stages.
    """

    space: SearchSpace
    builder: TermBuilder
    prefix: tuple[int, ...]
    shapes: tuple[Shape, ...]
    arms: tuple[Arm, ...]
    big: TermTable
    numbers: Ints
    roots: Ints
    seconds: float = 0.0
    history: tuple[tuple[str, float], ...] = ()

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.roots)

    def __len__(self) -> int:
        return self.count

    @cached_property
    def counts(self) -> Ints:
        """For each class its number of names, exactly."""
        total = np.zeros(self.count, dtype=np.int64)
        width = len(self.big)
        ways = np.array(self.big.counts, dtype=np.int64)
        for number, arm in enumerate(self.arms):
            weight = arm.weight * self._ways(arm)
            own = self.numbers[number * width : (number + 1) * width]
            np.add.at(total, own, weight * ways)
        return total

    def _ways(self, arm: Arm) -> int:
        ways = 1
        for place, chosen in zip(self.shapes[arm.shape].places, arm.others, strict=True):
            if chosen is not None:
                ways *= self.builder.table(place).counts[chosen]
        return ways

    def term(self, row: int) -> Term:
        """The term of a row: number of the shape, and the classes of its children."""
        number, chosen = divmod(int(row), len(self.big))
        arm = self.arms[number]
        return arm.shape, tuple(chosen if other is None else other for other in arm.others)

    def varies(self, row: int) -> bool:
        """Whether the parameter is anywhere in the term of a row."""
        shape, children = self.term(row)
        production, places = self.shapes[shape].production, self.shapes[shape].places
        return PARAMETER in self.builder.template(production).parameters or any(
            self.builder.varies(p, c) for p, c in zip(places, children, strict=True)
        )

    def expression(self, row: int) -> Expression:
        """The function of a row: its production over normal forms of sub-terms."""
        shape, children = self.term(row)
        forms: dict[Expression, Expression] = {
            placeholder(number): self.builder.form_of(self.builder.table(place), chosen)
            for number, (place, chosen) in enumerate(
                zip(self.shapes[shape].places, children, strict=True)
            )
        }
        return self.builder.template(self.shapes[shape].production).substitute(forms)

    def class_of(self, candidate: int | str) -> int:
        """The class of a name, given by its index or its text.

        Raises:
            SpaceError: it is no name of the space.
        """
        index = candidate if isinstance(candidate, int) else self.space.index(candidate)
        return int(self.numbers[self.row_of(index)])

    def row_of(self, index: int) -> int:
        """The row of the term that a name is built by."""
        steps = self.space.derivation(index).steps[len(self.prefix) :]
        done: list[tuple[Place, int]] = []
        shape = 0
        children: tuple[int, ...] = ()
        for place in range(len(steps) - 1, -1, -1):
            production = self.space.grammar.productions[steps[place]]
            parts = [done.pop() for _ in production.children]
            children = tuple(number for _, number in parts)
            sizes = tuple(where[1] for where, _ in parts)
            where = production.rule, production.units + sum(sizes)
            if place == 0:
                shape = self._shape(self.shapes, production.number, sizes)
            else:
                table = self.builder.table(where)
                own = self._shape(table.shapes, production.number, sizes)
                done.append((where, int(table.numbers[own][children])))
        return self._row(shape, children)

    def _shape(self, shapes: Sequence[Shape], production: int, sizes: tuple[int, ...]) -> int:
        return next(
            number
            for number, shape in enumerate(shapes)
            if shape.production.number == production and shape.sizes == sizes
        )

    @cached_property
    def _arm_numbers(self) -> dict[tuple[int, tuple[int | None, ...]], int]:
        return {(arm.shape, arm.others): number for number, arm in enumerate(self.arms)}

    def _row(self, shape: int, children: tuple[int, ...]) -> int:
        free = self.shapes[shape].places.index(self.big.place)
        others = tuple(None if n == free else child for n, child in enumerate(children))
        number = self._arm_numbers.get((shape, others))
        if number is None:  # the mirror image of an arm
            twin = self._shape(
                self.shapes,
                self.shapes[shape].production.number,
                self.shapes[shape].sizes[::-1],
            )
            return self._row(twin, children[::-1])
        return number * len(self.big) + children[free]

    def members(self, number: int) -> Iterator[int]:
        """The indices of a class's names, one by one, in no particular order.

        Raises:
            KeyError: no such class.
        """
        if not 0 <= number < self.count:
            raise KeyError(f"classes are numbered 0 to {self.count - 1}")
        for row in np.flatnonzero(self.numbers == number):
            shape, children = self.term(int(row))
            arm = self.arms[int(row) // len(self.big)]
            for steps in self._derivations(self.shapes[shape], children):
                yield self.space.table.rank(self.prefix + steps)
            if arm.weight == 2:
                sizes = self.shapes[shape].sizes[::-1]
                production = self.shapes[shape].production
                twin = self.shapes[self._shape(self.shapes, production.number, sizes)]
                for steps in self._derivations(twin, children[::-1]):
                    yield self.space.table.rank(self.prefix + steps)

    def _derivations(self, shape: Shape, children: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        parts = [
            list(self._terms(place, child))
            for place, child in zip(shape.places, children, strict=True)
        ]
        for chosen in itertools.product(*parts):
            yield (shape.production.number, *itertools.chain.from_iterable(chosen))

    def _terms(self, place: Place, number: int) -> Iterator[tuple[int, ...]]:
        """All derivations of a class of sub-terms."""
        table = self.builder.table(place)
        for shape, numbers in zip(table.shapes, table.numbers, strict=True):
            for children in np.argwhere(numbers == number):
                yield from self._derivations(shape, tuple(int(child) for child in children))

    def representative(self, number: int) -> str:
        """The cheapest, then shortest, of a class's first names."""
        names = (self.space[i] for i in itertools.islice(self.members(number), _REPRESENTED))
        return min(names, key=lambda text: (parse(text).cost, len(text), text))

    def split(self, rows: Ints, labels: Ints) -> None:
        """Take rows out of their classes; those with the same label stay together."""
        order = np.lexsort((rows, labels))
        begins = np.diff(labels[order], prepend=-1) != 0
        fresh = self.count + np.cumsum(begins) - 1
        self.numbers[rows[order]] = fresh.astype(self.numbers.dtype)
        self.roots = np.concatenate([self.roots, rows[order][begins]])
        self.__dict__.pop("counts", None)

    def links(self, since: int = 0) -> tuple[Ints, Ints]:
        """The merges of the last step, in classes from `since` on: a first row, and another one."""
        other = self.roots[self.numbers] != np.arange(len(self.numbers))
        rows = np.flatnonzero(other & (self.numbers >= since) if since else other)
        return self.roots[self.numbers[rows]], rows

    def table_links(self) -> list[tuple[TermTable, int]]:
        """The merges of sub-terms: the table and the number of the link in it."""
        return [
            (table, number)
            for table in self.builder.tables.values()
            for number in range(len(table.links))
        ]

    @property
    def has_open_terms(self) -> bool:
        """Whether some merge of sub-terms is neither proved nor certified."""
        return any(table.links[n][2].kind == "unproved" for table, n in self.table_links())

    def summary(self) -> dict[str, Any]:
        """Counts; merges of the last step count as unproved until they are audited."""
        sub = [link[2].kind for table, n in self.table_links() for link in [table.links[n]]]
        merges = len(self.numbers) - self.count
        return {
            "level": "function",
            "parameters": "shared",
            "candidates": self.space.count(),
            "classes": self.count,
            "terms": len(self.numbers),
            "merges": merges,
            "sub_term_merges": len(sub),
            "proved": sub.count("proved"),
            "certified": sub.count("certified"),
            "unproved": sub.count("unproved") + merges,
            "largest": np.sort(self.counts)[::-1][:5].tolist(),
            "seconds": round(self.seconds, 1),
        }


def partition(
    space: SearchSpace,
    processes: int = 2,
    progress: Callable[[str], object] = lambda _: None,
    seed: int = 0,
    folder: str | Path | None = None,
    splits: Iterable[tuple[Place, Term, Term]] = (),
) -> Partition:
    """Partition a space whose holes are one parameter.

    Args:
        space: of which all but the last step is small (400,000 terms), and one child of the last
            step large: the `swish` space with two units has 30,000,000 terms of the last step.
        processes: that compute keys.
        progress: called with a line about each stage.
        seed: another seed, other points.
        splits: pairs of sub-terms that an audit has told apart, by place.
        folder: for scratch files (800 MB for the `swish` space with two units).

    Raises:
        SpaceError: holes are independent, the grammar does not compose, or it is too large.
    """
    if space.parameters != "shared":
        raise SpaceError('only a space with parameters="shared" is partitioned by congruence')
    clock = _Clock(progress)
    builder = TermBuilder(space, points(*POOL, seed), progress)
    builder.splits.update(splits)
    builder.check()
    prefix, place = _below(builder)
    shapes = builder.shapes(place)
    if not shapes:
        raise SpaceError(f"the space {space.name!r} has no term of the last step")
    big = _largest(builder, shapes)
    clock.done("sub-terms")
    arms = streams.arms_of(builder, shapes, big.place)
    if len(arms) * len(big) > LARGEST:
        raise SpaceError(
            f"{len(arms) * len(big):,} terms are too many to be partitioned; at most {LARGEST:,}"
        )
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        job = _job(builder, shapes, arms, big, scratch)
        streams.run(job, processes)
        clock.done(f"keys of {len(arms) * len(big):,} terms")
        first, second = (
            np.load(Path(scratch) / f"{name}.npy", mmap_mode="r").reshape(-1)
            for name in ("first", "second")
        )
        order, begins = grouped(first, second)
        del first, second
    clock.done("grouping")
    number = _FEW_POINTS if len(order) > _FEW else _MANY_POINTS
    pool = points(number, *_WIDE_POOL, seed + 1, (0.03, 9.0))
    wide = WideValues(builder, shapes, arms, big, pool)
    order, begins = refined(wide, order, begins, processes)
    numbers, roots = _numbered(order, begins)
    clock.done("comparison at more points")
    return Partition(
        space,
        builder,
        prefix,
        tuple(shapes),
        tuple(arms),
        big,
        numbers,
        roots,
        clock.total,
        tuple(clock.history),
    )


def sharpen(found: Partition, pools: int = 8, seed: int = 0, threads: int = 2) -> int:
    """Compare the merges of the last step at more points, and split what differs.

    Each pool has 128 points of all sizes, and 128 where functions tend to cross. Floats split, so
    nothing is proved by it: it makes false merges rare before balls are spent.

    Returns:
        How many classes there are more, in place.
    """
    before = found.count
    order = np.argsort(found.numbers, kind="stable").astype(np.int64)
    begins = np.diff(found.numbers[order], prepend=-1) != 0
    for number in range(pools):
        own = seed + 1000 + number
        for pool in (
            points(_FEW_POINTS, 1e-8, 60.0, own, (0.01, 12.0)),
            crossings(_FEW_POINTS, own),
        ):
            wide = WideValues(found.builder, found.shapes, found.arms, found.big, pool)
            order, begins = refined(wide, order, begins, threads)
    found.numbers, found.roots = _numbered(order, begins)
    found.__dict__.pop("counts", None)
    return found.count - before


def neighbours(
    found: Partition, count: int, seed: int = 0, processes: int = 1
) -> list[tuple[int, int]]:
    """Rows of different classes with neighbouring keys: of `50·count` random places the nearest.

    Takes as long as the keys of a partition.
    """
    builder = found.builder
    for place in {place for shape in found.shapes for place in shape.places}:
        table = builder.table(place)
        if not len(table.values):  # of a partition that was read from a file
            table.values = builder.values_at(table, builder.pool).astype(np.longdouble)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        job = _job(builder, found.shapes, found.arms, found.big, scratch)
        streams.run(job, processes)
        keys = np.load(Path(scratch) / "first.npy", mmap_mode="r").reshape(-1)
        own = np.asarray(keys[found.roots])
    order = np.argsort(own)
    rng = np.random.default_rng(seed)
    places = np.unique(rng.integers(0, max(1, len(order) - 1), _NEAR * count))
    places = places[: len(order) - 1]
    gaps = own[order[places + 1]] - own[order[places]] if len(order) > 1 else np.empty(0)
    nearest = places[np.argsort(gaps, kind="stable")[:count]] if len(order) > 1 else ()
    return [(int(found.roots[order[p]]), int(found.roots[order[p + 1]])) for p in nearest]


_NEAR = 50


class _Clock:
    """Tells how long each stage took."""

    def __init__(self, progress: Callable[[str], object]) -> None:
        self._progress = progress
        self._start = self._last = time.perf_counter()
        self.history: list[tuple[str, float]] = []

    @property
    def total(self) -> float:
        return time.perf_counter() - self._start

    def done(self, what: str) -> None:
        now = time.perf_counter()
        self.history.append((what, round(now - self._last, 1)))
        self._progress(f"{what}: {now - self._last:.1f} s")
        self._last = now


def _below(builder: TermBuilder) -> tuple[tuple[int, ...], Place]:
    """From the start past productions that only hand on, to where terms are made."""
    prefix: tuple[int, ...] = ()
    place: Place = (0, builder.space.units or 0)
    while True:
        shapes = builder.shapes(place)
        if len(shapes) != 1 or builder.template(shapes[0].production) is not placeholder(0):
            return prefix, place
        prefix += (shapes[0].production.number,)
        place = shapes[0].places[0]


def _largest(builder: TermBuilder, shapes: Sequence[Shape]) -> TermTable:
    """The table that the terms of the last step have one class of each."""
    tables = {place: builder.table(place) for shape in shapes for place in shape.places}
    if not tables:
        raise SpaceError("the terms of the last step have no sub-terms")
    big = max(tables.values(), key=len)
    if any(shape.places.count(big.place) != 1 for shape in shapes):
        raise SpaceError("each term of the last step must have just one sub-term of the large kind")
    return big


def _job(
    builder: TermBuilder,
    shapes: Sequence[Shape],
    arms: Sequence[Arm],
    big: TermTable,
    folder: str,
) -> Job:
    # Half of the points will do: the time goes into them, and what they take for equal is compared
    # at more points in any case. Every other four, so that the pool stays closed under signs.
    kept = np.flatnonzero(np.arange(len(builder.pool)) // 4 % 2)

    def save(name: str, array: Floats) -> str:
        np.save(Path(folder) / f"{name}.npy", array)
        return name

    save("big", big.values[:, kept])
    save("weights", builder.pool.weights[kept])
    for name, values in builder.leaves.items():
        save(f"leaf_{name}", values[:, kept])
    names: dict[Place, str] = {}
    for shape in shapes:
        for place in shape.places:
            if place != big.place and place not in names:
                names[place] = save(f"table_{len(names)}", builder.table(place).values[:, kept])
    small = tuple(
        tuple(
            None if chosen is None else names[place]
            for place, chosen in zip(shapes[arm.shape].places, arm.others, strict=True)
        )
        for arm in arms
    )
    return Job(folder, tuple(arms), small, len(big))


def _numbered(order: Ints, begins: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Class numbers in order of the classes' first rows, and these rows."""
    places = np.flatnonzero(~begins | ~np.append(begins[1:], True))  # of groups of several rows
    is_root = np.ones(len(order), dtype=bool)
    rows, starts = order[places], np.flatnonzero(begins[places])
    if len(rows):
        roots = np.minimum.reduceat(rows, starts)
        roots = np.repeat(roots, np.diff(np.append(starts, len(rows))))
        is_root[rows[rows != roots]] = False
    numbers = np.cumsum(is_root, dtype=np.int32)
    numbers -= 1
    if len(rows):
        numbers[rows] = numbers[roots]
    return numbers, np.flatnonzero(is_root)
