"""Leaderboards that print no order which the data do not support.

Rows come from `Study.leaderboard()` or `actsearch.studies.compare`; here they get ranges of ranks
in place of ranks, groups, and each candidate's comparison with every baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from actsearch.report.statistics import (
    SIGNIFICANCE,
    Difference,
    Sample,
    differences,
    holm,
    ordered_groups,
    rank_ranges,
    told_apart,
)

if TYPE_CHECKING:
    from actsearch.report.source import StudySource

Row = dict[str, Any]


def leaderboard_rows(study: StudySource) -> list[Row]:
    """The study's leaderboard as `ranked` has it: of the re-test or, before it, of the search."""
    return ranked(study.leaderboard())


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows with what the data say about their order.

    Args:
        rows: of a leaderboard: expression, kind, mean, stderr, seeds, failed, and, for paired
            comparisons, metrics (the metric by seed).

    Returns:
        The rows, highest mean first, without their rank but with: ranks, the best and the worst
        rank that the function can have ([1, 4]); group, a number that grows where everything above
        is known to be better than everything below; comparisons, for a candidate: for each
        baseline its expression, the difference of means, its standard error, the one-sided
        p-value that the candidate is no better, Holm-corrected over the leaderboard, and the test.
        Candidates on the validation split were chosen by it, so no order is claimed for them.
        A function that failed from some seed stands last, with ranks and group None: the mean of
        the seeds that survived says nothing about the others.
    """
    board = [{key: value for key, value in row.items() if key != "rank"} for row in rows]
    sound = sorted((row for row in board if _is_sound(row)), key=lambda row: -row["mean"])
    failed = [row for row in board if not _is_sound(row)]
    found = differences([_sample(row) for row in sound])
    better = told_apart(found)
    ranges = rank_ranges(len(sound), better)
    groups = ordered_groups(len(sound), better)
    comparisons = _with_baselines(sound, found)
    result: list[Row] = [
        row | {"ranks": list(ranges[i]), "group": groups[i], "comparisons": comparisons.get(i, [])}
        for i, row in enumerate(sound)
    ]
    return result + [row | {"ranks": None, "group": None, "comparisons": []} for row in failed]


def _is_sound(row: Mapping[str, Any]) -> bool:
    return row["mean"] is not None and not row.get("failed")


def _sample(row: Mapping[str, Any]) -> Sample:
    if row["kind"] == "candidate" and row["split"] == "validation":
        # It stands here because of this very measurement, which therefore proves nothing.
        return Sample(row["mean"], None, row["seeds"])
    metrics = row.get("metrics") or {}
    return Sample(row["mean"], row["stderr"], row["seeds"], dict(metrics))


def _with_baselines(
    rows: list[Row], found: Mapping[tuple[int, int], Difference]
) -> dict[int, list[Row]]:
    """Every candidate against every baseline: one family of one-sided tests."""
    candidates = [i for i, row in enumerate(rows) if row["kind"] == "candidate"]
    baselines = [i for i, row in enumerate(rows) if row["kind"] == "baseline"]
    pairs = [(i, j) for i in candidates for j in baselines]
    adjusted = holm([found[pair].p_greater for pair in pairs])
    comparisons: dict[int, list[Row]] = {i: [] for i in candidates}
    for (i, j), p in zip(pairs, adjusted, strict=True):
        difference = found[i, j]
        comparisons[i].append(
            {
                "baseline": rows[j]["expression"],
                "difference": difference.mean,
                "stderr": difference.stderr,
                "p": None if difference.test == "none" else p,
                "test": difference.test,
            }
        )
    return comparisons


def beaten(row: Mapping[str, Any]) -> list[str]:
    """The baselines that a candidate is shown to be better than, at `SIGNIFICANCE`."""
    found = row["comparisons"]
    return [c["baseline"] for c in found if c["p"] is not None and c["p"] <= SIGNIFICANCE]


def rank_text(row: Mapping[str, Any]) -> str:
    """`3`, `1–4`, or `–` for a function that has no rank."""
    if row["ranks"] is None:
        return "–"
    low, high = row["ranks"]
    return str(low) if low == high else f"{low}–{high}"
