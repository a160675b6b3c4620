"""Trackers: told of every training once, also by a resumed study; the three are read back."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actsearch.grammar.errors import UsageError
from actsearch.studies.study import Progress, Study
from actsearch.studies.tracking import TRACKERS, TrackingError, tracker
from tests.actsearch.test_study import small_search


class Notes:
    """A tracker of one's own: three calls."""

    def __init__(self) -> None:
        self.begun: list[tuple[Path, Mapping[str, Any]]] = []
        self.results: list[Mapping[str, Any]] = []
        self.ended: list[Study | None] = []

    def begin(self, run: Path, config: Mapping[str, Any]) -> None:
        self.begun.append((run, config))

    def trained(self, result: Mapping[str, Any]) -> None:
        self.results.append(result)

    def end(self, study: Study | None) -> None:
        self.ended.append(study)


def stop(progress: Progress) -> None:
    if progress.stage == "search" and progress.done == 5:
        raise KeyboardInterrupt


def test_it_is_told_of_every_training_once(tmp_path: Path) -> None:
    """Across an interruption, too: what was recorded before is not told again."""
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        small_search(tmp_path, trackers=[notes], progress=stop)
    assert notes.ended == [None]
    study = Study.resume(tmp_path, trackers=[notes])
    assert [run for run, _ in notes.begun] == [tmp_path] * 2
    assert notes.ended[1] is not None
    assert notes.ended[1].leaderboard() == study.leaderboard()
    own = (t for stage in ("baseline", "search", "retest") for t in study.trainings(stage))
    expected = Counter((t["expression"], t["seed"], t["split"]) for t in own if t["lease"])
    assert Counter((r["expression"], r["seed"], r["split"]) for r in notes.results) == expected
    for stage in ("baseline", "search", "retest"):
        steps = [result["step"] for result in notes.results if result["stage"] == stage]
        assert steps == list(range(len(steps)))
    searched = [r for r in notes.results if r["stage"] == "search"]
    best = -1.0
    for result in searched:
        best = max(best, result["metric"] or -1.0)
        assert result["best"] == best


def named(name: str, package: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with a tracker, interrupted and resumed."""
    pytest.importorskip(package, reason=f"pip install 'actsearch[{name}]'")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(KeyboardInterrupt):
        small_search(run, trackers=[name], progress=stop)
    return Study.resume(run)


def metrics(study: Study, stage: str) -> list[float]:
    return sorted(t["metric"] for t in study.trainings(stage) if t["metric"] and t["lease"])


@pytest.mark.filterwarnings("default")
def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = named("tensorboard", "tensorboard", tmp_path / "run", monkeypatch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(study.run / "tensorboard")).Reload()
    for stage in ("baseline", "search", "retest"):
        logged = sorted(event.value for event in events.Scalars(f"{stage}/metric"))
        assert logged == pytest.approx(metrics(study, stage))
    best = [event.value for event in events.Scalars("search/best")]
    assert best == sorted(best)
    assert "leaderboard/text_summary" in events.Tags()["tensors"]


@pytest.mark.filterwarnings("default")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = named("mlflow", "mlflow", tmp_path / "run", monkeypatch)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{study.run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("actsearch")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["driver"] == "random"
    for stage in ("baseline", "search", "retest"):
        history = client.get_metric_history(run.info.run_id, f"{stage}/metric")
        assert sorted(point.value for point in history) == pytest.approx(metrics(study, stage))
    assert study.best is not None
    assert run.data.tags["best"] == study.best["expression"]


@pytest.mark.filterwarnings("default")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = named("wandb", "wandb", tmp_path / "run", monkeypatch)
    written = list((study.run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(written) == 2, "one file for each time that the study was begun"
    content = b"".join(path.read_bytes() for path in written)
    assert b"search/metric" in content
    assert b"leaderboard" in content


@pytest.mark.parametrize("name", TRACKERS)
def test_without_the_extra_it_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(module: str, *rest: Any) -> Any:
        if module.partition(".")[0] == name or module == f"torch.utils.{name}":
            raise ImportError(module)
        return imported(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrackingError, match=rf"pip install 'actsearch\[{name}\]'"):
        tracker(name)


def test_unknown_trackers_propose_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        small_search(tmp_path / "run", trackers=["wandv"])
    assert not (tmp_path / "run").exists()
