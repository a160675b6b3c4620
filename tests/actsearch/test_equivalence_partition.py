"""Partitions by congruence: against brute force on a closed space, saved, audited and repaired."""

from __future__ import annotations

import copy
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from actsearch.equivalence import audit, batches, congruence, splitting
from actsearch.equivalence.congruence import Partition, partition, sharpen
from actsearch.equivalence.partition_files import load_partition, save_partition
from actsearch.equivalence.refinement import WideValues, refined
from actsearch.grammar import SpaceError
from actsearch.grammar.errors import UsageError
from actsearch.grammar.search_space import SearchSpace
from tests.actsearch.closed_space import Findings, by_force

GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" -> add
    | "max(" unary ", " unary ")" -> max
unary: operand -> identity
    | "-" operand -> neg
    | "abs(" operand ")" -> abs
    | "sqrt(" operand ")" -> sqrt
    | "exp(" operand ")" -> exp
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""


UNBRACKETED = """
start: unit
unit: unary "*2" -> twice
    | unary "*3" -> thrice
unary: operand "+1" -> more
    | operand -> same
operand: "x" | unit
"""


def closed_space(units: int = 2) -> SearchSpace:
    return SearchSpace(GRAMMAR, "closed", units, parameters="shared")


@pytest.fixture(scope="module")
def found() -> Partition:
    result = partition(closed_space(), processes=1)
    assert audit.settle_links(result) == []
    splitting.repair(result)
    return result


def test_no_merge_is_false_and_none_is_missed(found: Partition) -> None:
    faults = by_force(found)
    assert faults == Findings(names=8_640, alike=faults.alike)
    assert faults.alike > 0  # but a witness tells them apart


def test_force_finds_what_is_false_and_what_is_missed(found: Partition) -> None:
    spoiled = copy.copy(found)
    spoiled.numbers = found.numbers.copy()
    first, second = (found.class_of(t) for t in ("add(x, add(x, x))", "add(x, max(x, abs(x)))"))
    spoiled.numbers[spoiled.numbers == second] = first
    assert len(by_force(spoiled).false) == found.counts[second]
    row = next(row for row in range(len(found.numbers)) if found.roots[found.numbers[row]] != row)
    spoiled.numbers = found.numbers.copy()
    spoiled.split(np.array([row]), np.array([0]))
    faults = by_force(spoiled)
    assert (len(faults.false), len(faults.missed)) == (0, 1)


def test_counts_and_members(found: Partition) -> None:
    assert found.counts.sum() == found.space.count()
    largest = np.argsort(found.counts)[::-1]
    for number in [*largest[:3].tolist(), 0, found.count // 2, found.count - 1]:
        members = list(found.members(number))
        assert len(members) == len(set(members)) == found.counts[number]
        assert {found.class_of(index) for index in members[:200]} == {number}
    with pytest.raises(KeyError):
        next(found.members(found.count))


def test_members_are_lazy_and_represented(found: Partition) -> None:
    number = found.class_of("add(x, add(x, x))")
    assert found.class_of("add(add(x, x), x)") == number
    assert len(list(itertools.islice(found.members(number), 2))) == 2
    text = found.representative(number)
    assert found.class_of(text) == number
    with pytest.raises(SpaceError):
        found.class_of("add(x, x)")


def test_all_merges_of_sub_terms_are_settled(found: Partition) -> None:
    kinds = {table.links[number][2].kind for table, number in found.table_links()}
    assert kinds <= {"proved", "certified"}
    summary = found.summary()
    assert summary["candidates"] == 8_640
    assert summary["classes"] == found.count
    assert summary["terms"] - summary["merges"] == found.count


def test_another_seed_gives_the_same_classes(found: Partition) -> None:
    again = partition(closed_space(), processes=1, seed=3)
    splitting.repair(again, seed=3)
    assert again.count == found.count
    # As sets: what an audit moves gets numbers at the end.
    assert len(np.unique(np.stack([again.numbers, found.numbers]), axis=1).T) == found.count


def test_two_processes_give_the_same_classes(found: Partition) -> None:
    again, alone = (partition(closed_space(), processes=n) for n in (2, 1))
    assert (again.numbers == alone.numbers).all()


def test_saving_and_loading(found: Partition, tmp_path: Path) -> None:
    path = save_partition(found, tmp_path / "closed.npz")
    again = load_partition(path)
    assert again.summary() == found.summary()
    assert (again.numbers == found.numbers).all()
    assert again.expression(1234) is found.expression(1234)
    assert list(again.members(5)) == list(found.members(5))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UsageError, match=r"holds no partition: it is no \.npz file"):
        load_partition(path)
    with pytest.raises(UsageError, match=r"\.npz"):
        save_partition(found, tmp_path / "closed.pkl")


def test_the_audit_finds_what_is_false_and_repairs_it(tmp_path: Path) -> None:
    found = partition(closed_space(), processes=1)
    points = audit.audit_points(4)
    assert all(audit.check_point(found, values)[2] == [] for values in points)
    # Two functions that differ, put into one class.
    first, second = (found.class_of(t) for t in ("add(x, add(x, x))", "add(x, max(x, abs(x)))"))
    count, moved = found.count, int((found.numbers == second).sum())
    found.numbers[found.numbers == second] = first
    compared, undecided, false = audit.check_point(found, {**points[0], "x": Fraction(-7, 3)})
    assert compared == len(found.numbers) - count + 1
    assert undecided < 0.01 * compared
    assert len(false) == moved
    point = tuple(
        (name, str(value)) for name, value in (points[0] | {"x": Fraction(-7, 3)}).items()
    )
    refuted = [splitting.Refuted((row,), (point,)) for _, row in false]
    assert splitting.split_false(found, refuted) == moved
    rows = [
        found.row_of(found.space.index(t))
        for t in ("add(x, max(x, abs(x)))", "max(add(x, abs(x)), x)")
    ]
    assert found.numbers[rows[0]] != first
    assert found.numbers[rows[1]] != first
    assert audit.check_point(found, {**points[0], "x": Fraction(-7, 3)})[2] == []
    path = save_partition(found, tmp_path / "repaired.npz")
    rounds = list(audit.audit(path, count=3, done=1))
    assert [row[0] for row in rounds] == [1, 2]
    assert all(row[3] == [] for row in rounds)


def test_more_points_split_what_differs_and_nothing_else() -> None:
    found = partition(closed_space(), processes=1)
    numbers = found.numbers.copy()
    assert sharpen(found, pools=2, threads=1) == 0
    assert (found.numbers == numbers).all()
    first, second = (found.class_of(t) for t in ("add(x, add(x, x))", "add(x, max(x, abs(x)))"))
    found.numbers[found.numbers == second] = first
    assert sharpen(found, pools=1, threads=2) >= 0
    assert found.class_of("add(x, add(x, x))") != found.class_of("add(x, max(x, abs(x)))")
    assert found.counts.sum() == found.space.count()


def test_crossings_are_closed_under_signs_and_lie_where_functions_cross() -> None:
    pool = batches.crossings(128, 5)
    points = set(zip(pool.x, pool.beta, strict=True))
    assert len(points) == len(pool) == 128
    assert all((-x, b) in points and (x, -b) in points for x, b in points)
    sizes = np.array([float(abs(x)) for x in pool.x])
    assert sizes.max() < 13
    steps = np.abs(sizes / (np.pi / 2) - np.round(sizes / (np.pi / 2)))
    assert (steps < 0.02).mean() > 0.3
    assert batches.crossings(128, 6).x != pool.x


def test_sub_terms_that_an_audit_told_apart_stay_apart() -> None:
    plain = partition(closed_space(), processes=1)
    table = plain.big
    first, second, _ = table.links[0]
    again = partition(closed_space(), processes=1, splits=[(table.place, first, second)])
    assert len(again.big) >= len(plain.big)
    assert again.counts.sum() == plain.counts.sum()


def test_what_cannot_be_partitioned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpaceError, match="shared"):
        partition(SearchSpace(GRAMMAR, "closed", 2))
    with pytest.raises(SpaceError, match="parentheses"):
        partition(SearchSpace(UNBRACKETED, "unbracketed", 2, parameters="shared"))
    monkeypatch.setattr("actsearch.equivalence.congruence.LARGEST", 1_000)
    with pytest.raises(SpaceError, match="too many"):
        partition(closed_space(), processes=1)


def test_keys_are_close_for_equal_values_and_undefined_counts() -> None:
    pool = batches.points(64, 0.05, 1.6)
    assert len(pool) == 64
    assert sorted(pool.x) == sorted(-x for x in pool.x)
    assert sorted(pool.beta) == sorted(-b for b in pool.beta)
    assert min(map(abs, batches.points(512, 1e-9, 40.0).x)) < 2e-9
    x = pool.leaves(np.float64)["x"]
    with np.errstate(invalid="ignore"):
        rows = np.concatenate([x * 3, x + x + x, np.sqrt(x), 0 * np.log(x), x * np.inf])
    both = batches.keys(rows, pool.weights)
    order, begins = batches.grouped(both[:, 0], both[:, 1])
    groups = np.split(order, np.flatnonzero(begins)[1:])
    assert sorted(sorted(group.tolist()) for group in groups) == [[0, 1], [2], [3], [4]]


def test_grouping_by_cells_is_grouping_by_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle sorts keys and links neighbours; the groups are the same, in strides, too."""
    monkeypatch.setattr(batches, "_STRIDE", 1000)
    rng = np.random.default_rng(3)
    first = np.round(rng.uniform(-9, 9, 20_000), 4)  # many equal ones
    first += rng.choice([0.0, 0.6, 0.9, 1.1], 20_000) * batches.TOLERANCE
    second = (rng.integers(0, 2, 20_000) / 7).astype(np.float32)
    order, begins = batches.grouped(first, second)
    assert sorted(order.tolist()) == list(range(20_000))
    found = {frozenset(group) for group in np.split(order, np.flatnonzero(begins)[1:])}
    expected = set()
    by_first = np.argsort(first)
    for group in np.split(
        by_first, np.flatnonzero(np.diff(first[by_first]) > batches.TOLERANCE) + 1
    ):
        for value in np.unique(second[group]):
            expected.add(frozenset(group[second[group] == value]))
    assert found == expected
    assert max(map(len, found)) > 2
    empty = batches.grouped(np.empty(0), np.empty(0, np.float32))
    assert [len(part) for part in empty] == [0, 0]


def test_classes_are_numbered_by_their_first_rows() -> None:
    order = np.array([5, 2, 0, 4, 1, 3], dtype=np.int32)
    begins = np.array([True, False, True, True, False, False])
    numbers, roots = congruence._numbered(order, begins)
    assert numbers.tolist() == [0, 1, 2, 1, 1, 2]
    assert roots.tolist() == [0, 1, 2]


def test_comparison_at_more_points_splits_what_differs_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All terms of a small space thrown together: what comes out are its functions, by balls."""
    found = congruence.partition(closed_space(), processes=1)
    rows = np.arange(len(found.numbers), dtype=np.int32)
    together = np.zeros(len(rows), dtype=bool)
    together[0] = True
    pool = batches.points(1024, 2e-8, 12.0, 1, (0.03, 9.0))
    wide = WideValues(found.builder, found.shapes, found.arms, found.big, pool)
    monkeypatch.setattr("actsearch.equivalence.refinement._ROUNDS", 200)
    order, begins = refined(wide, rows, together, 1)
    numbers, roots = congruence._numbered(order, begins)
    assert numbers.tolist() == found.numbers.tolist()
    assert roots.tolist() == found.roots.tolist()
