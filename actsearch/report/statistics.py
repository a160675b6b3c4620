"""Which functions are better than which, as far as the seeds tell.

Children of equal seed start from the same weights and see the same batches, so functions are
compared by the paired differences of their seeds. With five seeds a difference's own variance is a
poor estimate; it is moderated across all pairs of the leaderboard (Smyth 2004, "Linear models and
empirical Bayes methods", section 6), which keeps the error rate and finds several times as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05
"""Probability of claiming anything false on a leaderboard: for its order, and once more for its
comparisons with the baselines."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """The metric of one function over its seeds.

    Attributes:
        mean: over the seeds.
        stderr: standard error of the mean, None with one seed.
        seeds: how many there are.
        metrics: the metric by seed; empty where only the summary is known.
    """

    mean: float
    stderr: float | None
    seeds: int
    metrics: Mapping[Any, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """How far one function's mean lies above another's.

    Attributes:
        mean: estimated difference.
        stderr: its standard error, None where there are too few seeds to know.
        freedom: degrees of freedom of the standard error (math.inf: as good as known).
        test: "paired" (moderated t), "Welch" (means of independent seeds) or "none".
    """

    mean: float
    stderr: float | None = None
    freedom: float = 0.0
    test: str = "none"

    def __neg__(self) -> Difference:
        return replace(self, mean=-self.mean)

    @property
    def p_greater(self) -> float:
        """One-sided p-value of "not above": small where the first function is better."""
        from scipy.special import ndtr, stdtr

        if not self.stderr:  # without variation there is nothing to measure a difference against
            return 1.0
        t = self.mean / self.stderr
        return float(ndtr(-t) if math.isinf(self.freedom) else stdtr(self.freedom, -t))

    @property
    def p_different(self) -> float:
        """Two-sided p-value of "equal"."""
        return min(1.0, 2 * min(self.p_greater, (-self).p_greater))


def differences(samples: Sequence[Sample]) -> dict[tuple[int, int], Difference]:
    """All pairwise differences, `[i, j]` being how far sample i lies above sample j.

    Pairs with two or more seeds in common are compared by those seeds; other pairs by Welch's test
    where both have a standard error.
    """
    pairs: dict[tuple[int, int], tuple[float, float, int]] = {}
    found: dict[tuple[int, int], Difference] = {}
    for i, j in combinations(range(len(samples)), 2):
        common = sorted(samples[i].metrics.keys() & samples[j].metrics.keys())
        if len(common) >= 2:
            gaps = np.array([samples[i].metrics[s] - samples[j].metrics[s] for s in common])
            pairs[i, j] = float(gaps.mean()), float(gaps.var(ddof=1)), len(common)
        else:
            found[i, j] = _welch(samples[i], samples[j])
    if pairs:
        means, variances, counts = (
            np.array(column) for column in zip(*pairs.values(), strict=True)
        )
        sizes = sorted(len(sample.metrics) for sample in samples if sample.metrics)
        variances, freedoms = moderate(variances, counts - 1.0, sum(sizes[:-1]) - len(sizes[:-1]))
        errors = np.sqrt(variances / counts)
        for pair, mean, error, freedom in zip(pairs, means, errors, freedoms, strict=True):
            found[pair] = Difference(float(mean), float(error), float(freedom), "paired")
    return found | {(j, i): -difference for (i, j), difference in found.items()}


def _welch(a: Sample, b: Sample) -> Difference:
    """Welch's unequal-variance comparison, from the summaries."""
    gap = a.mean - b.mean
    if a.stderr is None or b.stderr is None:
        return Difference(gap)
    squares = a.stderr**2, b.stderr**2
    total = sum(squares)
    if total == 0.0:
        return Difference(gap, 0.0, a.seeds + b.seeds - 2.0, "Welch")
    spread = squares[0] ** 2 / (a.seeds - 1) + squares[1] ** 2 / (b.seeds - 1)
    return Difference(gap, math.sqrt(total), total**2 / spread, "Welch")


def moderate(variances: Floats, freedoms: Floats, most: float) -> tuple[Floats, Floats]:
    """Variances drawn towards their common value, as far as they look alike.

    Args:
        variances: sample variances of one kind of quantity.
        freedoms: degrees of freedom of each.
        most: degrees of freedom of all the data together; no moderated variance gets more.

    Returns:
        The moderated variances and their degrees of freedom. Unchanged below three variances that
        are not 0, or where they differ as much as unrelated ones would.
    """
    from scipy.special import digamma, polygamma

    positive = variances > 0
    if positive.sum() < 3:
        return variances, freedoms
    halves = freedoms[positive] / 2
    logs = np.log(variances[positive]) - digamma(halves) + np.log(halves)
    excess = float(logs.var(ddof=1) - polygamma(1, halves).mean())
    if excess <= 0:
        prior_freedom, prior = math.inf, math.exp(float(logs.mean()))
        moderated = np.full_like(variances, prior)
    else:
        half = _inverse_trigamma(excess)
        prior_freedom = 2 * half
        prior = math.exp(float(logs.mean() + digamma(half)) - math.log(half))
        weighted = prior_freedom * prior + freedoms * variances
        moderated = weighted / (prior_freedom + freedoms)
    return moderated, np.minimum(prior_freedom + freedoms, np.maximum(most, freedoms))


def _inverse_trigamma(value: float) -> float:
    """The y > 0 with trigamma(y) = value, by Newton's method on its reciprocal, which is convex."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-10 * y:
            break
    return y


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down procedure (1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def told_apart(found: Mapping[tuple[int, int], Difference]) -> set[tuple[int, int]]:
    """The pairs (better, worse) that differ at `SIGNIFICANCE`, corrected for all pairs together."""
    pairs = [pair for pair in found if pair[0] < pair[1]]
    adjusted = holm([found[pair].p_different for pair in pairs])
    return {
        (i, j) if found[i, j].mean > 0 else (j, i)
        for (i, j), p in zip(pairs, adjusted, strict=True)
        if p <= SIGNIFICANCE
    }


def rank_ranges(count: int, better: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each of `count` functions, the best and the worst rank that it can have.

    All true ranks lie within their ranges with probability 1 - `SIGNIFICANCE` at least (Mogstad,
    Romano, Shaikh and Wilhelm 2024, "Inference for ranks").
    """
    above = [sum((j, i) in better for j in range(count)) for i in range(count)]
    below = [sum((i, j) in better for j in range(count)) for i in range(count)]
    return [(1 + above[i], count - below[i]) for i in range(count)]


def ordered_groups(count: int, better: set[tuple[int, int]]) -> list[int]:
    """For each of `count` functions, best mean first, its group, counted from 1.

    A new group begins where every function above is known to be better than every one below. So
    the order of groups is certain, and that within a group is not.
    """
    groups = []
    group = 1
    for i in range(count):
        if i and all((a, b) in better for a in range(i) for b in range(i, count)):
            group += 1
        groups.append(group)
    return groups
