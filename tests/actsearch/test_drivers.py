"""The contract that every driver keeps, and what single drivers promise beyond it."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from actsearch.drivers import DRIVERS, Asha, Driver, Rung, SpaceExhausted, UnknownDriver, driver
from actsearch.drivers.base import Space
from actsearch.drivers.component_model import BOLDNESS, NOISE, PRIOR, ComponentModel
from actsearch.drivers.exhaustive import Exhaustive
from actsearch.drivers.scores import normal_scores
from actsearch.grammar import SearchSpace, space
from actsearch.grammar.errors import UsageError

OPTIONS: dict[str, dict[str, Any]] = {
    "evolution": {"population": 10, "tournament": 3},
    "reinforce": {"batch": 5, "hidden": 8},
    "ppo": {"batch": 5, "hidden": 8, "epochs": 2},
    "pqt": {"batch": 5, "hidden": 8},
    "surrogate": {"initial": 5, "batch": 3, "pool": 8},
}
TINY = """
start: unit
unit: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
unary: "x" -> identity | "sin(x)" -> sin | "_" -> parameter
"""

RUNGS = (Rung(None, 1), Rung(None, 2), Rung(None, 4))
HALVED = [f"{name} with asha" for name in ("random", "evolution", "ppo", "surrogate")]

every_driver = pytest.mark.parametrize("name", [*DRIVERS, *HALVED])


@pytest.fixture(scope="module")
def swish() -> SearchSpace:
    return space("swish", units=2)


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    return SearchSpace(TINY, "tiny")


def make(name: str, searched: Space, seed: int = 0) -> Driver:
    inner = name.removesuffix(" with asha")
    made = driver(inner, searched, seed, **OPTIONS.get(inner, {}))
    return made if inner == name else Asha(made, RUNGS)


def reward_of(index: int) -> float | None:
    """Some number that has to do with the index; every seventh candidate fails."""
    return None if index % 7 == 0 else random.Random(index).random()


def play(player: Driver, turns: int, window: int = 3) -> list[int]:
    """Ask `turns` times, telling each reward `window` asks later."""
    asked: list[int] = []
    told = 0
    for _ in range(turns):
        asked.append(player.ask())
        if len(asked) - told >= window:
            player.tell(asked[told], reward_of(asked[told]))
            told += 1
    for index in asked[told:]:
        player.tell(index, reward_of(index))
    return asked


@every_driver
def test_same_seed_same_proposals(name: str, swish: SearchSpace) -> None:
    assert play(make(name, swish, 5), 60) == play(make(name, swish, 5), 60)


@every_driver
def test_other_seed_other_proposals(name: str, swish: SearchSpace) -> None:
    if name != "exhaustive":
        assert play(make(name, swish, 5), 30) != play(make(name, swish, 6), 30)


@every_driver
@pytest.mark.parametrize("turns", [0, 3, 17, 40])
def test_state_goes_through_json_exactly(name: str, turns: int, swish: SearchSpace) -> None:
    original = make(name, swish, 1)
    waiting = [original.ask() for _ in range(4)]  # the state is taken with results outstanding
    play(original, turns)
    text = json.dumps(original.state_dict(), allow_nan=False)
    restored = make(name, swish, 99)
    restored.load_state_dict(json.loads(text))
    assert json.dumps(restored.state_dict()) == text
    for player in (original, restored):
        for index in waiting:
            player.tell(index, reward_of(index))
    assert play(original, 40) == play(restored, 40)
    assert json.dumps(original.state_dict()) == json.dumps(restored.state_dict())


@every_driver
def test_proposals_lie_in_the_space(name: str, tiny: SearchSpace) -> None:
    """Until it ends, which it may only when everything has been proposed."""
    player = make(name, tiny)
    asked = set()
    for _ in range(200):
        try:
            index = player.ask()
        except SpaceExhausted:
            assert asked == set(range(tiny.count()))
            return
        asked.add(index)
        player.tell(index, reward_of(index))
    assert asked <= set(range(tiny.count()))


@every_driver
def test_accepts_nothing_but_failures(name: str, swish: SearchSpace) -> None:
    player = make(name, swish)
    for _ in range(40):
        player.tell(player.ask(), None)
    assert 0 <= player.ask() < swish.count()


@every_driver
def test_accepts_equal_rewards(name: str, swish: SearchSpace) -> None:
    player = make(name, swish)
    for _ in range(40):
        player.tell(player.ask(), 0.5)


@every_driver
def test_many_asks_before_the_first_tell(name: str, swish: SearchSpace) -> None:
    player = make(name, swish)
    asked = [player.ask() for _ in range(50)]
    for index in reversed(asked):
        player.tell(index, reward_of(index))
    assert 0 <= player.ask() < swish.count()


@every_driver
def test_refuses_what_was_not_asked(name: str, swish: SearchSpace) -> None:
    player = make(name, swish)
    index = player.ask()
    with pytest.raises(ValueError, match="not awaiting"):
        player.tell(index + 1, 0.5)
    player.tell(index, 0.5)
    with pytest.raises(ValueError, match="not awaiting"):
        player.tell(index, 0.5)


@every_driver
@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_refuses_rewards_that_are_no_numbers(name: str, reward: float, swish: SearchSpace) -> None:
    player = make(name, swish)
    index = player.ask()
    with pytest.raises(ValueError, match="finite"):
        player.tell(index, reward)
    player.tell(index, None)


@every_driver
def test_learns_from_what_it_did_not_propose(name: str, swish: SearchSpace) -> None:
    """Exactly, and through its state; what it then proposes depends on nothing else."""
    original, again = make(name, swish, 2), make(name, swish, 2)
    for player in (original, again):
        for index in range(100, 140):
            player.observe(index, reward_of(index))
        for index in (100, 101, 999):
            player.revise(index, 0.5)
        player.revise(102, None)
    restored = make(name, swish, 7)
    restored.load_state_dict(json.loads(json.dumps(original.state_dict(), allow_nan=False)))
    assert play(original, 40) == play(again, 40) == play(restored, 40)
    with pytest.raises(ValueError, match="finite"):
        original.observe(3, float("nan"))


@pytest.mark.parametrize("name", ["evolution", "pqt", "surrogate"])
def test_what_was_observed_is_built_upon(name: str, swish: SearchSpace) -> None:
    """Told that only candidates with a part are good, a driver proposes that part more often."""
    options = {"surrogate": {"pool": 60, "initial": 1}, "evolution": {"population": 10}}
    player = driver(name, swish, 0, **options.get(name, {"batch": 5, "hidden": 32}))
    found = swish.sample_indices(4000, 3)
    good = [k for k in found if swish[k].startswith("max(sin(")][:10]
    bad = [k for k in found if not swish[k].startswith("max(")][:20]
    for index in bad:
        player.observe(index, 0.1)
    for index in good:
        player.observe(index, 0.9)
    asked = []
    for _ in range(60):
        asked.append(player.ask())
        player.tell(asked[-1], None)
    assert not set(asked) & set(good + bad)
    share = sum(swish[index].startswith("max(") for index in asked) / len(asked)
    assert share > 0.2, "one in ten by chance"


@every_driver
def test_refuses_another_drivers_state(name: str, swish: SearchSpace) -> None:
    state = make(name, swish).state_dict() | {"driver": "oracle"}
    with pytest.raises(ValueError, match="oracle"):
        make(name, swish).load_state_dict(state)


@every_driver
def test_larger_spaces_than_64_bits(name: str) -> None:
    huge = space("swish", units=6)
    assert huge.count() > 2**64
    asked = play(make(name, huge), 30)
    assert all(0 <= index < huge.count() for index in asked)


@every_driver
def test_a_space_of_one(name: str) -> None:
    single = SearchSpace('start: "x" -> identity', "single")
    if name.split()[0] in ("reinforce", "ppo", "pqt"):
        with pytest.raises(UsageError, match="nothing to choose"):
            make(name, single)
        return
    player = make(name, single)
    assert player.ask() == 0
    with pytest.raises(SpaceExhausted):
        player.ask()


@pytest.mark.parametrize("name", [n for n, kind in DRIVERS.items() if not kind.repeats])
def test_covers_everything_exactly_once(name: str, tiny: SearchSpace) -> None:
    player = make(name, tiny, 3)
    assert sorted(play(player, tiny.count())) == list(range(tiny.count()))
    with pytest.raises(SpaceExhausted, match="all 18 candidates"):
        player.ask()


def test_exhaustive_keeps_the_order_of_the_space(tiny: SearchSpace) -> None:
    assert play(driver("exhaustive", tiny), 18) == list(range(18))


def test_shuffled_order_is_uniform() -> None:
    """All 3! orders of a space of three come equally often, within 4.5 standard deviations."""
    three = SearchSpace('start: "x" -> a | "sin(x)" -> b | "cos(x)" -> c', "three")
    orders = Counter(tuple(play(Exhaustive(three, s, shuffle=True), 3)) for s in range(1200))
    assert len(orders) == 6
    assert all(abs(count - 200) < 4.5 * (1200 / 6 * 5 / 6) ** 0.5 for count in orders.values())


def test_evolution_lets_the_oldest_die(swish: SearchSpace) -> None:
    player = driver("evolution", swish, population=4, tournament=4)
    first = player.ask()
    player.tell(first, 100.0)
    while (index := player.ask()) is not None and len(player.state_dict()["living"]) < 4:
        player.tell(index, 0.0)
    assert [first, 100.0] in player.state_dict()["living"]
    player.tell(index, 0.0)
    assert [first, 100.0] not in player.state_dict()["living"]


def test_evolution_breeds_from_the_winner(swish: SearchSpace) -> None:
    """With a tournament of everybody, children are mutations of the best."""

    class Recorder(SearchSpace):
        def mutate(self, index: int, rng: random.Random) -> int:
            parents.append(index)
            return super().mutate(index, rng)

    parents: list[int] = []
    recorder = Recorder(swish.text, "swish", 2)
    player = driver("evolution", recorder, population=5, tournament=5)
    asked = [player.ask() for _ in range(5)]
    for place, index in enumerate(asked):
        player.tell(index, 1.0 if place == 2 else 0.0)
    player.ask()
    assert parents[0] == asked[2]


def test_worth_of_components_is_a_posterior() -> None:
    """Against the conditional distribution of the joint Gaussian of worths and scores."""
    rng = np.random.default_rng(0)
    walks = [rng.integers(0, 5, size=4).tolist() for _ in range(12)]
    rewards: list[float | None] = [*rng.normal(size=11).tolist(), None]
    model = ComponentModel(5)
    for walk in walks:
        model.add(walk)
    counts = np.array([[walk.count(k) for k in range(5)] for walk in walks], dtype=float)
    gain = PRIOR * counts.T @ np.linalg.inv(PRIOR * counts @ counts.T + NOISE * np.eye(12))
    mean = gain @ normal_scores(rewards)
    covariance = PRIOR * (np.eye(5) - gain @ counts)
    source = random.Random(0)
    draws = np.array([model.draw(rewards, source) for _ in range(4000)])
    assert np.abs(draws.mean(0) - mean).max() < 4.5 * BOLDNESS * (PRIOR / 4000) ** 0.5
    assert np.abs(np.cov(draws.T) / BOLDNESS**2 - covariance).max() < 0.1 * PRIOR
    assert model.best([[0, 0], [3, 3], [1]], np.array([0.0, 0.5, 0, 0.4, 9])) == 1


def test_litters_are_chosen_by_what_their_components_did(swish: SearchSpace) -> None:
    """Where tanh alone is rewarded, a litter's choice has it more often than single children."""
    tanh = swish.components.index("unary:tanh")

    def found(litter: int) -> int:
        player = driver("evolution", swish, 1, litter=litter)
        total = 0
        for _ in range(120):
            index = player.ask()
            count = swish.walk_of(index).count(tanh)
            total += count
            player.tell(index, float(count > 0))
        return total

    assert found(8) > 1.5 * found(1)


def test_unknown_names_propose_the_nearest(swish: SearchSpace) -> None:
    with pytest.raises(UnknownDriver, match="did you mean 'evolution'"):
        driver("evolutoin", swish)
    with pytest.raises(UnknownDriver, match="did you mean 'population'"):
        driver("evolution", swish, populaton=3)
    with pytest.raises(UnknownDriver, match="did you mean 'entropy'"):
        driver("ppo", swish, entropi=3)
    with pytest.raises(UsageError, match="tournament"):
        driver("evolution", swish, population=3, tournament=4)
    with pytest.raises(UsageError, match="litter"):
        driver("evolution", swish, litter=0)
