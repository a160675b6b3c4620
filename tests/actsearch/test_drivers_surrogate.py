"""The surrogate's parts, each against an oracle: features, Gaussian process, improvement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special

import actsearch as acts
from actsearch.codegen import gradient
from actsearch.drivers import driver
from actsearch.drivers.features import (
    CLASSES,
    POINTS,
    SAMPLES,
    SPREAD,
    _untrained,
    features,
    fisher_spectrum,
)
from actsearch.drivers.gaussian_process import GaussianProcess
from actsearch.drivers.scores import CUT, normal_scores
from actsearch.grammar import SearchSpace, as_expression, parse, space
from actsearch.grammar.errors import UsageError
from actsearch.grammar.evaluate import evaluate_numpy

Floats = NDArray[np.float64]


@pytest.mark.parametrize("text", ["x*sigmoid(beta*x); beta = 1.5", "exp(x)", "erf(x) - x**3"])
def test_values_and_slopes_are_those_of_the_function(text: str) -> None:
    expression = parse(text)
    found = features(expression)
    rng = np.random.default_rng(0)
    sample = rng.normal(0, SPREAD, 200_000)
    quantiles = np.quantile(sample, (np.arange(POINTS) + 0.5) / POINTS)
    values = {p.name: p.initial for p in expression.parameters}
    expected = np.arcsinh(evaluate_numpy(expression, {"x": quantiles, **values}))
    assert np.abs(found.values - expected).max() < 0.1 * (1 + np.abs(expected).max())
    slope = evaluate_numpy(gradient(expression)["x"], {"x": quantiles, **values})
    assert np.abs(found.slopes - np.arcsinh(slope)).max() < 0.2
    assert found.finite


def test_moments_are_expectations() -> None:
    """By a Monte Carlo mean over a million points."""
    x = np.random.default_rng(0).normal(size=1_000_000)
    values = np.tanh(x) + 0.5 * x
    slopes = 1 - np.tanh(x) ** 2 + 0.5
    expected = [
        values.mean(),
        values.std(),
        np.cbrt(((values - values.mean()) ** 3).mean()),
        math.sqrt((slopes**2).mean()),
        np.corrcoef(x, values)[0, 1],
    ]
    found = features(parse("tanh(x) + 0.5*x")).moments[:5]
    assert np.sinh(found)[[0, 1, 3, 4]] == pytest.approx(np.array(expected)[[0, 1, 3, 4]], abs=5e-3)
    assert abs(np.sinh(found[2])) < 0.02  # odd: no third moment


def test_equal_functions_have_one_key_and_others_another() -> None:
    same = ["x + sin(x)", "sin(x) + x", "x - sin(-x)", "0.5*(2*x + 2*sin(x))"]
    keys = {features(parse(text)).key for text in same}
    assert len(keys) == 1
    assert features(parse("x + sin(x) + 1e-3")).key not in keys


def test_freedom_is_the_gradient_for_the_parameters() -> None:
    expression = parse("x*sigmoid(beta*x) + gamma*x; beta = 1.5")
    slopes = gradient(expression)
    grid = SPREAD * special.ndtri((np.arange(POINTS) + 0.5) / POINTS)
    norms = np.hypot(*(evaluate_numpy(slopes[name], {"x": grid}) for name in ("beta", "gamma")))
    assert np.sinh(features(expression).freedom) == pytest.approx(norms, abs=1e-5)
    assert not features(parse("x*sigmoid(x)")).freedom.any()
    fixed, trained = features(parse("tanh(x)")), features(parse("tanh(beta*x)"))
    assert np.array_equal(fixed.values, trained.values)
    assert fixed.key != trained.key


@pytest.mark.parametrize("text", ["tanh(x)", "x*sigmoid(x)", "sin(x) + 0.3*x**2"])
def test_the_spectrum_is_that_of_the_fisher_information(text: str) -> None:
    """Against the whole matrix, from autograd through the network in float64."""
    x, (first, second, last) = _untrained()
    activation = acts.compile(text, backend="torch", dtype=torch.float64)
    weights = [torch.tensor(w, requires_grad=True) for w in (first, second, last)]
    biases = [torch.zeros(w.shape[1], dtype=torch.float64, requires_grad=True) for w in weights]
    fisher: Any = 0.0
    for row in torch.tensor(x):
        inner = activation(row @ weights[0] + biases[0])
        outer = activation(inner @ weights[1] + biases[1])
        likely = torch.log_softmax(outer @ weights[2] + biases[2], 0)
        for k in range(len(likely)):
            parts = torch.autograd.grad(likely[k], [*weights, *biases], retain_graph=True)
            g = torch.cat([part.reshape(-1) for part in parts])
            fisher = fisher + likely[k].exp().detach() * torch.outer(g, g) / len(x)
    exact = torch.linalg.eigvalsh(fisher).flip(0)[: SAMPLES * (CLASSES - 1)].numpy()
    found = np.exp(fisher_spectrum(parse(text)))
    assert found == pytest.approx(exact, rel=1e-4, abs=1e-8 * exact[0])


def test_functions_with_gaps_are_not_finite() -> None:
    for text in ("log(x)", "1/x", "sqrt(x)"):
        assert not features(parse(text)).finite or text == "1/x"
    assert features(parse("relu(x)")).finite
    assert all(np.isfinite(features(parse("log(x)")).values))


# the Gaussian process


def naive_kernel(blocks: list[Floats], others: list[Floats], weights: Floats) -> Floats:
    total = sum(
        math.exp(w) * ((a[:, None, :] - b[None, :, :]) ** 2).mean(2)
        for a, b, w in zip(blocks, others, weights, strict=False)
    )
    r = np.sqrt(5 * total)
    return np.asarray(math.exp(weights[-2]) * (1 + r + r**2 / 3) * np.exp(-r))


def some(count: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, 3)), rng.normal(size=(count, 5))]


WEIGHTS = np.array([0.3, -0.5, 0.2, math.log(0.1)])


def naive_posterior(
    blocks: list[Floats], values: Floats, others: list[Floats]
) -> tuple[Floats, Floats]:
    kernel = naive_kernel(blocks, blocks, WEIGHTS) + (0.1 + 1e-8) * np.eye(len(values))
    cross = naive_kernel(blocks, others, WEIGHTS)
    inverse = np.linalg.inv(kernel)
    means = cross.T @ inverse @ values
    return means, math.exp(0.2) - np.einsum("ij,ik,kj->j", cross, inverse, cross)


def test_the_posterior_is_the_textbook_formula() -> None:
    blocks, others = some(12, 0), some(7, 1)
    values = np.random.default_rng(2).normal(size=12)
    posterior = GaussianProcess(blocks, values, WEIGHTS).posterior(others)
    means, variances = naive_posterior(blocks, values, others)
    assert posterior.means == pytest.approx(means, abs=1e-9)
    assert posterior.variances == pytest.approx(variances, abs=1e-9)
    assert posterior.best == pytest.approx(naive_posterior(blocks, values, blocks)[0].max())


def test_an_imagined_observation_is_one_at_its_mean() -> None:
    """The same posterior as with that point among the observations."""
    blocks, others = some(12, 0), some(7, 1)
    values = np.random.default_rng(2).normal(size=12)
    posterior = GaussianProcess(blocks, values, WEIGHTS).posterior(others)
    believed = posterior.means[3]
    posterior.imagine(3)
    more = [np.vstack([b, o[3:4]]) for b, o in zip(blocks, others, strict=True)]
    means, variances = naive_posterior(more, np.append(values, believed), others)
    assert posterior.means == pytest.approx(means, abs=1e-6)
    assert posterior.variances == pytest.approx(variances, abs=1e-6)


def test_expected_improvement_is_an_expectation() -> None:
    posterior = GaussianProcess(some(12, 0), np.linspace(-1, 1, 12), WEIGHTS).posterior(some(5, 1))
    draws = np.random.default_rng(3).normal(size=(400_000, 1))
    sampled = posterior.means + np.sqrt(posterior.variances) * draws
    expected = np.maximum(sampled - posterior.best, 0).mean(0)
    assert posterior.expected_improvement() == pytest.approx(expected, abs=5e-3)


def test_fitting_finds_the_block_that_matters() -> None:
    blocks = some(120, 0)
    values = np.sin(2 * blocks[0][:, 0]) + 0.05 * np.random.default_rng(1).normal(size=120)
    process = GaussianProcess(blocks, (values - values.mean()) / values.std())
    process.fit()
    assert process.weights[0] > process.weights[1] + 1
    assert math.exp(process.weights[-1]) < 0.3


def test_scores_know_only_the_order() -> None:
    rewards = [0.1, None, 0.5, 0.9, 0.3, 0.7, None, 0.2, 0.4, 0.6]
    scores = normal_scores(rewards)
    assert scores.mean() == pytest.approx(0)
    assert scores.std() == pytest.approx(1)
    assert scores == pytest.approx(normal_scores([None if r is None else 10**r for r in rewards]))
    order = np.argsort([-1.0 if reward is None else reward for reward in rewards])
    assert all(np.diff(scores[order]) >= -1e-12)
    assert scores[1] == scores[6] == scores.min()
    assert np.sum(scores == scores.min()) == round(10 * CUT)
    assert not normal_scores([0.5, 0.5]).any()


# the driver


def test_it_finds_a_hidden_function_sooner_than_chance() -> None:
    """In a space of 6,250 names; the best of 60 proposals is nearer than the best of 300 random."""
    searched = space("swish", 1)
    grid = np.linspace(-3, 3, 61)
    target = evaluate_numpy(as_expression("x*tanh(x)"), {"x": grid})

    def reward(index: int) -> float:
        with np.errstate(all="ignore"):
            values = evaluate_numpy(searched.expression(index), {"x": grid})
            error = float(np.sqrt(np.mean((values - target) ** 2)))
        return 1 / (1 + error) if math.isfinite(error) else 0.0

    def best(name: str, seed: int, count: int) -> float:
        player = driver(name, searched, seed)
        found = []
        for _ in range(count):
            index = player.ask()
            found.append(reward(index))
            player.tell(index, found[-1])
        return max(found)

    learned = [best("surrogate", seed, 60) for seed in range(2)]
    drawn = [best("random", seed, 300) for seed in range(2)]
    assert np.mean(learned) > np.mean(drawn)


def test_equal_functions_are_proposed_once() -> None:
    """As long as there are others."""
    text = 'start: "x" -> a | "x + 0" -> b | "sin(x)" -> c | "log(x)" -> d | "-sin(-x)" -> e'
    tiny = SearchSpace(text, "tiny")
    player = driver("surrogate", tiny, initial=1)
    asked = []
    for _ in range(5):
        asked.append(player.ask())
        player.tell(asked[-1], float(asked[-1]))
    keys = [features(tiny.expression(index)).key for index in asked[:2]]
    assert len(set(keys)) == 2
    assert sorted(asked) == list(range(5))


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="batch is a whole number"):
        driver("surrogate", space("swish", 1), batch=0)
