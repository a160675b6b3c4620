"""Partitions: sound and complete on a space settled by force, stable, saved and explained."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import mpmath
import networkx as nx
import pytest

from actsearch.equivalence import EquivalenceClasses, NotEquivalent, deduplicate
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.grammar import Expression, parse, space
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.expression import Parameter

UNARY = ["x", "-x", "abs(x)", "x**2", "sqrt(x)", "relu(x)", "min(x, 0)", "exp(x)", "_*x", "tanh(x)"]
BINARY = [
    "({a}) + ({b})",
    "({a})*({b})",
    "max({a}, {b})",
    "({a})/(({b}) + eps)",
    "mix(_, {a}, {b})",
]


def small_space() -> list[str]:
    return [form.format(a=a, b=b) for form in BINARY for a, b in itertools.product(UNARY, repeat=2)]


# Points of another making than those of the implementation: on both sides, close to 0, far out, and
# between places where the small space's functions cross.
PLACES = [
    Fraction(n, d)
    for n, d in [
        (-40, 1), (-73, 11), (-16, 9), (-101, 100), (-7, 10), (-1, 3), (-1, 1000), (1, 777),
        (2, 7), (2, 3), (99, 98), (31, 19), (50, 7), (57, 1),
    ]
]  # fmt: skip
VALUES = [Fraction(5, 7), Fraction(-13, 9), Fraction(31, 12), Fraction(-3, 31)]


def tables(expression: Expression) -> Counter[tuple[str, ...]]:
    """Values to 30 digits at the places, once for each assignment of values to parameters."""
    names = [p.name for p in expression.parameters]
    found: Counter[tuple[str, ...]] = Counter()
    for chosen in itertools.permutations(VALUES[:3], len(names)):
        row = []
        for place in PLACES:
            with precision(400):
                ball = ball_value(expression, {"x": place, **dict(zip(names, chosen, strict=True))})
                zero = is_value(ball) and ball.contains(0)
                known = "0" if zero else ball.str(30, radius=False) if is_value(ball) else ball
                row.append(str(known))
        found[tuple(row)] += 1
    return found


@pytest.fixture(scope="module")
def small() -> EquivalenceClasses:
    return deduplicate(small_space())


def test_no_merge_is_false_and_none_is_missed(small: EquivalenceClasses) -> None:
    # A function of fewer parameters than it is written with has fewer distinct tables.
    by_table: dict[frozenset[tuple[str, ...]], set[int]] = defaultdict(set)
    by_class: dict[int, set[frozenset[tuple[str, ...]]]] = defaultdict(set)
    for index, text in enumerate(small.candidates):
        key = frozenset(tables(parse(text)))
        by_table[key].add(small.class_of(index))
        by_class[small.class_of(index)].add(key)
    assert all(len(keys) == 1 for keys in by_class.values())  # 0 false merges
    assert all(len(classes) == 1 for classes in by_table.values())  # 0 missed merges
    assert small.count == len(by_table)


def test_the_links_connect_exactly_the_classes(small: EquivalenceClasses) -> None:
    components = {frozenset(c) for c in nx.connected_components(small.graph)}
    assert components == {frozenset(small.indices(c)) for c in range(small.count)}
    assert len(small.links) == len(small.candidates) - small.count
    assert all(link.certificate.kind in ("proved", "certified") for link in small.links)
    assert not small.doubts


@pytest.mark.parametrize("seed", [1, 2])
def test_other_points_give_the_same_classes(small: EquivalenceClasses, seed: int) -> None:
    again = deduplicate(small_space(), seed=seed)
    assert [again.class_of(i) for i in range(500)] == [small.class_of(i) for i in range(500)]


def test_more_digits_give_the_same_classes(
    small: EquivalenceClasses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actsearch.equivalence.certificate.DIGITS", 90)
    again = deduplicate(small_space())
    assert [again.class_of(i) for i in range(500)] == [small.class_of(i) for i in range(500)]


def test_looking_things_up(small: EquivalenceClasses) -> None:
    relu = small.class_of("relu(x)")  # not spelled like this by any candidate
    assert small.class_of("where(x > 0, x, 0)") == relu
    assert "max(x, min(x, 0))" in small.members(small.class_of("x"))
    name = small.name(relu)
    assert name is not None
    assert name.name == "relu"
    assert all(small.class_of(text) == relu for text in small.members(relu))
    assert parse(small.representative(relu)).cost == min(
        parse(text).cost for text in small.members(relu)
    )
    with pytest.raises(KeyError):
        small.class_of("erf(x)")
    with pytest.raises(KeyError):
        small.class_of(500)
    with pytest.raises(KeyError):
        small.members(10**6)


def test_why(small: EquivalenceClasses) -> None:
    members = small.indices(small.class_of("relu(x)"))
    assert len(members) > 2
    chain = small.why(members[0], members[-1])
    assert chain[0].first == small.candidates[members[0]]
    assert chain[-1].second == small.candidates[members[-1]]
    assert all(a.second == b.first for a, b in itertools.pairwise(chain))
    assert "by" in str(chain[0])
    with pytest.raises(NotEquivalent, match="one is"):
        small.why(0, small.indices(small.count - 1)[0])


def test_summary_is_plain(small: EquivalenceClasses) -> None:
    summary = json.loads(json.dumps(small.summary()))
    assert summary["candidates"] == 500
    assert summary["classes"] == small.count
    assert summary["proved"] + summary["certified"] == 500 - small.count
    assert summary["unproved"] == 0
    assert summary["undefined_candidates"] == sum("sqrt" in text for text in small.candidates)
    zero = {"(x) + (-x)", "(-x) + (x)", "(relu(x))*(min(x, 0))", "(min(x, 0))*(relu(x))"}
    assert {t for c in small.constants for t in small.members(c)} == zero


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_saving_and_loading(small: EquivalenceClasses, tmp_path: Path, suffix: str) -> None:
    path = small.save(tmp_path / f"classes{suffix}")
    again = EquivalenceClasses.load(path)
    assert again.summary() == small.summary()
    assert again.links == small.links
    assert again.candidates == small.candidates
    assert again.class_of("where(x > 0, x, 0)") == small.class_of("relu(x)")


def test_the_graph_is_written_for_other_tools(
    small: EquivalenceClasses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = nx.read_graphml(small.save(tmp_path / "classes.graphml"))
    assert graph.number_of_nodes() == 500
    assert graph.number_of_edges() == len(small.links)
    assert {data["text"] for _, data in graph.nodes(data=True)} == set(small.candidates)
    assert all("by" in data["certificate"] for _, _, data in graph.edges(data=True))
    monkeypatch.setattr("actsearch.equivalence.classes._LARGEST_GRAPHML", 10)
    with pytest.raises(ValueError, match="at most 10"):
        small.save(tmp_path / "again.graphml")


def test_linear_functions_and_the_largest_classes(small: EquivalenceClasses) -> None:
    linear = {small.representative(number) for number in small.linear}
    assert small.class_of("x") in small.linear
    assert small.class_of("2*x") in small.linear
    assert small.class_of("abs(x)") not in small.linear
    assert all("sqrt" not in text and "tanh" not in text for text in linear)
    sizes = [len(small.members(number)) for number in small.largest(10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(len(small.members(number)) for number in range(small.count))


def test_damaged_files_are_refused(small: EquivalenceClasses, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="saved as"):
        small.save(tmp_path / "classes.pkl")
    path = small.save(tmp_path / "classes.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"holds no equivalence classes: it is no \.npz file"):
        EquivalenceClasses.load(path)
    path = tmp_path / "classes.json"
    path.write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format"):
        EquivalenceClasses.load(path)
    with pytest.raises(FileNotFoundError):
        EquivalenceClasses.load(tmp_path / "none.npz")


def test_progress_is_told() -> None:
    counts: list[int] = []
    deduplicate(["x", "x + 1", "1 + x"], progress=counts.append)
    assert counts == [1, 2, 3]


def test_holes_of_their_own_are_not_one_parameter() -> None:
    classes = deduplicate(["_*x + _", "a*x + a", "a*x + b", "_ + _*x"])
    assert [classes.class_of(i) for i in range(4)] == [0, 1, 0, 0]


# the whole space with one unit


@pytest.fixture(scope="module")
def swish() -> tuple[EquivalenceClasses, float]:
    begin = time.process_time()
    classes = deduplicate(space("swish", units=1))
    return classes, time.process_time() - begin


def test_the_whole_one_unit_space(swish: tuple[EquivalenceClasses, float]) -> None:
    classes, seconds = swish
    summary = classes.summary()
    assert seconds < 60
    assert summary["candidates"] == 6250
    assert summary["classes"] == 4045
    assert summary["unproved"] == 0
    assert summary["proved"] + summary["certified"] == 6250 - 4045
    assert summary["proved"] >= 0.95 * (6250 - 4045)
    assert summary["undefined_candidates"] == sum("sqrt" in text for text in classes.candidates)


def renamed(expression: Expression, renaming: Iterable[tuple[str, str]]) -> Expression:
    names = dict(renaming)
    return expression.substitute(
        {p: Parameter(names.get(p.name, p.name)) for p in expression.parameters}
    )


def test_its_links_hold_for_mpmath(swish: tuple[EquivalenceClasses, float]) -> None:
    classes, _ = swish
    links = [k for k in classes.links if k.certificate.kind == "certified"]
    links += classes.links[::9]
    for number, link in enumerate(links):
        a = parse(classes.candidates[link.first])
        b = renamed(parse(classes.candidates[link.second]), link.certificate.renaming)
        for place in range(5):
            x = mpmath.mpf((number * 7 + place * 1009) % 1601 - 800) / 97 + mpmath.mpf(1) / 1013
            values = []
            with mpmath.workdps(40):
                for expression in (a, b):
                    at = {"x": x} | {
                        p.name: mpmath.mpf(len(p.name) * 3 + 7 * int(p.name[1:]) - 9) / 4
                        for p in expression.parameters
                    }
                    values.append(evaluate(expression, at, "mpmath", 40)[()])
            if mpmath.isnan(values[0]) or mpmath.isnan(values[1]):
                assert all(map(mpmath.isnan, values)), (str(a), str(b), x)
            else:
                tolerance = mpmath.mpf(10) ** -20 * max(1, abs(values[0]))
                assert abs(values[0] - values[1]) <= tolerance, (str(a), str(b), x)
