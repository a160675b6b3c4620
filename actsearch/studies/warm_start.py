"""Warm starts: what a study begins with, taken from named activations or from an earlier study.

Trainings of an earlier study count as this one's if the same task, recipe, data, versions and
device gave them. Otherwise its best candidates are trained first, and the driver learns from that.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from actsearch.grammar import Expression, SearchSpace, named_activations
from actsearch.grammar.errors import SpaceError
from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.studies.protocol import best_trials
from actsearch.studies.records import Training, Trial
from actsearch.studies.store import Store

NAMED = "named"
FIRST = 16
"""Candidates of a study of another kind that are trained first."""
SMALL = 20_000
"""Spaces up to this size are looked through for what has another text."""

_IDENTITY = ("task", "recipe", "data", "versions", "backend", "device")
_FACTS = ("seed", "state", "metric", "loss", "steps", "curve", "reason")
_GRID = np.linspace(-4, 4, 41)


@dataclass(frozen=True)
class WarmStart:
    """What comes before the driver's first proposal.

    Attributes:
        candidates: each with its index, and its trainings where they are known; plain data.
        note: what was taken from where, for people.
    """

    candidates: list[dict[str, Any]]
    note: str


def warm_start(
    source: str | PathLike[str], space: SearchSpace, config: Mapping[str, Any]
) -> WarmStart:
    """What a study with this configuration begins with.

    Args:
        source: "named", or the run directory of an earlier study.
        space: that is searched.
        config: of the new study.

    Raises:
        NotAStudy, WrongVersion, DamagedStore: the run directory cannot be read.
    """
    if source == NAMED:
        return _from_names(space)
    return _from_study(Path(source), space, config)


def training_identity(task: Any) -> dict[str, Any]:
    """What decides a training's result besides the task's name and options, as plain data."""
    from actsearch.codegen.targets import best_target

    recipe = getattr(task, "recipe", None)
    return {
        "recipe": None if recipe is None else asdict(recipe),
        "data": _data_identity(task),
        "backend": best_target().name,
    }


def _data_identity(task: Any) -> str:
    """A digest of what the data come from: files, packages, or the source of the user's task."""
    digest = hashlib.sha256()
    options = getattr(task, "options", None)
    path = options.get("path") if isinstance(options, Mapping) else None
    if path is not None:
        root = Path(path)
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file():
                facts = file.stat()
                digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()
    for package in ("mnist1d", "scikit-learn"):
        try:
            digest.update(f"{package} {metadata.version(package)}\n".encode())
        except metadata.PackageNotFoundError:
            continue
    if not type(task).__module__.startswith("actsearch."):
        try:
            digest.update(inspect.getsource(inspect.getmodule(type(task)) or type(task)).encode())
        except (OSError, TypeError):  # typed into an interpreter
            digest.update(repr(type(task)).encode())
    table = getattr(task, "table", None)
    if table is not None:
        digest.update(repr((table.candidates, table.metrics)).encode())
    return digest.hexdigest()


def _from_names(space: SearchSpace) -> WarmStart:
    named = named_activations()
    functions = list(dict.fromkeys(found.expression for found in named.values()))
    indices = _indices(space, functions)
    found = sorted({index for index in indices if index is not None})
    note = f"{len(found)} of the {len(functions)} named activations are in this space"
    return WarmStart([{"index": index, "trainings": []} for index in found], note)


def _from_study(run: Path, space: SearchSpace, config: Mapping[str, Any]) -> WarmStart:
    store = Store.open(run, writable=False)
    try:
        before, trials = store.config, store.trials()
    finally:
        store.close()
    trained = [t for t in trials if t.decision == "train" and t.state in ("done", "failed")]
    same_space = all(before["space"][k] == config["space"][k] for k in _OF_SPACE)
    changed = [name for name in _IDENTITY if before.get(name) != config[name]]
    if changed:
        chosen = best_trials(trained, FIRST)
        note = (
            f"another {' and '.join(changed)} than in {run}: its rewards are not taken over, its "
            "best candidates are trained first"
        )
    else:
        chosen = [trial for trial in trained if _known(trial)]
        note = f"what {run} has trained is not trained again"
    if same_space:
        indices: Iterable[int | None] = [trial.index for trial in chosen]
    else:
        from actsearch.grammar import parse

        indices = _indices(space, [parse(trial.expression) for trial in chosen])
    candidates = {
        index: {"index": index, "trainings": [] if changed else _known(trial)}
        for index, trial in reversed(list(zip(indices, chosen, strict=True)))
        if index is not None
    }
    count = len(candidates)
    return WarmStart(
        list(reversed(candidates.values())), f"{note}; {count} candidates of it are in this space"
    )


_OF_SPACE = ("text", "units", "parameters", "scope")


def _known(trial: Trial) -> list[dict[str, Any]]:
    """The finished trainings by the task's own recipe."""
    return [
        {name: getattr(training, name) for name in _FACTS} | {"seconds": 0.0}
        for training in trial.trainings
        if _usable(training)
    ]


def _usable(training: Training) -> bool:
    return training.finished and training.budget is None


def _indices(space: SearchSpace, functions: list[Expression]) -> list[int | None]:
    """Where these functions are in a space: by their text or, in a small space, by proof."""
    found: list[int | None] = []
    for function in functions:
        try:
            found.append(space.index(function))
        except SpaceError:
            found.append(None)
    if None in found and space.count() <= SMALL:
        places = _by_values(space)
        for number, function in enumerate(functions):
            if found[number] is None:
                found[number] = _proved(space, function, places.get(_values(function), []))
    return found


def _by_values(space: SearchSpace) -> dict[bytes, list[int]]:
    """The candidates of a space by what they are on a grid, the shortest first."""
    places: dict[bytes, list[int]] = {}
    for index in range(space.count()):
        places.setdefault(_values(space.expression(index)), []).append(index)
    return {
        key: sorted(group, key=lambda index: (len(space[index]), index))
        for key, group in places.items()
    }


def _values(function: Expression) -> bytes:
    """A key that equal functions are likely to share; a proof says whether they are."""
    with np.errstate(all="ignore"):
        values = evaluate_numpy(function, {"x": _GRID, "gate": _GRID[::-1]})
    return bytes(np.round(np.broadcast_to(values, _GRID.shape) + 0.0, 9).astype("<f8").tobytes())


def _proved(space: SearchSpace, function: Expression, places: list[int]) -> int | None:
    from actsearch.equivalence import equivalent

    likely = (
        index
        for index in places[:8]
        if len(space.expression(index).parameters) == len(function.parameters)
    )
    return next((i for i in likely if equivalent(space.expression(i), function).equal), None)
