"""Exports: every child is a row, and each format says the same."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from actsearch.cli import main
from actsearch.grammar.errors import UsageError
from actsearch.report import ExportError, export_rows, export_study
from actsearch.report.export import COLUMNS
from actsearch.studies.study import Study, search
from tests.actsearch.synthetic_study import settings


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    options = {"trials": 8, "retest": 1, "units": 1, "driver_options": {}}
    return search("swish", **settings(folder / "run", folder / "log", **options))


def test_every_training_and_every_other_proposal_is_a_row(study: Study) -> None:
    rows = export_rows(study)
    trained = [row for row in rows if row["seed"] is not None]
    for stage in ("baseline", "search", "retest"):
        expected = [(t["expression"], t["seed"], t["metric"]) for t in study.trainings(stage)]
        found = [(r["expression"], r["seed"], r["metric"]) for r in trained if r["stage"] == stage]
        assert found == expected
    others = study.counts["reused"] + study.counts["excluded"]
    assert len(rows) - len(trained) == others > 0
    index = {trial["number"]: str(trial["index"]) for trial in study.trials()}
    assert all(row["index"] == index.get(row["trial"]) for row in rows)


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: None if text == "" else COLUMNS[name](text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_csv_and_json_lines_say_the_same(study: Study, tmp_path: Path) -> None:
    expected = export_rows(study)
    assert read_csv(export_study(study, tmp_path / "a.csv")) == expected
    assert read_jsonl(export_study(study, tmp_path / "a.jsonl")) == expected


def test_parquet_says_the_same(study: Study, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = export_study(study, tmp_path / "a.parquet")
    assert parquet.read_table(path).to_pylist() == export_rows(study)


def test_parquet_without_its_library(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"actsearch\[parquet\]"):
        export_study(study, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_other_endings_are_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean '\.csv'"):
        export_study(study, tmp_path / "a.cvs")


def test_the_command(study: Study, tmp_path: Path) -> None:
    wanted = [tmp_path / "a.csv", tmp_path / "b.jsonl"]
    words = [word for path in wanted for word in ("--export", str(path))]
    assert main(["report", str(study.run), "--output", str(tmp_path / "r.html"), *words]) == 0
    assert all(path.exists() for path in wanted)
