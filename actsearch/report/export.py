"""A study's trainings as a table for other tools: CSV, JSON lines, Parquet.

One row for each child network, of every stage; candidates that were reused or excluded have a row
without a training.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actsearch.grammar.errors import ActSearchError, UsageError, did_you_mean
from actsearch.report.source import StudySource

COLUMNS: Mapping[str, type] = {
    "stage": str,
    "trial": int,
    "index": str,
    "expression": str,
    "state": str,
    "source": int,
    "seed": int,
    "split": str,
    "metric": float,
    "loss": float,
    "seconds": float,
    "steps": int,
    "worker": str,
    "lease": int,
    "reason": str,
    "curve": str,
}
"""The columns and what they hold; an index is text, since spaces outgrow 64 bits, and so is a
curve, as JSON. Any of them may be missing."""


class ExportError(ActSearchError):
    """A library that an export needs is not installed."""


def export_rows(study: StudySource) -> list[dict[str, Any]]:
    """The rows of a study, in the order of the stages and of the trials; see `COLUMNS`."""
    trials = study.trials()
    index = {trial["number"]: str(trial["index"]) for trial in trials}
    rows = []
    for stage in ("baseline", "search", "retest"):
        for training in study.trainings(stage):
            number = training["trial"]
            rows.append({"stage": stage, "index": index.get(number), **_known(training)})
            rows[-1]["trial"] = number
    for trial in trials:
        if trial["state"] in ("reused", "excluded"):
            fact = {"stage": "search", "trial": trial["number"], "index": str(trial["index"])}
            rows.append(fact | {name: trial[name] for name in _OF_TRIAL})
    for row in rows:
        curve = row.get("curve")
        row["curve"] = None if curve is None else json.dumps(curve)
    return [{name: row.get(name) for name in COLUMNS} for row in rows]


_OF_TRIAL = ("expression", "state", "source", "reason")


def _known(training: Mapping[str, Any]) -> dict[str, Any]:
    return {name: training[name] for name in COLUMNS if name in training}


def export_study(study: StudySource, path: str | os.PathLike[str]) -> Path:
    """Write a study's rows to a file whose name ends in .csv, .jsonl or .parquet.

    Raises:
        UsageError: another ending.
        ExportError: Parquet without pyarrow.
        OSError: the file cannot be written; an earlier one is left as it is.
    """
    target = Path(path)
    if target.suffix not in _WRITERS:
        hint = did_you_mean(target.suffix, _WRITERS)
        raise UsageError(f"an export is a file *{', *'.join(_WRITERS)}, not {target}{hint}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _WRITERS[target.suffix](export_rows(study), temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        message = "Parquet needs pyarrow: pip install 'actsearch[parquet]'"
        raise ExportError(message) from None
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)


_WRITERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
