"""All merges of a partition settled: resumable, and what is false is taken apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actsearch.equivalence import settlement
from actsearch.equivalence.congruence import Partition, neighbours, partition
from actsearch.equivalence.partition_files import load_partition, save_partition
from actsearch.equivalence.settlement import settle, settle_and_split
from actsearch.grammar.search_space import SearchSpace

GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" -> add
    | "max(" unary ", " unary ")" -> max
unary: operand -> identity
    | "-" operand -> neg
    | "abs(" operand ")" -> abs
    | "exp(" operand ")" -> exp
    | "_" -> parameter
operand: "x" -> input
    | unit -> nested
"""


def forget() -> None:
    """Forget what is kept of partitions that were read."""
    for kept in (settlement._loaded, settlement._spans, settlement._rows):
        kept.cache_clear()


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settlement, "SPAN", 150)
    forget()
    found = partition(SearchSpace(GRAMMAR, "small", 2, parameters="shared"), processes=1)
    return save_partition(found, tmp_path / "small.npz")


def test_every_merge_is_settled_and_the_work_goes_on_where_it_was(saved: Path) -> None:
    found = load_partition(saved)
    merges = len(found.numbers) - found.count
    part = settle(saved, limit=2)
    assert 0 < part.merges < merges
    done = {file: file.stat().st_mtime_ns for file in Path(f"{saved}.settled").glob("*/*")}
    assert len(done) >= 2 * 4
    calls: list[tuple[int, int]] = []
    whole = settle(saved, progress=lambda *done: calls.append(done))
    assert whole.merges == merges
    units = 4 * len(settlement.spans(found))
    assert (9, units) in calls
    assert (units, units) in calls
    assert all(file.stat().st_mtime_ns == time for file, time in done.items())
    assert whole.false == whole.open == []
    assert whole.proved.total() >= 0.95 * merges
    again = settle(saved, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert again == whole


def put_together(found: Partition, first: str, second: str) -> int:
    """Put two classes into one; how many rows moved."""
    into, out = found.class_of(first), found.class_of(second)
    moved = int((found.numbers == out).sum())
    found.numbers[found.numbers == out] = into
    return moved


def test_what_is_false_is_taken_apart(saved: Path) -> None:
    found = load_partition(saved)
    count = found.count
    names = "add(x, add(x, x))", "add(x, max(x, abs(x)))"
    moved = put_together(found, *names)
    save_partition(found, saved)
    forget()
    again, result = settle_and_split(saved)
    assert again.class_of(names[0]) != again.class_of(names[1])
    assert result.false == []
    assert result.merges == len(again.numbers) - len(np.unique(again.numbers))
    assert len(np.unique(again.numbers)) == count
    assert moved > 0
    once_more = settle_and_split(saved, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert once_more[1] == result
    assert (once_more[0].numbers == again.numbers).all()


def test_neighbours_are_different_classes_that_lie_close(saved: Path) -> None:
    found = load_partition(saved)
    pairs = neighbours(found, 10)
    assert len(pairs) == 10
    assert all(found.numbers[a] != found.numbers[b] for a, b in pairs)
