"""All merges of a partition settled: resumable, and what is false is taken apart."""

from __future__ import annotations

import itertools
import os
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from actsearch.equivalence import lemmas, row_proofs, settlement, splitting
from actsearch.equivalence.audit import values_of_rows
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.certificate import Certificate, Witness, compare, differ_at
from actsearch.equivalence.congruence import Partition, neighbours, partition
from actsearch.equivalence.holes import SHARED_NAME
from actsearch.equivalence.marks import UNDEFINED
from actsearch.equivalence.partition_files import load_partition, save_partition
from actsearch.equivalence.quadrant_rows import QuadrantRows
from actsearch.equivalence.quadrants import QUADRANTS
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
    assert (whole.false, whole.open) == ([], [])
    assert whole.proved.total() >= 0.95 * merges
    again = settle(saved, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert again == whole


def noted(folder: Path, piece: int) -> None:
    """Leave a file that names the piece and the process; the first piece waits for the sixth."""
    end = time.monotonic() + 60
    while piece == 0 and not any(folder.glob("5 *")) and time.monotonic() < end:
        time.sleep(0.01)
    (folder / f"{piece} {os.getpid()} {time.monotonic_ns()}").touch(exist_ok=False)


def test_processes_share_the_work(tmp_path: Path) -> None:
    """Each piece is done once, stretch by stretch; who is early takes from the end of another's."""
    calls: list[tuple[int, int]] = []
    settlement._each(partial(noted, tmp_path), range(12), 20, 2, lambda *done: calls.append(done))
    assert calls == [(number, 20) for number in range(9, 21)]
    files = [tuple(map(int, file.name.split())) for file in tmp_path.iterdir()]
    assert sorted(piece for piece, _, _ in files) == list(range(12))
    in_turn = [
        [piece for piece, process, _ in sorted(files, key=lambda file: file[2]) if process == own]
        for own in {process for _, process, _ in files}
    ]
    slow, quick = sorted(in_turn)
    assert slow == list(range(len(slow)))
    assert quick == [*range(6, 12), *range(5, len(slow) - 1, -1)]
    assert len(quick) > 6


def test_what_goes_wrong_in_a_process_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        settlement._each(partial(noted, tmp_path / "none"), range(8), 8, 2, lambda *_: None)


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
    assert result.apart >= moved > 0
    once_more = settle_and_split(saved, progress=lambda *_: pytest.fail("nothing is left to do"))
    assert once_more[1] == result
    assert (once_more[0].numbers == again.numbers).all()


def test_what_leaves_a_class_is_told_apart_by_the_points_that_refute_it(saved: Path) -> None:
    """Several functions in one class are several classes after one round, and nothing more."""
    found = load_partition(saved)
    into, *others = (
        "add(x, add(x, x))",
        "add(x, max(x, abs(x)))",
        "add(x, abs(add(x, x)))",
        "max(x, exp(add(x, x)))",
        "add(exp(add(x, x)), exp(x))",
    )
    expected = found.numbers.copy()
    for name in others:
        assert put_together(found, into, name) > 0
    save_partition(found, saved)
    forget()
    result = settle(saved)
    assert len({len(refuted.rows) for refuted in result.false}) > 1
    splitting.split_false(found, result.false)
    pairs = np.unique(np.stack([found.numbers, expected]), axis=1)
    assert pairs.shape[1] == len(np.unique(expected)) == len(np.unique(found.numbers))


def test_a_point_that_decides_nothing_parts_nothing(saved: Path) -> None:
    found = load_partition(saved)
    names = "add(x, add(x, x))", "add(x, abs(add(x, x)))", "add(x, exp(add(exp(x), x)))"
    for name in names[1:]:
        put_together(found, names[0], name)
    rows = [found.row_of(found.space.index(name)) for name in names]
    refuted = [splitting.Refuted((row,), ()) for row in rows]

    def classes_after(x: int) -> int:
        splitting.split_false(found, refuted, [{"x": Fraction(x), SHARED_NAME: Fraction(1)}])
        return len(set(found.numbers[rows].tolist()))

    assert classes_after(-(10**30)) == 3
    found.numbers[rows] = found.numbers[rows[0]]
    assert classes_after(10**30) == 1  # exp(exp(x)) is beyond the range of balls
    assert classes_after(3) == 2


def test_numbers_beyond_balls_are_told_apart_where_they_refute() -> None:
    top = '"exp(" unary " + " unary ")" -> exp_of_sum'
    grammar = GRAMMAR.replace('"max(" unary ", " unary ")" -> max', top)
    found = partition(SearchSpace(grammar, "huge", 2, parameters="shared"), processes=1)
    names = "exp(x + exp(x + x))", "exp(exp(x + x) + x)", "exp(-x + exp(x + x))"
    put_together(found, names[0], names[2])
    rows = [found.row_of(found.space.index(name)) for name in names]
    point = (("x", str(10**30)),)
    splitting.split_false(found, [splitting.Refuted((row,), (point,)) for row in rows])
    first, same, other = found.numbers[rows].tolist()
    assert first == same != other


def test_another_version_of_the_code_settles_everything_again(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settle(saved)
    monkeypatch.setattr(settlement, "version", lambda: "another one's digest")
    calls: list[int] = []
    assert settle(saved, progress=lambda done, _: calls.append(done)) == first
    assert len(calls) >= 4 * len(settlement.spans(load_partition(saved)))


def test_who_is_stopped_after_a_split_goes_on_there(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_partition(saved)
    put_together(found, "add(x, add(x, x))", "add(x, max(x, abs(x)))")
    copy = save_partition(found, saved.with_name("copy.npz"))
    save_partition(found, saved)
    forget()
    expected = settle_and_split(copy)
    calls = []

    def only_once(*arguments: object) -> settlement.Settled:
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return settle(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(settlement, "settle", only_once)
        with pytest.raises(KeyboardInterrupt):
            settle_and_split(saved)
    forget()
    numbers: list[int] = []
    again, result = settle_and_split(saved, progress=lambda done, total: numbers.append(total))
    assert max(numbers) < 4 * len(settlement.spans(found))  # the new classes only
    assert result == expected[1]
    assert (again.numbers == expected[0].numbers).all()
    assert result.merges == len(again.numbers) - len(np.unique(again.numbers))


def settled_groups(found: Partition, groups: list[list[int]]) -> settlement.Settled:
    """What is found of the merges of some groups of rows, without files."""
    labels = [row_proofs.labelled(QuadrantRows(found, quadrant), groups) for quadrant in QUADRANTS]
    result, links, needed = settlement._with_proofs(found, groups, labels)
    result._note(links, settlement._settled(found, list(needed.items())))
    return result


def test_what_is_proved_to_equal_something_false_is_false(saved: Path) -> None:
    found = load_partition(saved)
    names = "add(x, add(x, x))", "add(x, max(x, abs(x)))"
    row = found.row_of(found.space.index(names[1]))
    moved = put_together(found, *names)
    rows = np.flatnonzero(found.numbers == found.class_of(names[0])).tolist()
    groups = [rows]
    result = settled_groups(found, groups)
    assert moved > 1
    false = [other for refuted in result.false for other in refuted.rows]
    assert len(false) == len(set(false))
    assert len(false) in (moved, len(rows) - moved)
    assert (row in false) == (len(false) == moved)
    assert result.merges == len(rows) - 1
    assert result.proved.total() + result.certified == len(rows) - 1 - len(false)


def test_lemmas_settled_together_are_settled_as_one_by_one(saved: Path) -> None:
    found = load_partition(saved)
    pairs = [(rows[0], row) for rows in row_proofs.groups_of(found)[::13] for row in rows[1:3]]
    pairs += list(itertools.pairwise(found.roots[::11].tolist()))
    for quadrant, signs in enumerate(QUADRANTS):
        findings = lemmas.settled(found, quadrant, pairs)
        states = [finding.state for finding in findings]
        assert {lemmas.CERTIFIED, lemmas.FALSE} <= set(states)
        within = dict(zip(("x", SHARED_NAME), signs, strict=True))
        for (first, second), state, finding in zip(pairs, states, findings, strict=True):
            assert (state == lemmas.FALSE) == bool(finding.point)
            alone = compare(found.expression(first), found.expression(second), within=within)
            assert (state == lemmas.FALSE) == isinstance(alone, Witness)
            if isinstance(alone, Certificate):  # it has fewer points of its own
                assert state == lemmas.CERTIFIED


def test_lemmas_about_x_alone_are_those_of_positive_parameters(saved: Path) -> None:
    """What is left without any proof comes down to lemmas that hold, few for each merge."""
    found = load_partition(saved)
    groups = [rows for rows in row_proofs.groups_of(found) if not any(map(found.varies, rows))]
    alone = np.concatenate([np.arange(len(rows)) for rows in groups])
    digests = dict(enumerate(row.to_bytes(16) for rows in groups for row in rows))
    unproved = row_proofs.Labels(alone, np.zeros_like(alone), digests)
    needed = [link for link, _ in lemmas.open_links(found, groups, [unproved] * len(QUADRANTS))]
    assert len(needed) == sum(len(rows) - 1 for rows in groups) > 0
    assert all([lemma[0] for lemma in link.lemmas] == [0, 2] for link in needed)


@pytest.mark.parametrize(
    ("slope", "same"),
    [
        ("0.0000003", "max(max(x, x), x)"),
        ("20000000", "max(20000000*max(x, x)**2, 20000000*x**2)"),
    ],
)
def test_lemmas_are_refused_where_only_a_far_window_tells(slope: str, same: str) -> None:
    """max(x, s·x²) is x up to 1/s, and s·x² from there on: no moderate x shows both."""
    bent = f'"{slope}*" operand "**2" -> bent'
    grammar = GRAMMAR.replace('"abs(" operand ")" -> abs', bent)
    found = partition(SearchSpace(grammar, "bent", 2, parameters="shared"), processes=1)
    names = f"max(max(x, x), {slope}*x**2)", same, "max(max(x, x), x)"
    first, second, x = (found.row_of(found.space.index(name)) for name in names)
    (finding,) = lemmas.settled(found, 0, [(first, second)])
    assert finding.state == lemmas.FALSE
    values = {name: Fraction(value) for name, value in finding.point}
    assert differ_at(found.expression(first), found.expression(second), values)
    others = lemmas.settled(found, 2, [(second, second), (x, x)])
    assert others == [lemmas.Finding(lemmas.CERTIFIED)] * 2


def test_values_of_rows_are_those_of_their_expressions(saved: Path) -> None:
    found = load_partition(saved)
    rows = range(0, len(found.numbers), 17)
    values = {"x": Fraction(-37, 9), SHARED_NAME: Fraction(3, 19)}
    with precision(128):
        value = values_of_rows(found, values)
        for row in rows:
            ball, expected = value(row), ball_value(found.expression(row), values)
            assert (ball is UNDEFINED) == (expected is UNDEFINED)
            assert not is_value(ball) or ball.overlaps(expected)


def test_who_gives_up_looking_for_proofs_leaves_lemmas(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_partition(saved)
    groups = row_proofs.groups_of(found)
    whole = row_proofs.prove(found, groups)
    monkeypatch.setattr(row_proofs, "_IN_VAIN", 0)
    less = row_proofs.prove(found, groups)
    assert set(less.rules) <= set(row_proofs.RULES[1:3])
    assert whole.unproved <= less.unproved
    result = settled_groups(found, groups)
    assert result.certified == less.unproved
    assert (result.false, result.open) == ([], [])


def test_neighbours_are_different_classes_that_lie_close(saved: Path) -> None:
    found = load_partition(saved)
    pairs = neighbours(found, 10)
    assert len(pairs) == 10
    assert all(found.numbers[a] != found.numbers[b] for a, b in pairs)
