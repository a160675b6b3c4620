"""Successive halving: who is promoted when, what the noise has to do with it, and that it pays."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from actsearch.drivers import Asha, Driver, Rung, SpaceExhausted, driver, parse_rungs
from actsearch.grammar import SearchSpace, space
from actsearch.grammar.errors import UsageError

SEEDS = (Rung(None, 1), Rung(None, 2), Rung(None, 4))


@pytest.fixture(scope="module")
def swish() -> SearchSpace:
    return space("swish", units=2)


def halving(searched: SearchSpace, rungs: tuple[Rung, ...] = SEEDS, seed: int = 0) -> Asha:
    return Asha(driver("random", searched, seed), rungs)


def test_the_best_third_of_a_rung_is_promoted(swish: SearchSpace) -> None:
    """Without a measurement of the noise that is all; rewards are told one by one."""
    player = halving(swish)
    reward: dict[int, float] = {}
    seen: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    rng = random.Random(0)
    for _ in range(200):
        index, rung = player.ask(), player.rung
        assert index not in seen[rung]
        assert rung == 0 or index in seen[rung - 1]
        seen[rung].add(index)
        reward.setdefault(index, rng.random())
        player.tell(index, reward[index])
        for below in (0, 1):
            best = sorted(seen[below], key=reward.__getitem__, reverse=True)
            waiting = set(best[: len(best) // 3]) - seen[below + 1]
            assert len(waiting) <= 3, "the best do not wait long for their promotion"
    assert len(seen[1]) >= len(seen[0]) // 3 > 30
    assert len(seen[2]) >= len(seen[1]) // 3


def test_a_promotion_comes_before_a_new_candidate(swish: SearchSpace) -> None:
    player = halving(swish)
    asked = [player.ask() for _ in range(3)]
    assert player.rung == 0
    for index, reward in zip(asked, (0.1, 0.9, 0.5), strict=True):
        player.tell(index, reward)
    assert (player.ask(), player.rung) == (asked[1], 1)
    assert player.ask() not in asked
    assert player.rung == 0


def test_a_failure_is_never_promoted(swish: SearchSpace) -> None:
    player = halving(swish)
    for _ in range(60):
        index = player.ask()
        assert player.rung == 0
        player.tell(index, None)


def test_a_duplicate_takes_no_place_on_a_rung(swish: SearchSpace) -> None:
    player = halving(swish)
    index = player.ask()
    player.tell(index, 0.9)
    for _ in range(30):
        index = player.ask()
        assert player.rung == 0
        player.tell_known(index, 0.9)


def measured(player: Asha, deviation: float, seeds: int = 4) -> None:
    """Twenty functions outside of the search with this residual deviation between their seeds."""
    rng = random.Random(1)
    effects = [rng.gauss(0, 5) for _ in range(seeds)]  # what a seed does to all says nothing
    player.calibrate(
        {
            str(k): {s: effects[s] + 3 * k + rng.gauss(0, deviation) for s in range(seeds)}
            for k in range(20)
        }
    )


@pytest.mark.parametrize("deviation", [0.01, 0.3, 2.0])
def test_the_noise_is_what_is_left_between_seeds(deviation: float, swish: SearchSpace) -> None:
    """57 degrees of freedom give it within 30 %, although the seeds' own effects are about 5."""
    player = halving(swish)
    assert player.noise(None) is None
    measured(player, deviation)
    found = player.noise(None)
    assert found == pytest.approx(deviation, rel=0.3)
    assert player.noise(100) == found, "where nothing is known, what is known elsewhere"


@pytest.mark.parametrize(("deviation", "promoted"), [(1e-6, False), (0.2, True)])
def test_what_is_told_to_be_worse_is_not_promoted(
    deviation: float, promoted: bool, swish: SearchSpace
) -> None:
    """The second best of six, 0.1 below the best: it may be better where the noise is 0.2."""
    player = halving(swish)
    measured(player, deviation)
    asked = [player.ask() for _ in range(6)]
    for index, reward in zip(asked, (0.1, 0.9, 0.5, 0.8, 0.2, 0.3), strict=True):
        player.tell(index, reward)
    assert (player.ask(), player.rung) == (asked[1], 1)
    second = player.ask()
    assert (second == asked[3] and player.rung == 1) == promoted


class Recorder(Driver):
    """Proposes anything, and remembers what it is told later."""

    name = "recorder"

    def __init__(self, searched: SearchSpace) -> None:
        super().__init__(searched, 0)
        self.revised: dict[int, float | None] = {}

    def _propose(self) -> int:
        return self.random.randrange(self.space.count())

    def _revise(self, index: int, reward: float | None) -> None:
        self.revised[index] = reward


def test_the_driver_learns_better_estimates_on_its_own_scale(swish: SearchSpace) -> None:
    """Four times the steps give 0.2 more on average: that says nothing about a function."""
    recorder = Recorder(swish)
    player = Asha(recorder, (Rung(100, 1), Rung(None, 1), Rung(None, 2)))
    first: dict[int, float] = {}
    for turn in range(120):
        index, rung = player.ask(), player.rung
        first.setdefault(index, random.Random(turn).random())
        player.tell(index, first[index] + (0.2 if rung else 0.0))
    assert len(recorder.revised) > 20
    assert all(v == pytest.approx(first[index]) for index, v in recorder.revised.items())
    index = player.ask()
    while player.rung == 0:
        player.tell(index, 2.0)
        index = player.ask()
    player.tell(index, None)
    assert recorder.revised[index] is None, "one that fails with more steps is no good"


def test_a_space_that_is_exhausted_is_still_promoted_in() -> None:
    small = SearchSpace("start: " + " | ".join(f'"{n}*x" -> a{n}' for n in range(9)), "small")
    player = halving(small)
    asked = [player.ask() for _ in range(9)]
    with pytest.raises(SpaceExhausted):
        player.ask()
    for index in asked:
        player.tell(index, index / 10)
    assert [(player.ask(), player.rung) for _ in range(3)] == [(8, 1), (7, 1), (6, 1)]


def test_rungs_are_written_as_steps_times_seeds(swish: SearchSpace) -> None:
    assert parse_rungs("100x1, fullx1,fullx4") == (Rung(100, 1), Rung(None, 1), Rung(None, 4))
    assert ",".join(map(str, parse_rungs("100x1,fullx2"))) == "100x1,fullx2"
    for wrong in ("", "100", "100x1", "ax1,fullx1", "fullx1,100x1", "fullx2,fullx1", "0x1,fullx1"):
        with pytest.raises(UsageError):
            parse_rungs(wrong)
    with pytest.raises(UsageError, match="2 or more"):
        Asha(driver("random", swish), SEEDS, reduction=1)


# whether it pays


class Bench:
    """A made-up task: a candidate has a true value, and every seed adds noise of its own."""

    def __init__(self, seed: int, noise: float) -> None:
        self.seed, self.noise = seed, noise
        self.spent = 0

    def true(self, index: int) -> float:
        return random.Random(f"{self.seed}/{index}").gauss(0, 1)

    def metric(self, index: int, seed: int) -> float:
        self.spent += 1
        luck = random.Random(f"{self.seed}/{index}/{seed}").gauss(0, self.noise)
        return self.true(index) + random.Random(f"{self.seed}//{seed}").gauss(0, 3) + luck

    def plain(self, player: Driver, budget: int) -> float:
        """The true value of the candidate with the highest reward, one seed each."""
        best = (-math.inf, 0)
        while self.spent < budget:
            index = player.ask()
            reward = self.metric(index, 0)
            player.tell(index, reward)
            best = max(best, (reward, index))
        return self.true(best[1])

    def halved(self, player: Asha, budget: int) -> float:
        """The same with rungs: of the highest rung that is reached, the best mean."""
        metrics: dict[int, dict[int, float]] = {}
        best = (-1, -math.inf, 0)
        while self.spent < budget:
            index, rung = player.ask(), player.rung
            held = metrics.setdefault(index, {})
            for seed in range(len(held), player.rungs[rung].seeds):
                held[seed] = self.metric(index, seed)
            reward = fmean(held.values())
            player.tell(index, reward, held)
            best = max(best, (rung, reward, index))
        return self.true(best[2])


@pytest.mark.parametrize(("noise", "gain"), [(1.0, 0.25), (2.0, 0.5)])
def test_with_noise_it_finds_better_functions_for_the_same_steps(
    noise: float, gain: float, swish: SearchSpace
) -> None:
    """Forty paired runs of 300 trainings; the mean gain is four standard errors above nothing."""
    rungs = (Rung(None, 1), Rung(None, 2), Rung(None, 4), Rung(None, 8))
    gains = []
    for seed in range(40):
        plain, halved = Bench(seed, noise), Bench(seed, noise)
        found = halved.halved(halving(swish, rungs, seed), 300)
        gains.append(found - plain.plain(driver("random", swish, seed), halved.spent))
        assert plain.spent == halved.spent
    mean = fmean(gains)
    error = math.sqrt(fmean((g - mean) ** 2 for g in gains) / (len(gains) - 1))
    assert mean > gain
    assert mean > 4 * error


def test_without_noise_it_costs_little(swish: SearchSpace) -> None:
    """Nearly all steps go to new candidates: the noise that it measures tells the others apart."""
    player = halving(swish)
    Bench(0, 1e-3).halved(player, 300)
    assert len(player.state_dict()["rewards"][0]) > 240
