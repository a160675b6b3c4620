"""Spaces as sequences: counts, ranks, order, samples, slices, identity."""

from __future__ import annotations

import doctest
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from actsearch.grammar import (
    Parameter,
    SearchSpace,
    SpaceError,
    named_activations,
    parse,
    search_space,
    space,
    walk,
)
from actsearch.grammar.search_space import SpaceSlice, space_names
from tests.grammar.space_oracle import (
    CHAINS,
    FINITE,
    LEFT_RECURSIVE,
    TREES,
    Rules,
    grammars,
    make,
    sentences,
)

SMALL: list[tuple[Rules, int | None]] = [
    (TREES, 1),
    (TREES, 2),
    (TREES, 3),
    (CHAINS, 2),
    (CHAINS, 4),
    (LEFT_RECURSIVE, 4),
]
SMALL += [(FINITE, None)]


def names_by_recurrence(units: int) -> int:
    """unit(n) = 10 * sum v(i) v(n-1-i) with v(0) = 25 and v(k) = 24 unit(k)."""
    unit = [0]

    def v(k: int) -> int:
        return 25 if k == 0 else 24 * unit[k]

    for n in range(1, units + 1):
        unit.append(10 * sum(v(i) * v(n - 1 - i) for i in range(n)))
    return unit[units]


@pytest.mark.parametrize(("rules", "units"), SMALL)
def test_sentences_come_in_the_documented_order(rules: Rules, units: int | None) -> None:
    small = make(rules, units)
    expected = sentences(rules, units)
    assert small.count() == len(small) == len(expected)
    assert [s.replace(" ", "") for s in small] == expected
    assert len(set(expected)) == len(expected)
    assert [small.index(s) for s in expected] == list(range(len(expected)))


@settings(max_examples=40)
@given(grammars(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_random_grammars_agree_with_enumeration(
    rules: Rules, units: int, rng: random.Random
) -> None:
    drawn = make(rules, 1)
    assume(drawn.count() < 200)
    drawn = make(rules, units)
    assume(drawn.count() < 20_000)
    expected = sentences(rules, units)
    assert drawn.count() == len(expected)
    for index in rng.sample(range(len(expected)), min(20, len(expected))):
        assert drawn[index].replace(" ", "") == expected[index]
        assert drawn.index(drawn[index]) == index


@pytest.mark.parametrize(("units", "names"), [(1, 6_250), (2, 75_000_000), (3, 1_125_000_000_000)])
def test_swish_has_the_published_number_of_names(units: int, names: int) -> None:
    assert space("swish", units=units).count() == names == names_by_recurrence(units)


def test_counts_follow_the_recurrence_up_to_fifty_units() -> None:
    for units in (4, 7, 20, 50):
        assert space("swish", units).count() == names_by_recurrence(units)


@pytest.mark.parametrize(("name", "units"), [("swish", 1), ("swish", 3), ("swish", 12)])
def test_ranking_inverts_unranking(name: str, units: int) -> None:
    swish = space(name, units)
    rng = random.Random(units)
    places = [0, 1, swish.count() - 1, *(rng.randrange(swish.count()) for _ in range(200))]
    for index in places:
        sentence = swish[index]
        assert swish.index(sentence) == index
        assert swish.index(sentence.replace(" ", "")) == index
        assert swish.rank(swish.derivation(index)) == index
        assert swish.derivation(index).units == units


def test_fifty_units_neither_recurse_nor_enumerate() -> None:
    swish = space("swish", 50)
    index = swish.count() * 2 // 3
    assert swish.index(swish[index]) == index


def test_unranking_is_quick() -> None:
    swish = space("swish", 3)
    rng = random.Random(0)
    places = [rng.randrange(swish.count()) for _ in range(200)]
    start = time.process_time()
    for index in places:
        swish[index]
    assert (time.process_time() - start) / len(places) < 0.005


def test_actbench_is_binary_over_unary_operators() -> None:
    actbench = space("actbench")
    binary = [name.partition(":")[2] for name in actbench.components if name.startswith("start:")]
    unary = [name.partition(":")[2] for name in actbench.components if name.startswith("unary:")]
    assert binary == "add sub mul div pow max min".split()
    assert (
        unary
        == (
            "zero one identity negative abs reciprocal square exp erf erfc sinh cosh tanh expm1 "
            "sigmoid log_sigmoid arcsinh arctan bessel_i0e bessel_i1e relu elu selu swish softplus "
            "softsign hard_sigmoid"
        ).split()
    )
    assert actbench.count() == 7 * 27 * 27 == 5_103
    assert actbench.units is None
    assert "min(square(x), selu(x))" in actbench
    assert len(set(actbench)) == 5_103


def test_the_named_space_holds_the_named_activations() -> None:
    named = space("named")
    by_name = {name.partition(":")[2]: i for i, name in enumerate(named.components)}
    assert len(named_activations()) >= 60
    for name, activation in named_activations().items():
        assert named.expression(by_name[name]) is activation.expression
        assert named.index(activation.text) == by_name[name]


def test_every_shipped_space_loads() -> None:
    assert {"actbench", "named", "swish"} <= set(space_names())
    for name in space_names():
        assert parse(space(name)[0])


def test_samples_are_uniform() -> None:
    trees = make(TREES, 3)
    counts = Counter(trees.sample_indices(30_000, seed=7))
    assert len(counts) == trees.count()
    assert chisquare([counts[i] for i in range(trees.count())]).pvalue > 1e-3


def test_samples_beyond_64_bits_are_uniform() -> None:
    swish = space("swish", 12)
    assert swish.count() > 2**128
    tenths = Counter(index * 10 // swish.count() for index in swish.sample_indices(5_000, seed=3))
    assert chisquare([tenths[i] for i in range(10)]).pvalue > 1e-3


def test_samples_are_seeded() -> None:
    swish = space("swish", 2)
    assert swish.sample(5, seed=1) == swish.sample(5, seed=1) != swish.sample(5, seed=2)
    assert swish.sample(5, seed=1) == [swish[i] for i in swish.sample_indices(5, seed=1)]
    assert swish.sample(0, seed=1) == []


def test_indices_outside_of_the_space() -> None:
    trees = make(TREES, 2)
    assert trees[-1] == trees[trees.count() - 1]
    assert trees[-trees.count()] == trees[0]
    for index in (trees.count(), -trees.count() - 1, 10**30):
        with pytest.raises(IndexError, match="indices 0 to"):
            trees[index]
        with pytest.raises(SpaceError):
            trees[index]


def test_len_is_exact_or_refused() -> None:
    huge = space("swish", 6)
    assert huge
    assert huge.count() > sys.maxsize
    with pytest.raises(OverflowError):
        len(huge)


def test_slices_are_lazy_views() -> None:
    swish = space("swish", 3)
    shard = swish[5 : 10**12 : 10**11]
    assert isinstance(shard, SpaceSlice)
    assert len(shard) == 10
    assert list(shard) == [swish[5 + k * 10**11] for k in range(10)]
    assert shard[3] == swish[5 + 3 * 10**11]
    assert shard.index(shard[3]) == 3
    assert list(shard[::-4]) == [shard[9], shard[5], shard[1]]
    assert shard[3] in shard
    assert swish[6] not in shard
    assert "tanh(x)" not in shard
    assert shard.count(shard[2]) == 1
    with pytest.raises(SpaceError, match="outside of the slice"):
        shard.index(swish[6])
    with pytest.raises(IndexError):
        shard[10]
    assert swish[:1]
    assert not swish[:0]


def test_shards_cover_the_space_once() -> None:
    trees = make(TREES, 3)
    shards = [trees[k::4] for k in range(4)]
    assert sorted(i for shard in shards for i in shard.indices) == list(range(len(trees)))


def test_blanks_do_not_matter() -> None:
    swish = space("swish")
    assert swish.index("  add ( x,\n\tx )") == swish.index("add(x,x)") == 0


def test_an_expression_has_an_index_if_its_text_is_a_sentence() -> None:
    actbench = space("actbench")
    index = actbench.index("max(tanh(x), 1)")
    assert actbench.index(parse("max(tanh(x), 1)")) == index
    assert space("swish").index(parse("max(_*x, tanh(x))")) >= 0  # printed as max(_1*x, tanh(x))
    with pytest.raises(SpaceError, match="only if its printed form is a sentence"):
        actbench.index(parse("tanh(x)"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tanh(x)", "found 'tanh', expected add"),
        ("add(x, x))", "expected the end"),
        ("add(x", "found the end, expected"),
        ("", "found the end, expected"),
        ("add(x ^ x)", "'^' is not part of the language"),
        ("add(x, add(x, x))", "has 2 units; the sentences of this space have 1"),
    ],
)
def test_texts_that_are_no_sentences(text: str, message: str) -> None:
    swish = space("swish")
    assert text not in swish
    with pytest.raises(SpaceError) as caught:
        swish.index(text)
    assert message in str(caught.value)


def test_other_objects_are_not_in_a_space() -> None:
    assert 3 not in space("swish")


def test_derivations_are_trees() -> None:
    swish = space("swish", 2)
    derivation = swish.derivation(swish.index("mul(tanh(add(x, _)), x)"))
    (unit,) = derivation.children
    assert (unit.production.label, unit.units) == ("mul", 2)
    left, right = unit.children
    assert (left.production.label, left.units) == ("tanh", 1)
    assert (right.production.label, right.units) == ("identity", 0)
    assert [p.number for p in derivation] == list(derivation.steps)
    assert derivation == swish.derivation(swish.index(derivation.sentence))
    assert derivation != swish.derivation(0)
    assert hash(derivation) == hash(swish.derivation(swish.rank(derivation)))
    assert derivation.sentence in repr(derivation)
    with pytest.raises(SpaceError, match="2 units"):
        space("swish", 1).rank(derivation)


def test_holes_are_independent_or_shared() -> None:
    text = "mix(_, _*x, (x + _))"
    independent, shared = space("swish"), space("swish", parameters="shared")
    index = independent.index(text)
    assert independent.expression(index) is parse(text)
    assert [p.name for p in independent.expression(index).parameters] == ["_1", "_2", "_3"]
    assert shared.expression(index) is parse("mix(beta, beta*x, (x + beta))")
    channels = space("swish", parameters="shared", scope="per channel")
    assert channels.expression(index).parameters == (Parameter("beta", scope="per channel"),)
    both = space("swish", scope="per channel").expression(index)
    assert {p.scope for p in both.parameters} == {"per channel"}
    assert [p.name for p in both.parameters] == ["_1", "_2", "_3"]


def test_named_parameters_keep_their_declaration() -> None:
    text = 'start: "alpha*x + _; alpha = 0.5, _ = 2.0 lr 0.1"'
    drawn = SearchSpace(text, parameters="shared", scope="per channel")
    alpha, beta = drawn.expression(0).parameters
    assert alpha is Parameter("alpha", 0.5)
    assert beta is Parameter("beta", 2.0, "per channel", learning_rate=0.1)


def test_spaces_pickle() -> None:
    drawn = space("swish", 2, parameters="shared", scope="per channel")
    drawn.walk()
    copy = pickle.loads(pickle.dumps(drawn))
    assert copy == drawn
    assert hash(copy) == hash(drawn)
    assert (copy.units, copy.parameters, copy.scope) == (2, "shared", "per channel")
    assert copy[123_456] == drawn[123_456]


def test_fingerprints_tell_spaces_apart() -> None:
    text = 'start: unit\nunit: "sin(" part ")" -> sine\npart: "x" | unit'
    same = text.replace("\n", "  // a comment\n\n")
    other = text.replace("sin(", "cos(")
    drawn = [
        SearchSpace(text),
        SearchSpace(text, units=2),
        SearchSpace(other),
        SearchSpace(text, parameters="shared"),
        SearchSpace(text, scope="per channel"),
    ]
    assert len({d.fingerprint for d in drawn}) == len(drawn)
    assert SearchSpace(same).fingerprint == drawn[0].fingerprint
    assert drawn[0] != "swish"
    assert "1 sentences" in repr(drawn[0])


def test_a_space_from_a_file_and_its_imports(tmp_path: Path) -> None:
    (tmp_path / "parts.lark").write_text('leaf: "x" | "tanh(x)"\nunused: "cos(x)"\n')
    path = tmp_path / "mine.lark"
    path.write_text('%import .parts.leaf\n%import common.WS\n%ignore WS\nstart: "2*" leaf\n')
    mine = space(path)
    assert mine.name == "mine"
    assert list(mine) == ["2*x", "2*tanh(x)"]
    assert space(str(path)) == mine
    assert pickle.loads(pickle.dumps(mine)) == mine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('start: ["-"] "x"', ["-x", "x"]),
        ('start: "-"? "x"', ["-x", "x"]),
        ('start: ("sin(" | "cos(") "x)"', ["sin(x)", "cos(x)"]),
        ('start: "x" "+x"~1..2', ["x + x", "x + x + x"]),
        ('F: "sin("\nstart: F "x" ")"', ["sin(x)"]),
        (
            'start: call{"max", a}\na: "x" | "1"\ncall{f, p}: f "(" p ", 0)"',
            ["max(x, 0)", "max(1, 0)"],
        ),
        ('start: "where(x<=0,-x,1e-3*x)"', ["where(x <= 0, -x, 1e-3*x)"]),
        (
            'start: "alpha*x;alpha=0.5 per channel lr 0.1"',
            ["alpha*x; alpha = 0.5 per channel lr 0.1"],
        ),
        ('start: "x-" "-x"', ["x - -x"]),
    ],
)
def test_what_lark_expands_finitely_is_supported(text: str, expected: list[str]) -> None:
    drawn = SearchSpace(text)
    assert list(drawn) == expected
    assert len(set(drawn.components)) == len(drawn.components)
    assert [drawn.index(s) for s in expected] == list(range(len(expected)))


def test_neither_torch_nor_sympy_is_loaded() -> None:
    code = (
        "import sys; from actsearch.grammar import space; space('swish', 2)[5]; "
        "sys.exit(bool({'torch', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", [search_space, walk])
def test_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
