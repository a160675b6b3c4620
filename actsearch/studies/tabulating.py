"""Making a table: every class of a space that can train, trained from every seed; resumable.

actsearch table build swish --units 1 --task mnist1d-mlp --seeds 4 --run DIR --output FILE
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actsearch.codegen.targets import best_target
from actsearch.grammar import SearchSpace
from actsearch.grammar import space as make_space
from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import executor
from actsearch.studies.interrupts import check_for_interrupt, interrupts_noted
from actsearch.studies.jobs import TaskSpec
from actsearch.studies.records import Training
from actsearch.studies.run_directory import DATABASE, StudyError, exclusive
from actsearch.studies.screening import EXCLUSIONS, exclusion
from actsearch.studies.store import Store
from actsearch.studies.study import library_versions
from actsearch.studies.training_queue import TrainingQueue
from actsearch.tasks.tables.contents import SUFFIX, Table

_FIXED = ("space", "units", "task", "options", "seeds", "sample", "versions", "backend")
"""What decides the numbers: a table is not continued with any of it changed."""


def build_table(
    space: str,
    run: Path,
    output: Path,
    *,
    units: int | None = None,
    task: str = "mnist1d-mlp",
    task_options: Mapping[str, Any] | None = None,
    seeds: int = 4,
    sample: int | None = None,
    workers: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Train every class of a space that is defined, finite and not constant on [-5, 5].

    Args:
        space: its name or path.
        run: the run directory; what is finished there is not trained again.
        output: the file of the table, *.json.xz.
        units: of the space.
        task, task_options: what the children are, and their recipe.
        seeds: each class is trained from the seeds 0, 1, … below this.
        sample: only so many candidates, evenly spaced in the space; all where it is None.
        workers: worker processes; 0 trains in this one.
        device: "auto" or a torch device.
        progress: called with how many children are done, and how many there are.

    Raises:
        UsageError: a name or number that makes no sense.
        StudyError: the run directory cannot be used, or holds a table of another recipe or version.
    """
    if seeds < 1 or (sample is not None and sample < 1):
        raise UsageError("a table has at least 1 seed and 1 candidate")
    if not output.name.endswith(SUFFIX):
        raise UsageError(f"a table is a file named *{SUFFIX}, not {output}")
    searched = make_space(space, units)
    config: dict[str, Any] = {
        "space": hashlib.sha256(searched.text.encode()).hexdigest(),
        "units": searched.units,
        "task": task,
        "options": dict(task_options or {}),
        "seeds": seeds,
        "sample": sample,
        "versions": library_versions(),
        "backend": best_target().name,
    }
    spec = TaskSpec(task, config["options"], device)
    made = spec.make()
    run.mkdir(parents=True, exist_ok=True)
    with exclusive(run):
        store = _opened(run, config)
        try:
            groups = store.get("groups") or _group(store, searched, sample)
            trainings = store.trainings("baseline") or store.add_trainings(
                "baseline",
                [
                    (group["expression"], seed, "validation", None)
                    for seed in range(seeds)  # all classes once, then all of them again
                    for group in groups["classes"]
                ],
            )
            _train(store, spec, workers, trainings, progress)
            config = store.config
        finally:
            store.close()
    count = len(groups["classes"])
    columns = [trainings[k * count : (k + 1) * count] for k in range(seeds)]
    table = Table(
        name=output.name.removesuffix(SUFFIX),
        candidates=tuple(groups["candidates"]),
        classes=tuple(groups["membership"]),
        excluded={int(k): reason for k, reason in groups["excluded"].items()},
        seeds=tuple(range(seeds)),
        metrics=tuple(tuple(t.metric for t in row) for row in zip(*columns, strict=True)),
        losses=tuple(
            tuple(None if t.loss is None else float(f"{t.loss:.5g}") for t in row)
            for row in zip(*columns, strict=True)
        ),
        facts={
            "command": _command(space, config, output),
            "space": {"name": searched.name, "units": searched.units, "sha256": config["space"]},
            "task": task,
            "recipe": _recipe(made),
            "split": "validation",
            "versions": config["versions"],
            "backend": config["backend"],
            "created": config["created"],
            "device": device,
        },
    )
    table.save(output)
    return table


def _opened(run: Path, config: dict[str, Any]) -> Store:
    if not (run / DATABASE).exists():
        started = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        return Store.create(run, config | started)
    store = Store.open(run)
    before = store.config
    changed = [name for name in _FIXED if before.get(name) != config[name]]
    if changed:
        store.close()
        raise StudyError(
            f"{run} holds a table with another {' and '.join(changed)}: use another --run directory"
        )
    return store


def _group(store: Store, space: SearchSpace, sample: int | None) -> dict[str, Any]:
    """Which candidates are the same function, and which are not trained; kept in the store."""
    from actsearch.equivalence import EquivalenceIndex

    total = space.count()
    count = total if sample is None else min(sample, total)
    positions = [k * total // count for k in range(count)]
    index = EquivalenceIndex(declarations=True)
    numbers: dict[Any, int] = {}
    candidates, membership = [], []
    classes: list[dict[str, Any]] = []
    excluded: dict[str, str] = {}
    for place, position in enumerate(positions):
        expression = space.expression(position)
        candidates.append(str(expression))
        reason = exclusion(expression, EXCLUSIONS)
        if reason is not None:
            excluded[str(place)] = reason
            membership.append(-1)
            continue
        found, _, _ = index.find_or_add(expression)
        number = numbers.setdefault(found, len(numbers))
        if number == len(classes):
            classes.append({"expression": str(expression)})
        membership.append(number)
    groups = {
        "candidates": candidates,
        "membership": membership,
        "excluded": excluded,
        "classes": classes,
    }
    store.set("groups", groups)
    return groups


def _train(
    store: Store,
    spec: TaskSpec,
    workers: int,
    trainings: Sequence[Training],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train what is not finished; what was in work when this was last stopped begins anew."""
    done = sum(training.finished for training in trainings)

    def tell() -> None:
        if progress is not None:
            progress(done, len(trainings))

    def finished(_: Training) -> None:
        nonlocal done
        done += 1
        check_for_interrupt()
        tell()

    for training in trainings:
        if training.state == "running":
            store.release(training, training.lease)
    tell()
    with interrupts_noted(), executor(spec, workers) as engine:
        queue = TrainingQueue(store, engine, finished)
        queue.put(trainings)
        queue.wait_for(trainings)


def _recipe(task: Any) -> dict[str, Any] | None:
    from dataclasses import asdict

    recipe = getattr(task, "recipe", None)
    return None if recipe is None else asdict(recipe)


def _command(space: str, config: Mapping[str, Any], output: Path) -> str:
    words = ["actsearch", "table", "build", space, "--task", config["task"]]
    words += ["--units", str(config["units"])] if config["units"] else []
    words += ["--seeds", str(config["seeds"])]
    words += ["--sample", str(config["sample"])] if config["sample"] else []
    for key, value in config["options"].items():
        words += ["--task-option", f"{key}={value}"]
    return shlex.join([*words, "--output", output.name])
