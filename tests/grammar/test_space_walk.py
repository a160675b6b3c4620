"""Walking through a grammar: the masks leave no dead end and hide no sentence."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actsearch.grammar import SearchSpace, SpaceError, space
from actsearch.grammar.walk import Walker
from tests.grammar.space_oracle import CHAINS, FINITE, LEFT_RECURSIVE, TREES, Rules, grammars, make


def random_walk(drawn: SearchSpace, rng: random.Random) -> tuple[Walker, list[int]]:
    walker, choices = drawn.walk(), []
    while not walker.finished:
        allowed = np.flatnonzero(walker.allowed)
        assert allowed.size > 0, "a dead end"
        choices.append(int(rng.choice(allowed)))
        walker.choose(choices[-1])
    return walker, choices


@pytest.mark.parametrize("units", [1, 2, 5, 20])
def test_random_walks_end_with_the_exact_number_of_units(units: int) -> None:
    swish = space("swish", units)
    rng = random.Random(units)
    for _ in range(40):
        walker, choices = random_walk(swish, rng)
        assert walker.derivation.units == units
        assert len(choices) <= swish.max_steps
        assert swish.index(walker.sentence) == walker.index
        assert swish[walker.index] == walker.sentence
        assert swish.walk_of(walker.index) == choices
        assert not walker.allowed.any()


@settings(max_examples=40)
@given(grammars(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_random_grammars_have_no_dead_ends(rules: Rules, units: int, rng: random.Random) -> None:
    drawn = make(rules, units)
    for _ in range(3):
        walker, choices = random_walk(drawn, rng)
        assert drawn.walk_of(walker.index) == choices


@pytest.mark.parametrize(
    ("rules", "units"), [(TREES, 2), (TREES, 3), (CHAINS, 4), (LEFT_RECURSIVE, 3), (FINITE, None)]
)
def test_walks_reach_every_sentence_once(rules: Rules, units: int | None) -> None:
    drawn = make(rules, units)
    reached: list[int] = []
    longest = 0
    pending: list[list[int]] = [[]]
    while pending:
        choices = pending.pop()
        walker = drawn.walk()
        for component in choices:
            walker.choose(component)
        if walker.finished:
            reached.append(walker.index)
            longest = max(longest, len(choices))
            assert drawn.walk_of(walker.index) == choices
        else:
            pending += [[*choices, int(k)] for k in np.flatnonzero(walker.allowed)]
    assert sorted(reached) == list(range(drawn.count()))
    assert longest == drawn.max_steps


def test_components_are_the_alternatives_of_rules_with_several() -> None:
    swish = space("swish")
    assert len(swish.components) == 37
    assert swish.components[0] == "unit:add"
    assert not any(name.startswith("start:") for name in swish.components)
    assert space("swish", 3).components == swish.components


def test_choices_that_are_not_allowed() -> None:
    walker = space("swish").walk()
    with pytest.raises(SpaceError, match="unary:sin cannot come next; one of unit:add, unit:mul"):
        walker.choose(space("swish").components.index("unary:sin"))
    with pytest.raises(SpaceError, match="37 components, so none is 37"):
        walker.choose(37)
    with pytest.raises(SpaceError, match="'unit' is still to be derived"):
        _ = walker.sentence
    with pytest.raises(SpaceError, match="not complete"):
        _ = walker.index
    finished, choices = random_walk(space("swish"), random.Random(0))
    with pytest.raises(SpaceError, match="the sentence is complete"):
        finished.choose(choices[-1])


def test_a_space_without_choices() -> None:
    drawn = SearchSpace('start: "sin(" inner ")"\ninner: "x"')
    walker = drawn.walk()
    assert walker.finished
    assert (walker.sentence, walker.index) == ("sin(x)", 0)
    assert (drawn.components, drawn.max_steps, drawn.walk_of(0)) == ((), 0, [])
