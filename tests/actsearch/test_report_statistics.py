"""Statistics of a report, against scipy, brute force and simulation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from actsearch.report.statistics import (
    Difference,
    Sample,
    _inverse_trigamma,
    differences,
    holm,
    moderate,
    ordered_groups,
    rank_ranges,
    told_apart,
)


def sample(values: Any, paired: bool = True) -> Sample:
    values = np.asarray(values, dtype=float)
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    metrics = dict(enumerate(values.tolist())) if paired else {}
    return Sample(float(values.mean()), error, len(values), metrics)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


def test_one_pair_is_a_paired_t_test(rng: np.random.Generator) -> None:
    a, b = rng.normal(0.6, 0.02, 5), rng.normal(0.58, 0.02, 5)
    found = differences([sample(a), sample(b)])
    expected = stats.ttest_rel(a, b, alternative="greater")
    assert found[0, 1].test == "paired"
    assert found[0, 1].p_greater == pytest.approx(expected.pvalue, rel=1e-9)
    assert found[1, 0].p_greater == pytest.approx(1 - expected.pvalue, rel=1e-9)
    assert found[0, 1].p_different == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found[0, 1].stderr == pytest.approx((a - b).std(ddof=1) / 5**0.5)


def test_only_common_seeds_are_paired() -> None:
    a = Sample(0.6, 0.1, 3, {1: 0.5, 2: 0.6, 3: 0.7})
    b = Sample(0.5, 0.1, 3, {2: 0.5, 3: 0.55, 4: 0.45})
    found = differences([a, b])[0, 1]
    assert found.mean == pytest.approx((0.1 + 0.15) / 2)
    assert found.freedom == 1


def test_without_common_seeds_it_is_welchs_test(rng: np.random.Generator) -> None:
    a, b = rng.normal(0.6, 0.02, 5), rng.normal(0.57, 0.05, 7)
    found = differences([sample(a, paired=False), sample(b, paired=False)])[0, 1]
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.test == "Welch"
    assert found.freedom == pytest.approx(expected.df)
    assert found.p_different == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("paired", [True, False])
def test_seeds_that_do_not_vary_prove_nothing(paired: bool) -> None:
    found = differences([sample([0.7, 0.7], paired), sample([0.5, 0.5], paired)])[0, 1]
    assert found.mean == pytest.approx(0.2)
    assert found.p_greater == found.p_different == 1.0


def test_one_seed_proves_nothing() -> None:
    found = differences([sample([0.9]), sample([0.5, 0.51, 0.52])])
    assert found[0, 1].test == "none"
    assert found[0, 1].p_greater == found[1, 0].p_greater == 1.0


def test_a_known_standard_error_gives_the_normal_distribution() -> None:
    found = Difference(1.96, 1.0, np.inf, "paired")
    assert found.p_different == pytest.approx(2 * stats.norm.sf(1.96))


def test_holm_is_the_closed_test_of_bonferroni(rng: np.random.Generator) -> None:
    for size in range(1, 7):
        p = rng.uniform(0, 0.2, size).tolist()
        subsets = [s for k in range(1, size + 1) for s in itertools.combinations(range(size), k)]
        closed = [
            min(1.0, max(len(s) * min(p[j] for j in s) for s in subsets if i in s))
            for i in range(size)
        ]
        assert holm(p) == pytest.approx(closed)
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_inverse_trigamma() -> None:
    for value in (1e-6, 1e-3, 0.1, 1.0, 10.0, 1e4):
        assert special.polygamma(1, _inverse_trigamma(value)) == pytest.approx(value, rel=1e-9)


def test_moderation_finds_the_prior(rng: np.random.Generator) -> None:
    prior_freedom, prior, freedom = 6.0, 4.0, 4.0
    true = prior_freedom * prior / rng.chisquare(prior_freedom, 20_000)
    observed = true * rng.chisquare(freedom, true.size) / freedom
    moderated, freedoms = moderate(observed, np.full(true.size, freedom), np.inf)
    expected = (prior_freedom * prior + freedom * observed) / (prior_freedom + freedom)
    assert freedoms[0] == pytest.approx(prior_freedom + freedom, rel=0.05)
    np.testing.assert_allclose(moderated, expected, rtol=0.05)
    assert np.mean((np.log(moderated / true)) ** 2) < np.mean(np.log(observed / true) ** 2) / 2


def test_moderation_pools_what_is_equal_and_leaves_what_is_few() -> None:
    same = np.full(6, 2.0)
    variances, freedoms = moderate(same, np.full(6, 4.0), 20.0)
    assert len(set(variances)) == 1
    assert freedoms.tolist() == [20.0] * 6
    few = np.array([1.0, 9.0, 0.0])
    variances, freedoms = moderate(few, np.full(3, 4.0), 8.0)
    assert variances.tolist() == few.tolist()
    assert freedoms.tolist() == [4.0] * 3


def _leaderboard(
    rng: np.random.Generator, means: Any, deviations: Any, seeds: int = 5
) -> list[Sample]:
    """Functions whose seeds share half of their variance, as those of real children do."""
    shared = rng.standard_normal(seeds)
    own = rng.standard_normal((len(means), seeds))
    noise = np.sqrt(0.5) * (shared + own) * np.asarray(deviations)[:, None]
    return [sample(values) for values in np.asarray(means)[:, None] + noise]


@pytest.mark.parametrize(
    "deviations", [[1.5] * 8, [1.3, 1.6, 2.0, 1.4, 2.4, 1.3, 3.1, 2.0]], ids=["equal", "unequal"]
)
def test_false_claims_are_rare(rng: np.random.Generator, deviations: list[float]) -> None:
    rounds = 300
    false = sum(
        bool(told_apart(differences(_leaderboard(rng, [60.0] * 8, deviations))))
        for _ in range(rounds)
    )
    assert false / rounds < 0.085  # 0.05, and what 300 rounds leave uncertain


def test_rank_ranges_hold_the_true_ranks_and_are_short(rng: np.random.Generator) -> None:
    means = [63.0, 62.5, 62.0, 61.4, 60.7, 60.4, 59.0, 58.1]
    rounds, held, plain, moderated = 100, 0, 0, 0
    for _ in range(rounds):
        samples = _leaderboard(rng, means, [1.5] * 8)
        better = told_apart(differences(samples))
        ranges = rank_ranges(8, better)
        held += all(low <= i + 1 <= high for i, (low, high) in enumerate(ranges))
        moderated += len(better)
        pairs = itertools.combinations(range(8), 2)
        p = [differences([samples[i], samples[j]])[0, 1].p_different for i, j in pairs]
        plain += sum(value <= 0.05 for value in holm(p))
    assert held / rounds > 0.93
    assert moderated > 2 * plain  # that is what moderation is for


def test_groups_are_ordered_for_certain(rng: np.random.Generator) -> None:
    for _ in range(30):
        means = np.sort(rng.uniform(50, 70, 8))[::-1]
        samples = sorted(_leaderboard(rng, means, rng.uniform(0.2, 3, 8)), key=lambda s: -s.mean)
        better = told_apart(differences(samples))
        groups = ordered_groups(8, better)
        assert groups[0] == 1
        assert all(b - a in (0, 1) for a, b in itertools.pairwise(groups))
        for i, j in itertools.combinations(range(8), 2):
            if groups[i] < groups[j]:
                assert (i, j) in better
        for i in range(1, 8):  # and as fine as that allows
            certain = all((a, b) in better for a in range(i) for b in range(i, 8))
            assert (groups[i] > groups[i - 1]) == certain


def test_ranks_without_and_with_an_order() -> None:
    assert rank_ranges(3, set()) == [(1, 3)] * 3
    assert ordered_groups(3, set()) == [1, 1, 1]
    chain = {(0, 1), (0, 2), (1, 2)}
    assert rank_ranges(3, chain) == [(1, 1), (2, 2), (3, 3)]
    assert ordered_groups(3, chain) == [1, 2, 3]
    assert rank_ranges(3, {(0, 2)}) == [(1, 2), (1, 3), (2, 3)]
    assert ordered_groups(3, {(0, 2)}) == [1, 1, 1]  # 1 is like 0 and like 2
    assert rank_ranges(0, set()) == []
    assert ordered_groups(0, set()) == []
