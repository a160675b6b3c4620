"""Mutation within a space: it stays there, it changes something, and it reaches everything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actsearch.grammar import SearchSpace, mutation, space
from actsearch.grammar.derivation import Derivation
from tests.grammar.space_oracle import CHAINS, FINITE, TREES, Rules, grammars, make

KINDS = [mutation._swap_operator, mutation._replace_subtree, mutation._hoist, mutation._exchange]


@pytest.mark.parametrize("units", [1, 2, 3, 8])
def test_a_mutant_is_another_sentence_of_the_space(units: int) -> None:
    swish = space("swish", units)
    rng = random.Random(units)
    index = 0
    for _ in range(200):
        mutant = swish.mutate(index, rng)
        assert mutant != index
        assert swish.index(swish[mutant]) == mutant
        index = mutant


@settings(max_examples=30)
@given(grammars(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_mutants_in_random_grammars(rules: Rules, units: int, rng: random.Random) -> None:
    drawn = make(rules, units)
    index = rng.randrange(drawn.count())
    for _ in range(10):
        mutant = drawn.mutate(index, rng)
        assert 0 <= mutant < drawn.count()
        assert (mutant != index) == (drawn.count() > 1)
        index = mutant


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("units", [1, 2, 4])
def test_each_kind_keeps_the_number_of_units(kind: object, units: int) -> None:
    swish = space("swish", units)
    rng = random.Random(0)
    applied = 0
    for index in swish.sample_indices(60, seed=1):
        steps = kind(swish.table, swish.derivation(index).steps, rng)  # type: ignore[operator]
        if steps is not None:
            applied += 1
            assert 0 <= swish.rank(Derivation(swish.grammar, steps)) < swish.count()
    # One unit holds no unit within it, so nothing can be hoisted there.
    assert (applied > 0) == (kind is not mutation._hoist or units > 1)


def test_what_each_kind_does() -> None:
    rng = random.Random(0)
    swish = space("swish", 2)
    steps = swish.derivation(swish.index("mul(tanh(add(x, sin(x))), x)")).steps

    def results(kind: object) -> set[str]:
        found = (kind(swish.table, steps, rng) for _ in range(400))  # type: ignore[operator]
        return {swish.grammar.render(mutant) for mutant in found if mutant is not None}

    assert "mul(erf(add(x, sin(x))), x)" in results(mutation._swap_operator)
    assert "mul(tanh(add(x, sin(x))), x**2)" in results(mutation._swap_operator)
    assert "mul(x, tanh(add(x, sin(x))))" in results(mutation._exchange)
    assert any(s.endswith("(add(x, sin(x))), x)") for s in results(mutation._replace_subtree))
    assert any("add(x, sin(x))" not in s for s in results(mutation._hoist))


@pytest.mark.parametrize(("rules", "units"), [(TREES, 2), (CHAINS, 3), (FINITE, None)])
def test_mutation_connects_the_space(rules: Rules, units: int | None) -> None:
    drawn = make(rules, units)
    rng = random.Random(5)
    reached = {0}
    index = 0
    for _ in range(200 * drawn.count()):
        index = drawn.mutate(index, rng)
        reached.add(index)
    assert reached == set(range(drawn.count()))


def test_the_four_kinds_alone_connect_a_space() -> None:
    drawn = make(TREES, 2)
    rng = random.Random(5)
    reached, steps = set(), drawn.derivation(0).steps
    for _ in range(100 * drawn.count()):
        steps = rng.choice(KINDS)(drawn.table, steps, rng) or steps
        reached.add(drawn.rank(Derivation(drawn.grammar, steps)))
    assert reached == set(range(drawn.count()))


def test_mutation_is_seeded() -> None:
    swish = space("swish", 2)
    first, second = random.Random(3), random.Random(3)
    assert [swish.mutate(7, first) for _ in range(20)] == [
        swish.mutate(7, second) for _ in range(20)
    ]


def test_a_space_of_one_sentence_has_no_mutants() -> None:
    drawn = SearchSpace('start: "sin(" inner ")"\ninner: "x"')
    assert drawn.mutate(0, random.Random(0)) == 0


def test_a_mutant_differs_even_if_fresh_subtrees_are_rarely_new() -> None:
    drawn = SearchSpace('start: "sin(" inner ")" | "x"\ninner: "x"')
    assert {drawn.mutate(0, random.Random(seed)) for seed in range(2_000)} == {1}
