"""The cache of proofs: it changes no result, is bounded, and is believed only where it is whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actsearch.equivalence import EquivalenceIndex, version
from actsearch.equivalence import proof_cache as module
from actsearch.equivalence.families import canonical, replayed
from actsearch.equivalence.proof_cache import NAME, ProofCache
from actsearch.grammar import SearchSpace, parse, space
from actsearch.studies import study_run
from tests.actsearch.test_study import essence, small_search

# equal pairs that take algebra, signs, orderings or balls, near misses, and a scaled copy
TEXTS = (
    "x*sigmoid(x)",
    "x/(1 + exp(-x))",
    "max(x, -8)",
    "x",
    "max(atan(x), 0)",
    "max(atan(x), tanh(x) - tanh(x))",
    "abs(x)*abs(x)",
    "x*x",
    "beta*x + abs(x)",
    "gamma*x + abs(x)",
    "3*x*sigmoid(x) - 2",
    "tanh(x) + tanh(-x)*beta",
    "beta*tanh(x)",
)


UNITS = """
start: unit
unit: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
    | "sub(" unary ", " unary ")" -> sub
unary: "x" -> identity | "-x" -> neg | "abs(x)" -> abs | "atan(x)" -> atan | "tanh(x)" -> tanh
    | "exp(x)" -> exp | "sigmoid(x)" -> sigmoid | "logsigmoid(x)" -> logsigmoid
    | "softplus(x)" -> softplus
"""


def alike() -> SearchSpace:
    """243 candidates."""
    return SearchSpace(UNITS, "alike")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ProofCache]:
    with closing(ProofCache(tmp_path / NAME)) as opened:
        yield opened


def built(cache: ProofCache | None, level: str = "affine") -> list[Any]:
    """Everything that an index says of the texts."""
    index = EquivalenceIndex(level, cache=cache)
    answers: list[Any] = [index.find_or_add(text) for text in TEXTS]
    return [*answers, index.links, index.refusals, index.doubts]


def forbid(*names: str) -> Callable[[pytest.MonkeyPatch], None]:
    def proved_again(*_: Any) -> None:
        raise AssertionError("proved again")

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in names:
            monkeypatch.setattr(f"actsearch.equivalence.index.{name}", proved_again)

    return patch


# results


def test_classes_and_certificates_are_the_same_without_with_a_cold_and_with_a_warm_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = built(None)
    with closing(ProofCache(tmp_path / NAME)) as cold:
        assert built(cold) == plain
    forbid("decide", "canonical")(monkeypatch)
    with closing(ProofCache(tmp_path / NAME)) as warm:
        assert built(warm) == plain
    with pytest.raises(AssertionError, match="proved again"):
        built(None)


def test_a_study_is_the_same_without_with_a_cold_and_with_a_warm_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space in which many proposals are duplicates that take a proof."""
    monkeypatch.setenv("ACTSEARCH_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {"retest": 0, "level": "affine", "space": alike(), "trials": 30}
    cold = essence(small_search(tmp_path / "cold", **options))
    reasons = Counter((trial["certificate"] or "none").split(",")[0] for trial in cold)
    assert sum(reasons[f"proved by {how}"] for how in ("algebra", "ordering", "sign split")) >= 3

    with monkeypatch.context() as forbidden:
        forbid("decide", "canonical")(forbidden)
        assert essence(small_search(tmp_path / "warm", **options)) == cold

    monkeypatch.setattr(study_run, "_proofs", lambda: ProofCache(tmp_path / "no" / "folder"))
    assert essence(small_search(tmp_path / "none", **options)) == cold


def test_a_decision_that_ran_into_the_time_limit_is_not_kept(cache: ProofCache) -> None:
    hurried = EquivalenceIndex(seconds=0.0, cache=cache)
    for text in TEXTS[:2]:
        hurried.find_or_add(text)
    assert hurried.doubts
    patient = EquivalenceIndex(cache=cache)
    assert [patient.find_or_add(text)[0] for text in TEXTS[:2]] == [0, 0]


def test_canonical_members_are_checked_against_their_change() -> None:
    names = space("swish", units=2)
    for index in names.sample_indices(8, seed=5):
        expression = names.expression(index)
        for level in ("reparameterised", "affine"):
            member, change = canonical(expression, level)
            pairs = dict(change.to_pairs())
            assert replayed(expression, str(member), pairs) == (member, change)
            assert replayed(expression, f"{member} + exp(x)", pairs) is None
    assert replayed(parse("2*tanh(x)"), "tanh(x)", {}) is None
    assert replayed(parse("2*tanh(x)"), "tanh(x)", {"/scale": "2"}) is not None


# damage


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def scribble(path: Path) -> None:
    """Random bytes all over the file but its first page."""
    content, generator = bytearray(path.read_bytes()), random.Random(1)
    for place in range(4096, len(content), 7):
        content[place] = generator.randrange(256)
    path.write_bytes(content)


def other_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE answers (question TEXT)")


def exchange(path: Path) -> None:
    """Each answer goes to another question."""
    with closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT number, answer FROM answers").fetchall()
        for (number, _), (_, answer) in zip(rows, rows[1:] + rows[:1], strict=True):
            database.execute("UPDATE answers SET answer = ? WHERE number = ?", (answer, number))


def falsify(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for number, answer in database.execute("SELECT number, answer FROM answers").fetchall():
            lie = answer.replace(b"witness", b"unknown").replace(b"proved", b"PROVED")
            database.execute("UPDATE answers SET answer = ? WHERE number = ?", (lie, number))
        database.execute("UPDATE answers SET answer = 7 WHERE number % 3 = 0")
        database.execute("UPDATE answers SET answer = x'' WHERE number % 3 = 1")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is no database" * 1000),
        lambda path: path.write_bytes(b""),
        shorten,
        scribble,
        other_tables,
        exchange,
        falsify,
    ],
    ids=["garbage", "empty", "shortened", "scribbled", "other tables", "exchanged", "falsified"],
)
def test_a_damaged_file_is_not_believed_and_serves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / NAME
    plain = built(None)
    with closing(ProofCache(path)) as cold:
        built(cold)
    damage(path)
    with closing(ProofCache(path)) as damaged:
        assert built(damaged) == plain
        built(damaged)
    forbid("decide", "canonical")(monkeypatch)
    with closing(ProofCache(path)) as mended:
        assert built(mended) == plain


def test_another_version_believes_nothing(
    cache: ProofCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("yes", "question")
    assert cache.get("question") == "yes"
    monkeypatch.setattr(module, "version", lambda: "of another day")
    assert cache.get("question") is None


def test_the_version_follows_the_code_and_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "b.lark", "c.txt"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(version.resources, "files", lambda _: tmp_path)

    def fresh() -> str:
        version.version.cache_clear()
        return version.version()

    try:
        seen = [fresh()]
        (tmp_path / "c.txt").write_text("2")
        assert fresh() == seen[0]
        for name in ("a.py", "b.lark"):
            (tmp_path / name).write_text("2")
            seen.append(fresh())
        monkeypatch.setattr(version.metadata, "version", lambda _: "0.0")
        seen.append(fresh())
        assert len(set(seen)) == 4
    finally:
        version.version.cache_clear()


# bounds


def test_the_oldest_answers_go_and_the_file_stops_growing(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with closing(ProofCache(path, most=50)) as cache:
        sizes = []
        for number in range(400):
            cache.put("a" * 200, number)
            sizes.append(path.stat().st_size)
        known = [number for number in range(400) if cache.get(number) is not None]
        assert known == list(range(350, 400))
        assert max(sizes[100:]) <= max(sizes[:100])
        cache.put("b" * (module.LARGEST + 1), 399)
        assert cache.get(399) == "a" * 200
        cache.put("c", 399)
        assert cache.get(399) == "c"


def test_a_full_cache_keeps_to_its_bound(tmp_path: Path) -> None:
    """The largest answers: 150 MB for 100,000 are 1,500 bytes each."""
    with closing(ProofCache(tmp_path / NAME, most=2_000)) as cache:
        for number in range(2_500):
            cache.put("a" * (module.LARGEST - 2), number)
        assert cache.get(2_499) is not None
    assert (tmp_path / NAME).stat().st_size <= 2_000 * 1_500


# several processes

WRITER = """
import sys
from actsearch.equivalence.proof_cache import ProofCache
cache = ProofCache(sys.argv[1])
for number in range(1_000_000):
    cache.put("child" * 20, "child", number)
    print(number, flush=True)
"""


def test_two_processes_write_at_a_time_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / NAME
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        closing(ProofCache(path)) as cache,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child,
    ):
        assert child.stdout is not None
        seen = [int(child.stdout.readline())]
        for number in range(300):
            cache.put("parent" * 20, "parent", number)
        seen += [int(child.stdout.readline()) for _ in range(50)]
        os.kill(child.pid, signal.SIGKILL)
        seen += [int(line) for line in child.stdout if line.endswith("\n")]
        child.wait()
        for name, numbers in (("parent", range(300)), ("child", seen)):
            assert all(cache.get(name, number) == name * 20 for number in numbers)


def test_a_file_that_another_process_holds_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    path = tmp_path / NAME
    with closing(ProofCache(path)) as cache, closing(sqlite3.connect(path)) as other:
        cache.put("yes", "question")
        other.execute("BEGIN EXCLUSIVE")
        cache.put("no", "question")
        assert cache.get("question") is None
        other.execute("ROLLBACK")
    with closing(ProofCache(path)) as later:
        assert later.get("question") == "yes"


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    with closing(ProofCache(tmp_path / "no" / "folder")) as cache:
        cache.put("yes", "question")
        assert cache.get("question") is None
