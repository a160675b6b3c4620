"""`actsearch search`, `resume`, `report` and `compare`: studies from the shell."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from actsearch.cli.console import emit, note
from actsearch.cli.progress import counting_bar, study_bar

if TYPE_CHECKING:
    from actsearch.studies.study import Study


def search(arguments: argparse.Namespace) -> int:
    """Search a space; then the report, and the winner as files that run without ActSearch."""
    from actsearch.studies.study import search as run_search

    with study_bar(arguments) as progress:
        study = run_search(
            arguments.space,
            units=arguments.units,
            task=arguments.task,
            task_options=dict(arguments.task_option),
            driver=arguments.driver,
            driver_options=dict(arguments.driver_option),
            trials=arguments.trials,
            workers=arguments.workers,
            seed=arguments.seed,
            run=arguments.run,
            retest=arguments.retest,
            retest_seeds=arguments.retest_seeds,
            device=arguments.device,
            require=arguments.require,
            level=None if arguments.level == "none" else arguments.level,
            asha=arguments.rungs or arguments.asha,
            warm_start=arguments.warm_start,
            store=arguments.store,
            executor=arguments.executor,
            executor_options=dict(arguments.executor_option),
            gpus=arguments.gpus,
            trackers=arguments.track,
            time_limit=arguments.time_limit,
            memory_limit=arguments.memory_limit,
            progress=progress,
        )
    return _deliver(arguments, study)


def resume(arguments: argparse.Namespace) -> int:
    """Go on with a study as if it had not stopped."""
    from actsearch.studies.study import Study

    arguments.interrupted_run = arguments.run_directory
    with study_bar(arguments) as progress:
        study = Study.resume(arguments.run_directory, workers=arguments.workers, progress=progress)
    return _deliver(arguments, study)


def worker(arguments: argparse.Namespace) -> int:
    """Train for a study that another process drives, until it is finished."""
    from pathlib import Path

    from actsearch.studies.database import schema_name
    from actsearch.studies.joining import work
    from actsearch.studies.store import Store

    def connected() -> Store:
        if arguments.store is None:
            return Store.open(Path(arguments.study))
        return Store.join(arguments.store, schema_name(Path(arguments.study).name))

    store, heart = connected(), connected()
    note(f"training for {store.label}")
    try:
        count = work(store, heart)
    finally:
        store.close()
        heart.close()
    emit(arguments, {"study": store.label, "trained": count}, f"{count} trainings")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Print the leaderboard of a study, finished or not, and write its report."""
    from actsearch.report import export_study, write_report
    from actsearch.studies.study import Study

    study = Study.open(arguments.run_directory)
    path = write_report(study, arguments.output)
    _print_study(arguments, study)
    note(f"report: {path}")
    for target in arguments.export:
        note(f"export: {export_study(study, target)}")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Train activations side by side, with the same seeds."""
    from actsearch.report import ranked
    from actsearch.studies.protocol import compare as run_compare

    with counting_bar("training", len(arguments.expressions) * arguments.seeds) as progress:
        rows = run_compare(
            arguments.expressions,
            task=arguments.task,
            task_options=dict(arguments.task_option),
            seeds=arguments.seeds,
            seed=arguments.seed,
            workers=arguments.workers,
            device=arguments.device,
            progress=progress,
        )
    rows = ranked(rows)
    emit(arguments, rows, _table(rows) if not arguments.json else "")
    return 0 if any(row["mean"] is not None for row in rows) else 1


def _deliver(arguments: argparse.Namespace, study: Study) -> int:
    from actsearch.studies.delivery import deliver

    if study.config["warm_start"] is not None:
        note(f"warm start: {study.config['warm_start']['note']}")
    files = deliver(study)
    _print_study(arguments, study)
    for what, path in files.items():
        note(f"{what}: {path}")
    return 0 if study.best is not None else 1


def _print_study(arguments: argparse.Namespace, study: Study) -> None:
    from actsearch.report import leaderboard_rows

    rows = leaderboard_rows(study)
    data = study.summary() | {"leaderboard": rows}
    if arguments.json:
        emit(arguments, data, "")
        return
    counts = study.counts
    print(
        f"{counts['done']} trained, {counts['failed']} failed, {counts['reused']} equal to a "
        f"trained one, {counts['excluded']} excluded ({study.stop_reason or study.status})"
    )
    print(_table(rows) if rows else "no candidate could be trained")


def _table(rows: list[dict[str, Any]]) -> str:
    from rich.console import Console

    from actsearch.report import render_leaderboard

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(render_leaderboard(rows))
    return capture.get().rstrip()
