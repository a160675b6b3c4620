"""How many evaluations each driver needs to find a truly good function, on a table or on purpose.

A run reads one seed of the table for each function that it evaluates; what is true is the mean over
all seeds. As in a study, a function that equals an evaluated one costs nothing, and rewards are
told a window later. The floor is random search without replacement, for which the figures are
exact: so many evaluations are needed in the median to draw one of the ten best.

With --hidden the drivers look for a function that is written down, in a space of any size: the
reward is 1/(1 + d) for the distance d to it, without noise.
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
from typing import TYPE_CHECKING, Any, Protocol

from actsearch.counts import positive
from actsearch.grammar.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from actsearch.drivers import Driver
    from actsearch.grammar import Expression, SearchSpace
    from actsearch.tasks.tables import Table

AT = (50, 100, 200, 400, 600)
"""Evaluations after which the simple regret is reported."""
PATIENCE = 2000
"""Proposals in a row without a new evaluation after which a run is over."""
POINTS = 64
"""Quantiles of N(0, 1) at which distances to a hidden function are measured."""
NEAR = 0.05
"""The distance to a hidden function that counts as a hit."""
BOOTSTRAP = 2000
CONFIDENCE = 0.95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `actsearch bench drivers` takes."""
    parser.add_argument("--table", default="mnist1d-swish-1", help="its name, or a *.json.xz")
    parser.add_argument(
        "--hidden", action="append", metavar="EXPR", help="to look for, instead of a table's best"
    )
    parser.add_argument("--space", default="swish", help="what is searched (default: swish)")
    parser.add_argument("--units", type=positive, help="default: 1 for a table, 2 for --hidden")
    parser.add_argument("--driver", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--seeds", type=positive, default=30, help="runs of each (default: 30)")
    parser.add_argument("--evaluations", type=positive, default=600, metavar="N")
    parser.add_argument(
        "--top", type=positive, default=10, metavar="K", help="what counts as a hit"
    )
    parser.add_argument(
        "--window", type=positive, default=8, help="evaluations at a time (default: 8)"
    )


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each driver.

    Returns:
        case: the driver; ours: evaluations to the first hit, the median over the runs (None where
        fewer than half of them hit); low, high: its 95 % interval, by bootstrap; floor: the same
        for random search on a table, exactly; ratio: floor/ours; hits: share of runs that hit
        within the budget, with its Wilson interval; regret N: mean over the runs, after N
        evaluations, of the best true mean less that of the function with the highest reward so
        far, in percentage points, or 100 times its distance to the hidden function, ± the standard
        error; new: share of the proposals in the last quarter of the budget that were evaluations;
        seconds: of a run. With several hidden functions the runs take turns.

    Raises:
        UsageError: the table is of another space.
    """
    from actsearch.drivers import DRIVERS, driver
    from actsearch.grammar import space

    names = arguments.driver or [name for name in DRIVERS if name != "exhaustive"]
    units = arguments.units or (2 if arguments.hidden else 1)
    searched = space(arguments.space, units)
    problems: list[Problem]
    if arguments.hidden:
        problems = [HiddenFunction(text, searched) for text in arguments.hidden]
    else:
        problems = [_tabulated(arguments.table, arguments.top, searched)]
    rows = []
    for name in names:
        start = time.perf_counter()
        runs = [
            play(
                driver(name, searched, seed),
                problems[seed % len(problems)],
                seed,
                arguments.evaluations,
                arguments.window,
            )
            for seed in range(arguments.seeds)
        ]
        seconds = (time.perf_counter() - start) / len(runs)
        floor = problems[0].floor()
        rows.append(_row(name, runs, floor, arguments.evaluations) | {"seconds": round(seconds, 2)})
    return rows


class Problem(Protocol):
    """What a run needs of a problem; functions have numbers."""

    def number(self, index: int) -> int | None:
        """Which function a candidate is; None where it is not worth an evaluation."""
        ...

    def reward(self, number: int, seed: int) -> float | None:
        """What a run with this seed reads of a function; None where it failed."""
        ...

    def hit(self, number: int) -> bool:
        """Whether it is one of those that are looked for."""
        ...

    def regret(self, number: int) -> float | None:
        """How much better the best function truly is; None where this one fails."""
        ...

    def floor(self) -> int | None:
        """Draws without replacement after which half of all random searches have hit, if known."""
        ...


class TabulatedBest:
    """A table with its true best functions.

    Args:
        table: of the space that is searched.
        top: how many of its best classes count as hits.
    """

    def __init__(self, table: Table, top: int) -> None:
        self.table = table
        self.targets = set(table.best(top))
        self._means = [table.mean(number) for number in range(len(table))]
        self._best = max(mean for mean in self._means if mean is not None)

    def number(self, index: int) -> int | None:
        """The class of a candidate; None for those that a table leaves out."""
        number = self.table.classes[index]
        return None if number < 0 else number

    def reward(self, number: int, seed: int) -> float | None:
        """What a run reads of a class: one of the table's seeds, chosen by the run's."""
        rng = random.Random(f"{seed}/{number}")
        return self.table.metrics[number][rng.randrange(len(self.table.seeds))]

    def hit(self, number: int) -> bool:
        """Whether it is one of the best."""
        return number in self.targets

    def regret(self, number: int) -> float | None:
        """The best mean over seeds, less that of a class; None where a seed of it failed."""
        mean = self._means[number]
        return None if mean is None else self._best - mean

    def floor(self) -> int:
        """Draws without replacement after which a target has been drawn with probability ½."""
        total, targets = len(self.table), len(self.targets)
        missed, draws = 1.0, 0
        while missed > 0.5:
            missed *= (total - targets - draws) / (total - draws)
            draws += 1
        return draws


class HiddenFunction:
    """A function to be found, by its distance: the root mean square for x ~ N(0, 1).

    Args:
        text: the function.
        searched: the space, whose candidates are functions alike where their values agree.
    """

    def __init__(self, text: str, searched: SearchSpace) -> None:
        import numpy as np
        from scipy.special import ndtri

        from actsearch.grammar import parse

        self._space = searched
        self._grid = ndtri((0.5 + np.arange(POINTS)) / POINTS)
        self._target = self._values(parse(text))
        self._numbers: dict[bytes, int] = {}
        self._distances: list[float] = []

    def number(self, index: int) -> int:
        """One number for all candidates whose values agree in six digits."""
        import numpy as np

        values = self._values(self._space.expression(index))
        with np.errstate(all="ignore"):
            key = values.astype(np.float32).round(6).tobytes()
            if key not in self._numbers:
                self._distances.append(float(np.sqrt(np.mean((values - self._target) ** 2))))
        return self._numbers.setdefault(key, len(self._numbers))

    def reward(self, number: int, seed: int) -> float | None:
        """1/(1 + distance)."""
        distance = self._distances[number]
        return 1 / (1 + distance) if math.isfinite(distance) else None

    def hit(self, number: int) -> bool:
        """Whether it is so near that one would take it for the target."""
        return self._distances[number] <= NEAR

    def regret(self, number: int) -> float | None:
        """The distance."""
        distance = self._distances[number]
        return distance if math.isfinite(distance) else None

    def floor(self) -> None:
        """Not known."""

    def _values(self, expression: Expression) -> NDArray[np.float64]:
        from actsearch.grammar.evaluate import evaluate_numpy

        values: NDArray[np.float64] = evaluate_numpy(expression, {"x": self._grid})
        return values


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
    leader, regret = -math.inf, 1.0
    idle = 0
    while len(rewards) < evaluations and idle < PATIENCE:
        try:
            index = driver.ask()
        except SpaceExhausted:
            break
        number = problem.number(index)
        fresh = number is not None and number not in rewards
        new.append(fresh)
        idle = 0 if fresh else idle + 1
        if number is not None and fresh:
            rewards[number] = reward = problem.reward(number, seed)
            if hit is None and problem.hit(number):
                hit = len(rewards)
            if reward is not None and reward > leader:
                true = problem.regret(number)
                leader, regret = (leader, regret) if true is None else (reward, true)
            regrets.append(regret)
        waiting.append((index, None if number is None else rewards[number]))
        while len(waiting) >= window:
            driver.tell(*waiting.popleft())
    return Run(hit, regrets, new)


def _row(name: str, runs: Sequence[Run], floor: int | None, evaluations: int) -> dict[str, Any]:
    hits = [math.inf if run.hit is None else run.hit for run in runs]
    median = _median(hits)
    low, high = _bootstrap(hits)
    found = sum(run.hit is not None for run in runs)
    row: dict[str, Any] = {
        "case": name,
        "ours": _finite(median),
        "floor": floor,
        "ratio": None if floor is None or math.isinf(median) else round(floor / median, 2),
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


def _tabulated(name: str, top: int, searched: SearchSpace) -> TabulatedBest:
    from actsearch.tasks.tables import table

    looked_up = table(name)
    if searched.count() != len(looked_up.candidates):
        raise UsageError(
            f"table {looked_up.name!r} has {len(looked_up.candidates)} candidates, and the space "
            f"{searched.count()}: say --space and --units"
        )
    return TabulatedBest(looked_up, top)
