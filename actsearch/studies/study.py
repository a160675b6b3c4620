"""Studies: a search from its first proposal to its re-tested leaderboard, kept in a run directory.

`search` starts one, `Study.resume` goes on with one that was stopped in whatever way, and
`Study.open` reads one, also while it runs.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from actsearch.drivers import driver as make_driver
from actsearch.grammar import SearchSpace, as_expression
from actsearch.grammar import space as make_space
from actsearch.grammar.errors import UsageError
from actsearch.studies import protocol
from actsearch.studies.constraints import check_constraints
from actsearch.studies.executors import Engine
from actsearch.studies.jobs import Limits
from actsearch.studies.records import Training, Trial
from actsearch.studies.run_directory import exclusive, new_run, refuse_existing
from actsearch.studies.rungs import chosen_rungs, fidelities
from actsearch.studies.screening import EXCLUSIONS, check_exclusions
from actsearch.studies.store import Store
from actsearch.studies.study_run import Progress, StudyRun, task_spec
from actsearch.studies.tracking import Tracker, tracked, tracker
from actsearch.studies.warm_start import training_identity
from actsearch.studies.warm_start import warm_start as make_warm_start
from actsearch.tasks import SPLITS

__all__ = ["Progress", "Study", "search"]

WINDOW = 8
"""Trials that may be in training at a time. It is part of what a search is (a driver learns of a
result that much later), so it does not depend on the number of workers."""


def search(
    space: str | Path | SearchSpace,
    *,
    task: str = "mnist1d-mlp",
    driver: str = "evolution",
    trials: int = 200,
    workers: int = 0,
    seed: int = 0,
    run: str | PathLike[str] | None = None,
    units: int | None = None,
    baselines: Sequence[str] = protocol.BASELINES,
    retest: int = 5,
    retest_seeds: int = 5,
    seeds: int = 1,
    baseline_seeds: int = 5,
    window: int = WINDOW,
    driver_options: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
    level: str | None = "function",
    exclude: Collection[str] = EXCLUSIONS,
    require: Sequence[str] = (),
    asha: bool | str = False,
    warm_start: str | PathLike[str] | None = None,
    device: str = "auto",
    store: str | None = None,
    executor: str | None = None,
    executor_options: Mapping[str, Any] | None = None,
    gpus: float = 0.0,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    trackers: Sequence[str | Tracker] = (),
    progress: Callable[[Progress], None] | None = None,
) -> Study:
    """Search a space for activation functions, compare with baselines, re-test the best.

    Args:
        space: name of a space, path of a .lark file, or a SearchSpace.
        task: name of a task, or "module:attribute" of one of your own.
        driver: name of a driver.
        trials: how many candidates are trained. Those that reuse an equivalent one's reward and
            those that are excluded are recorded, but cost nothing and do not count.
        workers: worker processes; 0 trains in this one. Results do not depend on it.
        seed: of the whole study.
        run: the run directory; runs/<space>-<task>-<driver>-<number> where it is None.
        units: of the space, if it is given by name or path.
        baselines: activations that are trained by the same recipe, from `baseline_seeds` seeds.
        retest: how many of the best candidates are trained again (with the baselines) from
            `retest_seeds` fresh seeds and measured on the test split; 0 for none.
        seeds: children for each candidate; its reward is their mean metric. All candidates train
            from the same seeds, so that their rewards are paired.
        window: how many trials may be in training at a time; at least `workers` keeps all busy.
        driver_options, task_options: of the driver and the task.
        level: what counts as the same candidate, which reuses the other's reward: "function", for
            the same function with the same initial values; "reparameterised" or "affine", for what
            training or the neighbouring layers can make up for; None trains them all.
        exclude: "constant" and "undefined" candidates (on part of [-5, 5]) are not trained.
        require: constraints that a candidate must keep, such as "cost<=12", "monotone" or a
            "module:attribute" of yours; see `actsearch.studies.constraints`.
        asha: successive halving around the driver: candidates begin with few steps or seeds, and
            the better ones are given more (`actsearch.drivers.Asha`). True for rungs by the task,
            or such as "100x1,fullx1,fullx4" (steps x seeds). `trials` then stands for the steps
            that so many full trainings take, and more candidates are tried.
        warm_start: "named" to try the named activations of the space first, or the run directory
            of an earlier study: what it trained by the same task, recipe, data, versions and device
            is not trained again; otherwise its best candidates come first.
        device: "auto" or a torch device.
        store: URL of a PostgreSQL database to keep the study in; in `run` where it is None.
        executor: "inline", "local", "ray", "submitit" or "shared" (`actsearch worker` processes,
            on any host, train); by the number of workers where it is None.
        executor_options: of `ray.init` or of submitit's `update_parameters`.
        gpus: for each training, also a fraction of one ("local", "ray").
        time_limit: seconds that a training may take; it counts as failed when it takes longer.
        memory_limit: MB that a training may allocate (Linux).
        trackers: "tensorboard", "wandb", "mlflow", or your own (`actsearch.studies.tracking`).
        progress: called when a stage begins and with each result.

    Returns:
        The finished study. When interrupted (Ctrl-C), KeyboardInterrupt is passed on: whatever has
        finished is in the run directory, and `Study.resume` goes on.

    Raises:
        UsageError: a name or a value that does not exist or makes no sense.
        RunExists: the run directory holds a study already.
        ExecutorError: no worker can be started.
        TrackingError: a tracker is not installed.
    """
    counts = {"trials": trials, "seeds": seeds, "window": window}
    counts |= {"baseline_seeds": baseline_seeds, "retest_seeds": retest_seeds}
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} is a whole number of at least 1, not {value}")
    for name, value in {"retest": retest, "workers": workers}.items():
        if value < 0:
            raise UsageError(f"{name} is a whole number of at least 0, not {value}")
    if isinstance(space, SearchSpace) and units is not None:
        raise UsageError("units are chosen when a space is made: space(name, units)")
    check_exclusions(exclude)
    check_constraints(require)
    if level is not None:
        from actsearch.equivalence.index import check_level

        check_level(level)
    options = dict(executor_options or {})
    limits = Limits(time_limit, memory_limit)
    engine = Engine.chosen(executor, workers, limits=limits, gpus=gpus, options=options)
    engine.check()
    if asha is not False and seeds != 1:
        raise UsageError("with successive halving the rungs say how many seeds: leave out seeds")
    chosen_trackers = [tracker(t) if isinstance(t, str) else t for t in trackers]
    for text in baselines:
        as_expression(text)
    searched = space if isinstance(space, SearchSpace) else make_space(space, units)
    config: dict[str, Any] = {
        "space": {
            "name": searched.name,
            "text": searched.text,
            "units": searched.units,
            "source": str(searched.source),
            "parameters": searched.parameters,
            "scope": searched.scope,
        },
        "task": {"name": task, "options": dict(task_options or {})},
        "driver": {"name": driver, "options": dict(driver_options or {})},
        "trials": trials,
        "workers": workers,
        "executor": engine.kind,
        "executor_options": options,
        "gpus": gpus,
        "time_limit": time_limit,
        "memory_limit": memory_limit,
        "seed": seed,
        "seeds": seeds,
        "window": window,
        "baselines": list(baselines),
        "baseline_seeds": baseline_seeds,
        "retest": retest,
        "retest_seeds": retest_seeds,
        "level": level,
        "exclude": sorted(exclude),
        "require": list(require),
        "rungs": None,
        "warm_start": None,
        "trackers": [name for name in trackers if isinstance(name, str)],
        "device": device,
        "versions": library_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    make_driver(driver, searched, seed, **dict(driver_options or {}))
    made = task_spec(config).make()
    rungs = chosen_rungs(asha, made)
    if rungs is not None:
        config["rungs"] = [[rung.steps, rung.seeds] for rung in rungs]
    fidelities(config, made)
    config |= training_identity(made)
    warm: list[dict[str, Any]] = []
    if warm_start is not None:
        found = make_warm_start(warm_start, searched, config)
        warm = found.candidates
        config["warm_start"] = {"source": str(warm_start), "note": found.note}
    splits = getattr(made, "splits", SPLITS)
    if retest and "test" not in splits:
        raise UsageError(f"the task {task} has no test split for a re-test: say retest=0")
    if run is None:
        stem = f"{searched.name}-{_file_name(task)}-{driver}"
        folder = new_run(Path("runs"), stem)
    else:
        folder = Path(run)
        refuse_existing(folder)
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        refuse_existing(folder)
        Store.create(folder, config, store, warm=warm).close()
    return Study.resume(folder, progress=progress, trackers=chosen_trackers)


class Study:
    """A study, read from its run directory: `Study.open(run)`.

    Attributes:
        run: the run directory.
        config: what it was started with, as plain data.
    """

    def __init__(self, run: Path, store: Store) -> None:
        self.run = run
        self.config = store.config
        self._store = store

    @classmethod
    def open(cls, run: str | PathLike[str]) -> Study:
        """Read a study, also while another process works on it; nothing is changed.

        Raises:
            NotAStudy, WrongVersion, DamagedStore: see `actsearch.studies.run_directory`.
        """
        return cls(Path(run), Store.open(Path(run), writable=False))

    @classmethod
    def resume(
        cls,
        run: str | PathLike[str],
        *,
        workers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        trackers: Sequence[Tracker] | None = None,
    ) -> Study:
        """Go on with a study until it is finished; nothing that has finished is trained again.

        Args:
            run: the run directory.
            workers: worker processes; as when it was started where it is None.
            progress: as in `search`.
            trackers: those that were named when it was started where it is None.

        Raises:
            NotAStudy, WrongVersion, DamagedStore, StudyIsRunning: and nothing has been changed.
            ExecutorError: no worker can be started.
        """
        folder = Path(run)
        study = cls.open(folder)
        if study.status == "finished":
            return study
        with exclusive(folder):
            store = Store.open(folder)
            try:
                if trackers is None:
                    trackers = [tracker(name) for name in store.config["trackers"]]
                with tracked(trackers, folder, store.config):
                    StudyRun(folder, store, workers, progress, trackers).finish()
            finally:
                store.close()
        study = cls.open(folder)
        for told in trackers:
            told.end(study)
        return study

    # where it stands

    @property
    def status(self) -> str:
        """ "finished", or "running" for one that runs or was stopped."""
        return str(self._store.get("status", "running"))

    @property
    def stop_reason(self) -> str | None:
        """Why the search proposed no more; None while it does."""
        reason: str | None = self._store.get("stop_reason")
        return reason

    @property
    def counts(self) -> dict[str, int]:
        """How many trials were proposed, trained, and are in each state."""
        trials = self._store.trials()
        states = Counter(trial.state for trial in trials)
        names = ("done", "failed", "reused", "excluded", "pending", "running")
        return {
            "proposed": states.total(),
            "trained": sum(trial.finished and trial.trained_here for trial in trials),
            **{name: states[name] for name in names},
        }

    # what it found

    def trials(self) -> list[dict[str, Any]]:
        """Every proposal in order, as plain data.

        Returns:
            number, index (in the space), expression, state, reward, loss, seconds, reason, class
            (number of the first trial of its class), source (the trial whose reward it reuses),
            certificate, baseline (that is the same function), rung (that it reached), and
            trainings: seed, state, metric, loss, seconds, steps, curve, reason, worker, lease,
            rung, budget (steps asked for, None for the recipe's).
        """
        return [_trial_data(trial) for trial in self._store.trials()]

    def trainings(self, stage: str) -> list[dict[str, Any]]:
        """The children trained in a stage, "baseline", "search" or "retest", as plain data.

        Returns:
            trial (None for a baseline), expression, split, and what `trials` says of a training.
        """
        return [_training_data(training) for training in self._store.trainings(stage)]

    def leaderboard(self, limit: int = 10) -> list[dict[str, Any]]:
        """The best candidates and the baselines, best first, as `protocol.row` has them.

        After the re-test these are its rows. Before, they are the `limit` best candidates and the
        baselines that are trained, on the validation split.
        """
        if retested := self.retest():
            return retested
        others = (trial for trial in self._store.trials() if trial.baseline is None)
        best = protocol.best_trials(others, limit)
        candidates = [
            protocol.row(trial.expression, trial.counted, trial.number, trial.reward)
            for trial in best
        ]
        return protocol.ranked([*candidates, *self._baselines()])

    def baselines(self) -> list[dict[str, Any]]:
        """The baselines on the validation split, as far as they are trained, best first."""
        return protocol.ranked(self._baselines())

    def _baselines(self) -> list[dict[str, Any]]:
        finished = [t for t in self._store.trainings("baseline") if t.finished]
        rows = protocol.rows_of(finished, {})
        return [row | {"validation": row["mean"]} for row in rows]

    def retest(self) -> list[dict[str, Any]]:
        """The re-test on the test split, best first; empty until all of it is done."""
        trainings = self._store.trainings("retest")
        if not all(training.finished for training in trainings):
            return []
        seen: dict[tuple[int | None, str], float | None] = {
            (trial.number, trial.expression): trial.reward for trial in self._store.trials()
        }
        seen |= {(None, row["expression"]): row["mean"] for row in self._baselines()}
        return protocol.ranked(protocol.rows_of(trainings, seen))

    @property
    def best(self) -> dict[str, Any] | None:
        """The leaderboard's first candidate."""
        return next((row for row in self.leaderboard() if row["kind"] == "candidate"), None)

    def summary(self) -> dict[str, Any]:
        """Run, number of trials trained, how many failed, and the leaderboard, as plain data."""
        counts = self.counts
        return {
            "run": str(self.run),
            "trials": counts["trained"],
            "failed": counts["failed"],
            "leaderboard": self.leaderboard(),
        }


def _file_name(task: str) -> str:
    return re.sub(r"[^\w.-]+", "-", task.removesuffix(".json.xz")).strip("-")


def library_versions() -> dict[str, str]:
    """Of what decides the results."""
    names = ("torch", "numpy", "sympy")
    found = {name: metadata.version(name) for name in names}
    from actsearch import __version__

    return {"actsearch": __version__, "python": platform.python_version(), **found}


def _trial_data(trial: Trial) -> dict[str, Any]:
    trained = trial.decision == "train"
    hidden = ("trial", "expression", "split")
    return {
        "number": trial.number,
        "index": trial.index,
        "expression": trial.expression,
        "state": trial.state,
        "reward": trial.reward,
        "loss": trial.loss,
        "seconds": sum(t.seconds or 0.0 for t in trial.trainings) if trained else None,
        "reason": trial.reason,
        "class": (trial.source or trial).number if trial.decision != "exclude" else None,
        "source": None if trial.source is None else trial.source.number,
        "certificate": trial.certificate,
        "baseline": trial.baseline,
        "rung": max(trial.rung, 0),
        "trainings": [
            {key: value for key, value in _training_data(t).items() if key not in hidden}
            for t in trial.trainings
        ],
    }


def _training_data(training: Training) -> dict[str, Any]:
    hidden = ("id", "stage", "losses")
    return {key: value for key, value in asdict(training).items() if key not in hidden}
