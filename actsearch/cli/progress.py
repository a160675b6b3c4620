"""Progress bars, on stderr. Where stderr is no terminal, one line says what has begun."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from actsearch.studies.study import Progress

_STAGES = {"retest": "re-test"}


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False)
    return Bar(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[best]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


def _begin(bar: Bar, what: str, total: int) -> Any:
    if not bar.console.is_terminal:
        bar.console.print(f"{what}: {total}")
    return bar.add_task(what, total=total, best="")


@contextmanager
def counting_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar for one job; yields the callback whose first argument is how much of it is done."""
    with _bar() as bar:
        job = _begin(bar, what, total)
        yield lambda done, *_: bar.update(job, completed=done)


@contextmanager
def growing_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for a job whose size is known once it begins; yields its callback (done, total)."""
    jobs: list[Any] = []
    with _bar() as bar:

        def update(done: int, total: int) -> None:
            if not jobs:
                jobs.append(_begin(bar, what, total))
            bar.update(jobs[0], completed=done)

        yield update


@contextmanager
def study_bar(arguments: argparse.Namespace) -> Iterator[Callable[[Progress], None]]:
    """A bar for each stage of a study, with the best so far; yields the study's callback.

    It leaves the run directory in `arguments`, for the message after Ctrl-C.
    """
    stages: dict[str, Any] = {}
    with _bar() as bar:

        def update(progress: Progress) -> None:
            if progress.run is not None:
                arguments.interrupted_run = progress.run
            stage = _STAGES.get(progress.stage, progress.stage)
            if stage not in stages:
                stages[stage] = _begin(bar, stage, progress.total)
            best = ""
            if progress.best_expression is not None and progress.best_reward is not None:
                best = f"best {progress.best_reward:.4f}  {progress.best_expression}"
            bar.update(stages[stage], completed=progress.done, total=progress.total, best=best)

        yield update
