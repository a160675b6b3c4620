"""The controllers' arithmetic: objectives, masks, log-probabilities, utilities."""

from __future__ import annotations

import math

import pytest
import torch

from actsearch.drivers import driver
from actsearch.drivers.controller import Controller
from actsearch.drivers.ppo import clipped_objective
from actsearch.grammar import SearchSpace, space


@pytest.fixture(scope="module")
def swish() -> SearchSpace:
    return space("swish", units=2)


def controller(name: str, searched: SearchSpace, seed: int = 0, **options: int) -> Controller:
    made = driver(name, searched, seed, **options)
    assert isinstance(made, Controller)
    return made


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize("ratio", [0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0])
def test_clipped_objective_is_equation_7(ratio: float, advantage: float) -> None:
    """min(r A, clip(r) A), and its gradient: nothing is gained by going further out."""
    ratios = torch.tensor([ratio], requires_grad=True)
    objective = clipped_objective(ratios, torch.tensor([advantage]), 0.2)
    expected = min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
    assert objective.item() == pytest.approx(expected)
    objective.sum().backward()  # type: ignore[no-untyped-call]
    saturated = ratio > 1.2 if advantage > 0 else ratio < 0.8
    assert ratios.grad is not None
    assert ratios.grad.item() == (0.0 if saturated else advantage)


def test_a_fresh_policy_is_uniform_over_what_is_allowed(swish: SearchSpace) -> None:
    player = controller("ppo", swish)
    for episode in player._sample(8):
        for allowed, log_probability in zip(
            episode.allowed, episode.log_probabilities, strict=True
        ):
            assert log_probability == pytest.approx(-math.log(len(allowed)), abs=1e-6)


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_sampled_log_probabilities_are_those_of_the_policy(name: str, swish: SearchSpace) -> None:
    """What sampling noted equals what the update computes, so PPO's first ratio is 1."""
    player = controller(name, swish, batch=4)
    for turn in range(12):
        player.tell(player.ask(), turn / 12)
    batch = player.policy.batch(player._sample(6))
    log_probabilities, entropies = player.policy.evaluate(batch)
    assert torch.allclose(log_probabilities, batch.sampled, atol=1e-5)
    assert torch.isfinite(entropies).all()
    assert (entropies >= 0).all()
    assert (entropies[batch.present == 0] == 0).all()


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_an_update_makes_good_candidates_likelier(name: str, swish: SearchSpace) -> None:
    player = controller(name, swish, batch=8)
    asked = [player.ask() for _ in range(8)]
    episodes = list(player._awaited)
    before = player.policy.batch(episodes).sampled.sum(1)
    for place, index in enumerate(asked):
        player.tell(index, 1.0 if place == 0 else 0.0)
    after = player.policy.evaluate(player.policy.batch(episodes))[0].sum(1)
    assert after[0] > before[0]


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_learning_does_not_depend_on_the_scale_of_rewards(name: str, swish: SearchSpace) -> None:
    def play(scale: float, shift: float) -> list[int]:
        player = controller(name, swish, batch=4)
        asked = []
        for _ in range(24):
            index = player.ask()
            asked.append(index)
            player.tell(index, shift + scale * math.sin(index))
        return asked

    assert play(1.0, 0.0) == play(1e-3, 0.98)


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_a_policy_does_not_end_in_repeats(name: str) -> None:
    """On a space of 18, rewarding one candidate alone, all 18 are proposed before any again."""
    text = (
        'start: unit\nunit: "max(" unary ", " unary ")" -> max '
        '| "mul(" unary ", " unary ")" -> mul\n'
        'unary: "x" -> identity | "sin(x)" -> sin | "_" -> parameter'
    )
    player = controller(name, SearchSpace(text, "tiny"), batch=4)
    asked = []
    for _ in range(18):
        index = player.ask()
        asked.append(index)
        player.tell(index, 1.0 if index == 7 else 0.0)
    assert sorted(asked) == list(range(18))


def test_torch_threads_are_given_back(swish: SearchSpace) -> None:
    before = torch.get_num_threads()
    player = controller("ppo", swish, batch=2)
    for _ in range(4):
        player.tell(player.ask(), 0.5)
    assert torch.get_num_threads() == before
