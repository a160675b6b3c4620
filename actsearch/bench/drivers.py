"""How many evaluations each driver needs to find a truly good function, on a table.

A run reads one seed of the table for each function that it evaluates; what is true is the mean over
all seeds. As in a study, a function that equals an evaluated one costs nothing, and rewards are
told a window later. The floor is random search without replacement, for which the figures are
exact: so many evaluations are needed in the median to draw one of the ten best.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsearch.drivers import Driver
    from actsearch.tasks.tables import Table

AT = (50, 100, 200, 400, 600)
"""Evaluations after which the simple regret is reported."""
PATIENCE = 2000
"""Proposals in a row without a new evaluation after which a run is over."""
BOOTSTRAP = 2000
CONFIDENCE = 0.95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `actsearch bench drivers` takes."""
    parser.add_argument("--table", default="mnist1d-swish-1", help="its name, or a *.json.xz")
    parser.add_argument("--space", default="swish", help="the table's space (default: swish)")
    parser.add_argument("--units", type=int, default=1)
    parser.add_argument("--driver", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--seeds", type=int, default=30, help="runs of each (default: 30)")
    parser.add_argument("--evaluations", type=int, default=600, metavar="N")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="what counts as a hit")
    parser.add_argument("--window", type=int, default=8, help="evaluations at a time (default: 8)")


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each driver.

    Returns:
        case: the driver; ours: evaluations to the first hit, the median over the runs (None where
        fewer than half of them hit); low, high: its 95 % interval, by bootstrap; floor: the same
        for random search, exactly; ratio: floor/ours; hits: share of runs that hit within the
        budget, with its Wilson interval; regret N: mean over the runs, after N evaluations, of the
        best true mean less that of the function with the highest reward so far, ± its standard
        error, in percentage points; new: share of the proposals in the last quarter of the budget
        that were evaluations; seconds: of a run.
    """
    from actsearch.drivers import DRIVERS, driver
    from actsearch.grammar import space
    from actsearch.grammar.errors import UsageError
    from actsearch.tasks.tables import table

    names = arguments.driver or [name for name in DRIVERS if name != "exhaustive"]
    searched = space(arguments.space, arguments.units)
    looked_up = table(arguments.table)
    if searched.count() != len(looked_up.candidates):
        raise UsageError(
            f"table {looked_up.name!r} has {len(looked_up.candidates)} candidates, and the space "
            f"{searched.count()}: say --space and --units"
        )
    problem = Problem(looked_up, arguments.top)
    rows = []
    for name in names:
        start = time.perf_counter()
        runs = [
            play(
                driver(name, searched, seed), problem, seed, arguments.evaluations, arguments.window
            )
            for seed in range(arguments.seeds)
        ]
        rows.append(_row(name, runs, problem, arguments.evaluations, time.perf_counter() - start))
    return rows


class Problem:
    """A table with its true best functions.

    Args:
        table: of the space that is searched.
        top: how many of its best classes count as hits.
    """

    def __init__(self, table: Table, top: int) -> None:
        self.table = table
        self.means = [table.mean(number) for number in range(len(table))]
        self.targets = set(table.best(top))
        self.best = max(mean for mean in self.means if mean is not None)

    def reward(self, number: int, seed: int) -> float | None:
        """What a run reads of a class: one of the table's seeds, chosen by the run's."""
        rng = random.Random(f"{seed}/{number}")
        return self.table.metrics[number][rng.randrange(len(self.table.seeds))]

    def floor(self, share: float = 0.5) -> int:
        """Draws without replacement after which a target has been drawn with this probability."""
        total, targets = len(self.table), len(self.targets)
        missed, draws = 1.0, 0
        while missed > 1 - share:
            missed *= (total - targets - draws) / (total - draws)
            draws += 1
        return draws


@dataclass(frozen=True)
class Run:
    """What one run of a driver came to.

    Attributes:
        hit: number of the evaluation that first read a target; None where none did.
        regrets: simple regret after each evaluation.
        new: for each proposal, whether it was an evaluation.
    """

    hit: int | None
    regrets: list[float]
    new: list[bool]


def play(driver: Driver, problem: Problem, seed: int, evaluations: int, window: int) -> Run:
    """Let a driver search a table, as a study would."""
    from actsearch.drivers import SpaceExhausted

    rewards: dict[int, float | None] = {}
    waiting: deque[tuple[int, float | None]] = deque()
    regrets: list[float] = []
    new: list[bool] = []
    hit: int | None = None
    leader, leading = -math.inf, -1
    idle = 0
    while len(rewards) < evaluations and idle < PATIENCE:
        try:
            index = driver.ask()
        except SpaceExhausted:
            break
        number = problem.table.classes[index]
        fresh = number >= 0 and number not in rewards
        new.append(fresh)
        idle = 0 if fresh else idle + 1
        if fresh:
            rewards[number] = problem.reward(number, seed)
            reward = rewards[number]
            if hit is None and number in problem.targets:
                hit = len(rewards)
            if reward is not None and reward > leader and problem.means[number] is not None:
                leader, leading = reward, number
            true = problem.means[leading] if leading >= 0 else None
            regrets.append(problem.best - (true or 0.0))
        waiting.append((index, rewards.get(number) if number >= 0 else None))
        while len(waiting) >= window:
            driver.tell(*waiting.popleft())
    return Run(hit, regrets, new)


def _row(
    name: str, runs: Sequence[Run], problem: Problem, evaluations: int, seconds: float
) -> dict[str, Any]:
    hits = [math.inf if run.hit is None else run.hit for run in runs]
    median = _median(hits)
    low, high = _bootstrap(hits)
    floor = problem.floor()
    found = sum(run.hit is not None for run in runs)
    row: dict[str, Any] = {
        "case": name,
        "ours": _finite(median),
        "floor": floor,
        "ratio": None if math.isinf(median) else round(floor / median, 2),
        "low": _finite(low),
        "high": _finite(high),
        "hits": f"{found}/{len(runs)}",
        "hits_low": round(_wilson(found, len(runs))[0], 3),
        "hits_high": round(_wilson(found, len(runs))[1], 3),
    }
    for count in AT:
        if count <= evaluations:
            values = [run.regrets[min(count, len(run.regrets)) - 1] for run in runs if run.regrets]
            row[f"regret {count}"] = _mean_and_error(values)
    quarters = [share for run in runs if (share := _last_quarter(run, evaluations)) is not None]
    row["new"] = round(sum(quarters) / len(quarters), 3) if quarters else None
    row["seconds"] = round(seconds / len(runs), 2)
    return row


def _last_quarter(run: Run, evaluations: int) -> float | None:
    """Share of new ones among the proposals made while the last quarter was evaluated."""
    done, start = 0, None
    for place, fresh in enumerate(run.new):
        done += fresh
        if done > 0.75 * evaluations:
            start = place if start is None else start
    if start is None:
        return 0.0  # it never came that far
    late = run.new[start:]
    return sum(late) / len(late)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Percentile interval of the median."""
    rng = random.Random(0)
    medians = sorted(_median(rng.choices(values, k=len(values))) for _ in range(BOOTSTRAP))
    tail = int(BOOTSTRAP * (1 - CONFIDENCE) / 2)
    return medians[tail], medians[-tail - 1]


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval (1927) of a probability."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _mean_and_error(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{100 * values[0]:.2f}" if values else "–"
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{100 * mean:.2f}±{100 * math.sqrt(variance / len(values)):.2f}"


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
