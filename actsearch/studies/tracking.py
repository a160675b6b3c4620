"""Tracking: a study's results as they come, in TensorBoard, Weights & Biases or MLflow.

A tracker is a callback with three calls; `search(trackers=[...])` takes any object that has them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from actsearch.grammar.errors import ActSearchError, UsageError, did_you_mean

if TYPE_CHECKING:
    from actsearch.studies.study import Study

STATE = "tracking.json"
"""In the run directory: which runs of a tracking server belong to this study."""


class TrackingError(ActSearchError):
    """A tracker that is not installed."""


class Tracker(Protocol):
    """Is told what a study does. All three are called from the process that drives it."""

    def begin(self, run: Path, config: Mapping[str, Any]) -> None:
        """Work on the study begins, for the first time or again."""

    def trained(self, result: Mapping[str, Any]) -> None:
        """A training is finished and recorded.

        Args:
            result: stage, step (its number within the stage), trial, rung, expression, seed,
                split, state, metric, loss, seconds, reason; best: the best metric of the search.
        """

    def end(self, study: Study | None) -> None:
        """The study is finished, or (None) work on it has been broken off for now."""


class TensorBoard:
    """Scalars by stage in `tensorboard/` of the run directory: tensorboard --logdir RUN."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._make = SummaryWriter

    def begin(self, run: Path, config: Mapping[str, Any]) -> None:
        self._writer: Any = self._make(str(run / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")

    def trained(self, result: Mapping[str, Any]) -> None:
        for name, value in _scalars(result).items():
            self._writer.add_scalar(name, value, result["step"])

    def end(self, study: Study | None) -> None:
        if study is not None:
            self._writer.add_text("leaderboard", self._table(study))
        self._writer.close()

    @staticmethod
    def _table(study: Study) -> str:
        rows = [f"| {r['expression']} | {r['mean']} | {r['stderr']} |" for r in study.leaderboard()]
        lines = ["| function | mean | standard error |", "| --- | --- | --- |", *rows]
        return "\n".join(lines)


class WandB:
    """A run of Weights & Biases, continued by a resumed study. WANDB_MODE=offline needs no account.

    The project is WANDB_PROJECT, or "actsearch".
    """

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        self._wandb = wandb

    def begin(self, run: Path, config: Mapping[str, Any]) -> None:
        known = _known(run)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "actsearch"),
            name=run.name,
            id=known.get("wandb"),
            resume="allow" if "wandb" in known else None,
            dir=str(run),
            config=dict(config),
        )
        _remember(run, "wandb", self._run.id)

    def trained(self, result: Mapping[str, Any]) -> None:
        # several stages count from 0, and W&B takes growing steps alone: each has its own axis
        stage = result["stage"]
        self._run.log(_scalars(result) | {f"{stage}/step": result["step"]})

    def end(self, study: Study | None) -> None:
        if study is not None:
            self._conclude(study)
        self._run.finish()

    def _conclude(self, study: Study) -> None:
        rows = [[r["expression"], r["mean"], r["stderr"], r["seeds"]] for r in study.leaderboard()]
        columns = ["function", "mean", "standard error", "seeds"]
        self._run.log({"leaderboard": self._wandb.Table(columns=columns, data=rows)})
        if study.best is not None:
            self._run.summary["best"] = study.best["expression"]


class MLflow:
    """A run of MLflow, continued by a resumed study.

    The server is MLFLOW_TRACKING_URI, or a database in the run directory; the experiment is
    MLFLOW_EXPERIMENT_NAME, or "actsearch".
    """

    def __init__(self) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow") from None
        self._make = MlflowClient

    def begin(self, run: Path, config: Mapping[str, Any]) -> None:
        local = f"sqlite:///{run.resolve() / 'mlflow.db'}"
        self._client: Any = self._make(os.environ.get("MLFLOW_TRACKING_URI", local))
        self._id = _known(run).get("mlflow")
        if self._id is not None:
            self._client.update_run(self._id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "actsearch")
        experiment = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if experiment is None else None
        made = self._client.create_run(place or experiment.experiment_id, run_name=run.name)
        self._id = made.info.run_id
        _remember(run, "mlflow", self._id)
        for key, value in config.items():
            if isinstance(value, str | int | float):
                self._client.log_param(self._id, key, value)
        for part in ("space", "task", "driver"):
            self._client.log_param(self._id, part, config[part]["name"])

    def trained(self, result: Mapping[str, Any]) -> None:
        for name, value in _scalars(result).items():
            self._client.log_metric(self._id, name, value, step=result["step"])

    def end(self, study: Study | None) -> None:
        if study is None:
            self._client.set_terminated(self._id, "KILLED")
            return
        if study.best is not None:
            self._client.set_tag(self._id, "best", study.best["expression"])
            self._client.log_metric(self._id, "best", study.best["mean"])
        self._client.set_terminated(self._id, "FINISHED")


TRACKERS: Mapping[str, type[TensorBoard] | type[WandB] | type[MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


def tracker(name: str) -> Tracker:
    """The tracker of that name.

    Raises:
        UsageError: there is none.
        TrackingError: what it needs is not installed.
    """
    if name not in TRACKERS:
        hint = did_you_mean(name, TRACKERS)
        raise UsageError(f"no tracker {name!r}; there are {', '.join(TRACKERS)}{hint}")
    return TRACKERS[name]()


@contextmanager
def tracked(trackers: Sequence[Tracker], run: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Work on a study of which these are told; what breaks it off ends their own work, too."""
    begun: list[Tracker] = []
    try:
        for told in trackers:
            told.begin(run, config)
            begun.append(told)
        yield
    except BaseException:
        for told in begun:
            told.end(None)
        raise


def _scalars(result: Mapping[str, Any]) -> dict[str, float]:
    stage = result["stage"]
    found = {f"{stage}/{name}": result[name] for name in ("metric", "loss", "seconds")}
    found[f"{stage}/failed"] = float(result["state"] == "failed")
    if stage == "search":
        found["search/best"] = result["best"]
    return {name: value for name, value in found.items() if value is not None}


def _missing(package: str) -> TrackingError:
    return TrackingError(f"this tracker needs {package}: pip install 'actsearch[{package}]'")


def _known(run: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((run / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _remember(run: Path, name: str, identity: str) -> None:
    (run / STATE).write_text(json.dumps(_known(run) | {name: identity}), encoding="utf-8")
