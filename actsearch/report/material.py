"""Everything a report says, read from a study once and put into the shape that its sections use."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from actsearch.analysis import kernel_cost
from actsearch.grammar import Apply, Expression, as_expression, named_activations
from actsearch.report.leaderboard import Row, ranked
from actsearch.report.palette import LineStyle, line_styles
from actsearch.report.selection import corrected
from actsearch.report.source import StudySource

SHOWN = 12
"""Functions that are drawn: the first candidates of the leaderboard, and all baselines."""

Curve = Sequence[Sequence[float]]
"""(step, loss) points."""

_DETAIL = re.compile(r"(\bstep |= )[-+.\w]+")


@dataclass(frozen=True)
class Material:
    """A study as its report sees it; each part is read when a section first asks for it."""

    study: StudySource

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the study was started with."""
        return self.study.config

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials proposed, trained, done, failed, reused and excluded."""
        return self.study.counts

    @cached_property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.study.status == "finished"

    @cached_property
    def board(self) -> list[Row]:
        """The leaderboard with ranges of ranks, groups and comparisons."""
        return ranked(self.study.leaderboard())

    @cached_property
    def split(self) -> str:
        """What the leaderboard is measured on."""
        return str(self.board[0]["split"]) if self.board else "validation"

    @cached_property
    def baselines(self) -> list[Row]:
        """The baselines on the split that the search saw."""
        return self.study.baselines()

    @cached_property
    def trials(self) -> list[Row]:
        """Every proposal in order."""
        return self.study.trials()

    @cached_property
    def ranking(self) -> list[Row]:
        """The trained candidates by their reward in the search.

        Each with its number of duplicates, and `corrected`: its reward without what selection adds
        on average, None where there are too few rewards or the noise is not known.
        """
        duplicates = Counter(trial["source"] for trial in self.trials)
        done = [t for t in self.trials if t["state"] == "done" and t["reward"] is not None]
        ordered = sorted(done, key=lambda t: (-t["rung"], -t["reward"], t["number"]))
        noise = (self.noise or 0.0) / self.config["seeds"] ** 0.5
        found: Sequence[float | None] | None = None
        if self.config["rungs"] is None:  # else the rewards are not all equally noisy
            found = corrected([trial["reward"] for trial in ordered], noise)
        found = [None] * len(ordered) if found is None else found
        return [
            trial | {"duplicates": duplicates[trial["number"]], "corrected": value}
            for trial, value in zip(ordered, found, strict=True)
        ]

    def members(self, row: Row) -> list[Row]:
        """The proposals that are proved to be the function of a leaderboard's row, as trials.

        Of a candidate, those that reuse its reward; of a baseline, those that took over its
        trainings. Each text once, without the row's own.
        """
        if row["kind"] == "candidate":
            same = [t for t in self.trials if t["source"] == row["trial"]]
        else:
            first = {t["number"] for t in self.trials if t["baseline"] == row["expression"]}
            same = [t for t in self.trials if t["number"] in first or t["source"] in first]
        texts = {t["expression"]: t for t in reversed(same)}
        texts.pop(row["expression"], None)
        return list(reversed(texts.values()))

    @cached_property
    def front(self) -> list[Row]:
        """The trained candidates that none beats at the same or a lower cost, cheapest first.

        Rows of `ranking` with their `cost` (`actsearch.analysis.kernel_cost`). Of candidates of
        equal reward the cheapest stands here, of those of equal cost the best.
        """
        costed = [
            trial | {"cost": kernel_cost(as_expression(trial["expression"]))}
            for trial in self.ranking
        ]
        found: list[Row] = []
        highest = max((trial["rung"] for trial in costed), default=0)
        costed = [trial for trial in costed if trial["rung"] == highest]
        for trial in sorted(costed, key=lambda t: (t["cost"], -t["reward"], t["number"])):
            if not found or trial["reward"] > found[-1]["reward"]:
                found.append(trial)
        return found

    @cached_property
    def shown(self) -> list[Row]:
        """The rows of the leaderboard that are drawn: candidates first."""
        candidates = [row for row in self.board if row["kind"] == "candidate"]
        baselines = [row for row in self.board if row["kind"] == "baseline"]
        order = self.config["baselines"].index  # not that of the results: they keep their dashes
        return candidates[:SHOWN] + sorted(baselines, key=lambda row: order(row["expression"]))

    @cached_property
    def styles(self) -> dict[str, LineStyle]:
        """How each drawn function is drawn."""
        return line_styles(self.shown)

    @cached_property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Learning curves of the drawn functions, by expression: of the re-test, else the search.

        Each is the median over the seeds that did not fail; functions without a curve are left out.
        """
        stages = ("retest",) if self.split == "test" else ("search", "baseline")
        found: dict[str, list[Curve]] = {row["expression"]: [] for row in self.shown}
        for stage in stages:
            for training in self.study.trainings(stage):
                curve = training["curve"]
                if training["expression"] in found and training["state"] == "done" and curve:
                    found[training["expression"]].append(curve)
        typical = {expression: typical_curve(curves) for expression, curves in found.items()}
        return {expression: curve for expression, curve in typical.items() if curve}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Time spent on training children, by stage, in seconds."""
        return {
            stage: sum(training["seconds"] or 0.0 for training in self.study.trainings(stage))
            for stage in ("baseline", "search", "retest")
        }

    def reasons(self, state: str) -> list[Row]:
        """Why trials are in this state: each reason with its number and the trials, most first.

        Reasons that differ only in a step or a place count as one.
        """
        groups: dict[str, list[Row]] = defaultdict(list)
        for trial in self.trials:
            if trial["state"] == state:
                reason = trial["reason"] or "no reason recorded"
                groups[_DETAIL.sub(r"\1…", reason)].append(trial)
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        return [{"reason": reason, "trials": trials} for reason, trials in ordered]

    @cached_property
    def noise(self) -> float | None:
        """Standard deviation between the seeds of one function, pooled over the baselines."""
        squares = freedom = 0.0
        for row in self.baselines:
            if row["stderr"] is not None:
                squares += (row["seeds"] - 1) * row["seeds"] * row["stderr"] ** 2
                freedom += row["seeds"] - 1
        return (squares / freedom) ** 0.5 if freedom else None

    @cached_property
    def titles(self) -> dict[str, str]:
        """What people call the functions of the leaderboard that have a name."""
        known: dict[Expression, str] = {
            named.expression: named.title
            for named in named_activations().values()
            if isinstance(named.expression, Apply)
        }
        parsed = {row["expression"]: as_expression(row["expression"]) for row in self.board}
        return {text: known[parsed[text]] for text in parsed if parsed[text] in known}


def typical_curve(seeds: Sequence[Curve]) -> list[tuple[float, float]]:
    """(step, median loss) at the steps that all seeds have, where it is above 0."""
    by_step = [{step: loss for step, loss in curve} for curve in seeds]  # noqa: C416
    common = set.intersection(*map(set, by_step)) if by_step else set()
    medians = [(step, median(found[step] for found in by_step)) for step in sorted(common)]
    return [(step, loss) for step, loss in medians if loss > 0]
