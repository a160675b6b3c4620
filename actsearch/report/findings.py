"""The findings of the Swish paper, asked of this study's own data.

Ramachandran, Zoph and Le, *Searching for Activation Functions* (2017, arXiv 1710.05941), section 3,
report what good functions have in common: simplicity, the form b(x, g(x)), periodic parts, and no
division but by what stays away from zero. Each is a comparison of two groups of candidates, by the
rank of their rewards; a candidate that failed ranks below all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.grammar import Apply, Expression, Input, as_expression
from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.report.statistics import SIGNIFICANCE, holm

LEAST = 10
"""Candidates that either group needs."""
CONFIDENCE = 0.95
_QUANTILE = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
PERIODIC = frozenset({"sin", "cos", "tan"})
AWAY_FROM_ZERO = 1e-3
"""A denominator that comes no nearer to zero on [-5, 5] is bounded away from it."""

_GRID = np.linspace(-5, 5, 501)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One of the paper's findings, and what this study says of it.

    Attributes:
        claim: what the paper says.
        groups: the two groups that are compared, or ("more operators", "fewer operators").
        counts: how many candidates are in each.
        failed: how many of those failed.
        medians: median reward of each group among those that did not fail.
        measure: what the effect is, in words.
        effect: probability that a candidate of the first group has a higher reward than one of the
            second, ties counting half; for complexity Spearman's rank correlation.
        interval: 95 % interval of the effect.
        p: two-sided, corrected for the number of findings (Holm); None without enough data.
        verdict: "holds here", "the opposite holds here", "not settled here" or "not enough data".
    """

    claim: str
    groups: tuple[str, str]
    counts: tuple[int, int]
    failed: tuple[int, int]
    medians: tuple[float | None, float | None]
    measure: str
    effect: float | None
    interval: tuple[float, float] | None
    p: float | None
    verdict: str


@dataclass(frozen=True)
class Candidate:
    """A trained candidate: its expression, and its reward (None where it failed)."""

    expression: Expression
    reward: float | None


@dataclass(frozen=True)
class _Test:
    """A comparison before the correction; `expected` is the sign that the paper claims."""

    claim: str
    groups: tuple[str, str]
    members: tuple[list[Candidate], list[Candidate]]
    measure: str
    neutral: float
    expected: int
    effect: float | None
    interval: tuple[float, float] | None
    p: float | None


def findings(candidates: Sequence[Candidate]) -> list[Finding]:
    """What the data say of each finding.

    Args:
        candidates: that were trained, one for each class of equal functions, all of them measured
            in the same way.
    """
    divided = [c for c in candidates if _denominators(c.expression)]
    tests = [
        _complexity(candidates),
        _comparison(
            "the best functions use x itself in the last operation, b(x, g(x))",
            ("b(x, g(x))", "others"), candidates, is_gate_of_x, 1,
        ),
        _comparison(
            "functions with periodic parts (sin, cos) do well",
            ("periodic", "others"), candidates, is_periodic, 1,
        ),
        _comparison(
            "functions that divide do badly",
            ("with division", "without"), candidates, lambda e: bool(_denominators(e)), -1,
        ),
        _comparison(
            "division does well where the denominator stays away from zero",
            ("bounded away", "not"), divided, bounded_away, 1,
        ),
    ]  # fmt: skip
    known = [test for test in tests if test.p is not None]
    adjusted = iter(holm([test.p for test in known if test.p is not None]))
    return [_concluded(test, None if test.p is None else next(adjusted)) for test in tests]


def _concluded(test: _Test, p: float | None) -> Finding:
    if p is None or test.effect is None:
        verdict = "not enough data"
    elif p > SIGNIFICANCE:
        verdict = "not settled here"
    elif (test.effect - test.neutral) * test.expected > 0:
        verdict = "holds here"
    else:
        verdict = "the opposite holds here"
    first, second = test.members
    return Finding(
        test.claim, test.groups, (len(first), len(second)), (_failures(first), _failures(second)),
        (_median(first), _median(second)), test.measure, test.effect, test.interval, p, verdict,
    )  # fmt: skip


# the groups


def is_gate_of_x(expression: Expression) -> bool:
    """Whether the last operation has two operands, and x itself is one of them."""
    if not isinstance(expression, Apply) or expression.operator.name == "pow":
        return False
    operands = expression.arguments
    if len(operands) != 2 or not any(isinstance(operand, Input) for operand in operands):
        return False
    varying = all(operand.inputs for operand in operands)
    return varying or expression.operator.name in ("max", "min")  # ReLU is max(x, g(x)), g = 0


def is_periodic(expression: Expression) -> bool:
    """Whether a sine, cosine or tangent occurs."""
    return any(isinstance(n, Apply) and n.operator.name in PERIODIC for n in expression.postorder())


def bounded_away(expression: Expression) -> bool:
    """Whether no denominator comes near to zero on [-5, 5], its parameters as they begin."""
    with np.errstate(all="ignore"):
        for node in _denominators(expression):
            values = evaluate_numpy(node, {"x": _GRID, "gate": _GRID[::-1]})
            if not (np.abs(values) >= AWAY_FROM_ZERO).all() or np.ptp(np.sign(values)) > 0:
                return False
    return True


def _denominators(expression: Expression) -> list[Expression]:
    """What is divided by, as far as it depends on an input."""
    return [
        node.arguments[1]
        for node in expression.postorder()
        if isinstance(node, Apply) and node.operator.name == "div" and node.arguments[1].inputs
    ]


def operators_of(expression: Expression) -> list[str]:
    """The names of the operators that occur, each once, in the order of evaluation."""
    nodes = expression.postorder()
    return list(dict.fromkeys(node.operator.name for node in nodes if isinstance(node, Apply)))


def complexity(expression: Expression) -> int:
    """How many operators an expression applies."""
    return sum(isinstance(node, Apply) for node in expression.postorder())


# the comparisons


def _comparison(
    claim: str,
    groups: tuple[str, str],
    candidates: Sequence[Candidate],
    belongs: Callable[[Expression], bool],
    expected: int,
) -> _Test:
    first = [c for c in candidates if belongs(c.expression)]
    second = [c for c in candidates if not belongs(c.expression)]
    measure = f"P({groups[0]} > {groups[1]})"
    if min(len(first), len(second)) < LEAST:
        return _Test(claim, groups, (first, second), measure, 0.5, expected, None, None, None)
    from scipy.stats import mannwhitneyu

    a, b = _values(first), _values(second)
    p = float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
    interval = _superiority_interval(a, b)
    members = first, second
    return _Test(claim, groups, members, measure, 0.5, expected, _superiority(a, b), interval, p)


def _complexity(candidates: Sequence[Candidate]) -> _Test:
    claim = "simpler functions do better"
    sizes = np.array([complexity(c.expression) for c in candidates])
    middle = float(np.median(sizes)) if len(sizes) else 0.0
    groups = f"more than {middle:g} operators", f"{middle:g} or fewer"
    more = [c for c, size in zip(candidates, sizes, strict=True) if size > middle]
    fewer = [c for c, size in zip(candidates, sizes, strict=True) if size <= middle]
    measure = "rank correlation of reward and number of operators"
    if min(len(more), len(fewer)) < LEAST:
        return _Test(claim, groups, (more, fewer), measure, 0.0, -1, None, None, None)
    rewards = _values(candidates)
    if np.ptp(rewards) == 0:
        return _Test(claim, groups, (more, fewer), measure, 0.0, -1, None, None, None)
    from scipy.stats import spearmanr

    found = spearmanr(sizes, rewards)
    effect, p = float(found.statistic), float(found.pvalue)
    interval = _correlation_interval(effect, len(sizes))
    return _Test(claim, groups, (more, fewer), measure, 0.0, -1, effect, interval, p)


def _superiority(a: Floats, b: Floats) -> float:
    """P(A > B) + P(A = B)/2."""
    return float(_placements(a, b).mean())


def _placements(a: Floats, b: Floats) -> Floats:
    """For each of the first group, the share of the second that is lower, ties counting half."""
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")
    return np.asarray(below / (2 * len(b)), dtype=np.float64)


def _superiority_interval(a: Floats, b: Floats) -> tuple[float, float]:
    """Of `_superiority`, by DeLong, DeLong and Clarke-Pearson (1988), on the logit scale."""
    effect = _superiority(a, b)
    if effect in (0.0, 1.0):  # no variance to estimate: the rule of three, for two sides
        slack = min(1.0, math.log(2 / (1 - CONFIDENCE)) / min(len(a), len(b)))
        return (0.0, slack) if effect == 0.0 else (1.0 - slack, 1.0)
    variance = _placements(a, b).var(ddof=1) / len(a) + _placements(b, a).var(ddof=1) / len(b)
    reach = _QUANTILE * math.sqrt(variance) / (effect * (1 - effect))
    centre = math.log(effect / (1 - effect))
    low, high = (1 / (1 + math.exp(-end)) for end in (centre - reach, centre + reach))
    return low, high


def _correlation_interval(effect: float, count: int) -> tuple[float, float]:
    """Of Spearman's correlation, by Fisher's z with the variance of Bonett and Wright (2000)."""
    reach = _QUANTILE * math.sqrt((1 + effect**2 / 2) / (count - 3))
    centre = math.atanh(max(-1 + 1e-9, min(1 - 1e-9, effect)))
    return math.tanh(centre - reach), math.tanh(centre + reach)


def _values(candidates: Sequence[Candidate]) -> Floats:
    """Rewards for ranking: that of a failure is below every other."""
    known = [c.reward for c in candidates if c.reward is not None]
    worst = min(known, default=0.0) - 1.0
    return np.array([worst if c.reward is None else c.reward for c in candidates])


def _failures(candidates: Sequence[Candidate]) -> int:
    return sum(c.reward is None for c in candidates)


def _median(candidates: Sequence[Candidate]) -> float | None:
    known = [c.reward for c in candidates if c.reward is not None]
    return float(np.median(known)) if known else None


# the operator table


@dataclass(frozen=True)
class OperatorTable:
    """Mean rewards by the operators that occur.

    Attributes:
        columns: operators of two operands, then "all".
        rows: each other operator, with a cell for each column: (mean reward, candidates, share of
            the scale from the lowest mean to the highest), or None where there is no candidate.
    """

    columns: list[str]
    rows: list[tuple[str, list[tuple[float, int, float] | None]]]


def operator_table(candidates: Sequence[Candidate]) -> OperatorTable | None:
    """Which operators go with high rewards, alone and in pairs; None where there is nothing."""
    from actsearch.grammar.operators import OPERATORS

    groups: dict[tuple[str, str], list[float]] = {}
    for candidate in candidates:
        if candidate.reward is None:
            continue
        names = operators_of(candidate.expression)
        binary = [name for name in names if OPERATORS[name].arity == 2]
        for row in [*(name for name in names if name not in binary), ALL]:
            for column in [*binary, ALL]:
                groups.setdefault((row, column), []).append(candidate.reward)
    if len(groups) < 2:
        return None
    means = {key: float(np.mean(values)) for key, values in groups.items()}
    low, high = min(means.values()), max(means.values())
    order = _by_count(groups)

    def cell(key: tuple[str, str]) -> tuple[float, int, float] | None:
        if key not in means:
            return None
        share = (means[key] - low) / (high - low) if high > low else 0.5
        return means[key], len(groups[key]), share

    columns = order[1]
    return OperatorTable(columns, [(row, [cell((row, c)) for c in columns]) for row in order[0]])


ALL = "all"


def _by_count(groups: Mapping[tuple[str, str], Sequence[float]]) -> tuple[list[str], list[str]]:
    """Rows and columns, the most frequent first, "all" last."""
    orders = []
    for side in (0, 1):
        names = {key[side] for key in groups} - {ALL}
        counts = [(-len(groups[(n, ALL) if side == 0 else (ALL, n)]), n) for n in names]
        orders.append([*(name for _, name in sorted(counts)), ALL])
    return orders[0], orders[1]


def candidates_of(trials: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """The candidates of a study's trials that were trained, as all of them were measured at first.

    With successive halving that is on the first rung: rewards of others have other steps.
    """
    found = []
    for trial in trials:
        if trial["state"] not in ("done", "failed"):
            continue
        first = [t for t in trial["trainings"] if t.get("rung", 0) == 0]
        metrics = [t["metric"] for t in first]
        if not first:
            reward = trial["reward"]
        elif None in metrics:
            reward = None
        else:
            reward = float(np.mean(metrics))
        found.append(Candidate(as_expression(trial["expression"]), reward))
    return found
