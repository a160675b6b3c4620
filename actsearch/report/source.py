"""What a report reads of a study: the part of `actsearch.studies.Study` that it depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class StudySource(Protocol):
    """A study, finished or not. `actsearch.studies.Study` is one."""

    run: Path
    config: dict[str, Any]

    @property
    def status(self) -> str:
        """ "finished" or "running"."""

    @property
    def stop_reason(self) -> str | None:
        """Why the search proposed no more."""

    @property
    def counts(self) -> dict[str, int]:
        """Trials proposed, trained, done, failed, reused, excluded."""

    def trials(self) -> list[dict[str, Any]]:
        """Every proposal in order, with its trainings."""

    def trainings(self, stage: str) -> list[dict[str, Any]]:
        """The children trained in a stage: "baseline", "search" or "retest"."""

    def leaderboard(self) -> list[dict[str, Any]]:
        """Rows of the re-test or, before it, of the search and the baselines."""

    def baselines(self) -> list[dict[str, Any]]:
        """Rows of the baselines on the validation split."""
