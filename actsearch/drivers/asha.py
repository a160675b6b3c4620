"""Asynchronous successive halving: many candidates at little cost, the better ones at more.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, *A System for Massively
Parallel Hyperparameter Tuning* (2020, arXiv 1810.05934), around any other driver. A rung is a
number of steps and a number of seeds. To the quantile rule of the paper comes the noise: of the
best share of a rung, only those are promoted that cannot be told to be worse than its best one.
(The other reading, to promote also what lies below the cut by no more than the noise, finds worse
functions at every level of noise: it spends the steps on candidates that are probably not good.)
"""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from actsearch.drivers.base import Driver
from actsearch.grammar.errors import UsageError

CONFIDENCE = 2.0
"""Standard errors of a difference at which a candidate is told to be worse than the best."""


@dataclass(frozen=True)
class Rung:
    """A fidelity.

    Attributes:
        steps: of the optimiser; None for as many as the task's recipe says.
        seeds: children of a candidate.
    """

    steps: int | None
    seeds: int

    def __str__(self) -> str:
        return f"{'full' if self.steps is None else self.steps}x{self.seeds}"


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """The rungs that are written "100x1,400x1,400x4": steps ("full" for the recipe's) x seeds.

    Raises:
        UsageError: it is not written so.
    """
    rungs = []
    for part in text.split(","):
        steps, cross, seeds = part.strip().partition("x")
        if not cross or not seeds.isdecimal() or not (steps == "full" or steps.isdecimal()):
            raise UsageError(
                f"rungs are written STEPSxSEEDS, such as 100x1,fullx1,fullx4; not {text!r}"
            )
        rungs.append(Rung(None if steps == "full" else int(steps), int(seeds)))
    return check_rungs(rungs)


def check_rungs(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """The rungs, once each is known to cost more than the one before.

    Raises:
        UsageError: there are fewer than two, or one that costs no more.
    """
    if len(rungs) < 2:
        raise UsageError("successive halving takes at least 2 rungs")
    for rung in rungs:
        if rung.seeds < 1 or (rung.steps is not None and rung.steps < 1):
            raise UsageError(f"a rung has at least 1 step and 1 seed, not {rung}")
    for lower, upper in pairwise(rungs):
        before, after = (math.inf if r.steps is None else r.steps for r in (lower, upper))
        if before > after or lower.seeds > upper.seeds or lower == upper:
            raise UsageError(f"rungs grow in steps or in seeds; {upper} does not after {lower}")
    return tuple(rungs)


class Asha(Driver):
    """Successive halving around another driver, which is asked for every new candidate.

    Args:
        inner: proposes candidates for the first rung. It learns their rewards there, and is told
            better estimates as they are promoted.
        rungs: from the cheapest up.
        reduction: of the candidates on a rung, the best one in so many is promoted.
        confidence: standard errors of a difference at which a candidate is told to be worse than
            the best one of its rung. It is not promoted then, so that without noise hardly anything
            is trained twice.

    The noise is the standard deviation between seeds that is left once the effect of the seed
    itself is taken out: all candidates train from the same seeds. It is pooled over every group of
    candidates with several seeds, separately for each number of steps as far as there are any.
    Until it has been measured, only the quantile counts.
    """

    name: ClassVar[str] = "asha"

    def __init__(
        self,
        inner: Driver,
        rungs: Sequence[Rung],
        reduction: int = 3,
        confidence: float = CONFIDENCE,
    ) -> None:
        super().__init__(inner.space, inner.seed)
        if reduction < 2:
            raise UsageError(f"of a rung the best in 2 or more are promoted, not in {reduction}")
        self.inner = inner
        self.rungs = check_rungs(rungs)
        self.reduction = reduction
        self.confidence = confidence
        self.repeats = inner.repeats
        self._at: list[tuple[int, int]] = []
        self._rewards: list[dict[int, float]] = [{} for _ in rungs]
        self._ranked: list[list[tuple[float, int]]] = [[] for _ in rungs]
        self._promoted: list[dict[int, None]] = [{} for _ in rungs]
        self._failed: dict[int, None] = {}
        self._gains: list[tuple[float, int]] = [(0.0, 0) for _ in rungs]
        self._metrics: dict[int | None, dict[str, dict[int, float]]] = defaultdict(dict)
        self._noise: dict[int | None, float | None] | None = None

    def calibrate(self, metrics: Mapping[str, Mapping[int, float]]) -> None:
        """Learn the noise from functions outside of the search, such as the baselines.

        Args:
            metrics: by name and seed, at the recipe's own number of steps.
        """
        for name, by_seed in metrics.items():
            self._measure(None, f"={name}", by_seed)

    def noise(self, steps: int | None) -> float | None:
        """Standard deviation between seeds, without the effect that a seed has on all.

        Args:
            steps: at this number of steps or, where there is no measurement, at any.
        """
        if self._noise is None:
            self._noise = _residual_deviations(self._metrics)
        found = self._noise.get(steps)
        return self._noise.get(-1) if found is None else found

    # proposing

    def _propose(self) -> int:
        for rung in reversed(range(len(self.rungs) - 1)):
            index = self._promotable(rung)
            if index is not None:
                self._promoted[rung][index] = None
                return self._asked(index, rung + 1)
        return self._asked(self.inner.ask(), 0)

    def _asked(self, index: int, rung: int) -> int:
        self._at.append((index, rung))
        self.rung = rung
        return index

    def _promotable(self, rung: int) -> int | None:
        """The best candidate of a rung that is to be promoted now.

        Candidates are compared on their own rung: there they have the same seeds and steps.
        """
        share = len(self._ranked[rung]) // self.reduction
        noise, seeds = self.noise(self.rungs[rung].steps), self.rungs[rung].seeds
        margin = math.inf if noise is None else self.confidence * noise * math.sqrt(2 / seeds)
        best = next((n for n, index in self._ranked[rung] if index not in self._failed), 0.0)
        for negated, index in self._ranked[rung][:share]:
            if negated - best > margin:
                return None  # those below are told to be worse, too
            if index not in self._promoted[rung] and index not in self._failed:
                return index
        return None

    # learning

    def tell(
        self, index: int, reward: float | None, metrics: Mapping[int, float] | None = None
    ) -> None:
        super().tell(index, reward)
        rung = self._taken(next(rung for at, rung in self._at if at == index), index)
        if rung == 0:
            self.inner.tell(index, reward)
        self._place(index, reward, rung, metrics)
        if rung > 0:
            failed = index in self._failed
            self.inner.revise(index, None if failed else self._on_first_scale(index, rung))

    def tell_known(self, index: int, reward: float | None) -> None:
        """Another candidate's reward: the driver learns it, and no rung holds the function twice.

        Raises:
            ValueError: as `tell`.
        """
        super().tell(index, reward)
        self._taken(0, index)
        self.inner.tell(index, reward)

    def observe(
        self,
        index: int,
        reward: float | None,
        metrics: Mapping[int, float] | None = None,
        rung: int | None = None,
    ) -> None:
        super().observe(index, reward)
        self.inner.observe(index, reward)
        if rung is not None:
            self._place(index, reward, rung, metrics)

    def _taken(self, rung: int, index: int) -> int:
        """Strike out what awaits no reward any more."""
        self._at.remove((index, rung))
        return rung

    def _place(
        self, index: int, reward: float | None, rung: int, metrics: Mapping[int, float] | None
    ) -> None:
        if reward is None:
            self._failed[index] = None
            return
        if index in self._rewards[rung]:
            return
        self._rewards[rung][index] = reward
        insort(self._ranked[rung], (-reward, index))
        self._measure(self.rungs[rung].steps, str(index), metrics or {})
        if rung and self.rungs[rung].steps != self.rungs[rung - 1].steps:
            before = self._rewards[rung - 1].get(index)
            if before is not None:
                total, count = self._gains[rung]
                self._gains[rung] = total + reward - before, count + 1

    def _on_first_scale(self, index: int, rung: int) -> float:
        """A reward of a higher rung less what more steps give on average."""
        gains = (total / count for total, count in self._gains[: rung + 1] if count)
        return self._rewards[rung][index] - math.fsum(gains)

    def _measure(self, steps: int | None, name: str, metrics: Mapping[int, float]) -> None:
        if len(metrics) > 1:
            self._metrics[steps][name] = dict(metrics)
            self._noise = None

    # state

    def _state(self) -> dict[str, Any]:
        return {
            "inner": self.inner.state_dict(),
            "rungs": [[rung.steps, rung.seeds] for rung in self.rungs],
            "at": [list(place) for place in self._at],
            "rewards": [[list(item) for item in rewards.items()] for rewards in self._rewards],
            "promoted": [list(indices) for indices in self._promoted],
            "failed": list(self._failed),
            "gains": [list(gain) for gain in self._gains],
            "metrics": [
                [steps, [[name, list(map(list, by.items()))] for name, by in group.items()]]
                for steps, group in self._metrics.items()
            ],
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])
        self._at = [(index, rung) for index, rung in state["at"]]
        self._rewards = [{index: reward for index, reward in rung} for rung in state["rewards"]]  # noqa: C416
        self._ranked = [sorted((-r, index) for index, r in held.items()) for held in self._rewards]
        self._promoted = [dict.fromkeys(indices) for indices in state["promoted"]]
        self._failed = dict.fromkeys(state["failed"])
        self._gains = [(total, count) for total, count in state["gains"]]
        self._metrics = defaultdict(dict)
        for steps, group in state["metrics"]:
            self._metrics[steps] = {
                name: {seed: metric for seed, metric in by}  # noqa: C416
                for name, by in group
            }
        self._noise = None


def _residual_deviations(
    metrics: Mapping[int | None, Mapping[str, Mapping[int, float]]],
) -> dict[int | None, float | None]:
    """Of the layout (candidate, seed) for each number of steps; pooled over all under -1."""
    found: dict[int | None, float | None] = {}
    squares_of_all, freedom_of_all = 0.0, 0
    for steps, group in metrics.items():
        layouts: dict[tuple[int, ...], list[Mapping[int, float]]] = defaultdict(list)
        for by_seed in group.values():
            layouts[tuple(sorted(by_seed))].append(by_seed)
        squares, freedom = 0.0, 0
        for seeds, rows in layouts.items():
            squares += _residual_squares(seeds, rows)
            freedom += (len(rows) - 1) * (len(seeds) - 1)
        found[steps] = math.sqrt(squares / freedom) if freedom else None
        squares_of_all += squares
        freedom_of_all += freedom
    found[-1] = math.sqrt(squares_of_all / freedom_of_all) if freedom_of_all else None
    return found


def _residual_squares(seeds: Sequence[int], rows: Sequence[Mapping[int, float]]) -> float:
    of_rows = [math.fsum(row[seed] for seed in seeds) / len(seeds) for row in rows]
    of_seeds = {seed: math.fsum(row[seed] for row in rows) / len(rows) for seed in seeds}
    overall = math.fsum(of_rows) / len(rows)
    return math.fsum(
        (row[seed] - mean - of_seeds[seed] + overall) ** 2
        for row, mean in zip(rows, of_rows, strict=True)
        for seed in seeds
    )
