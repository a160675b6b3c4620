"""Studies with successive halving: what is trained, how long, and from which seeds."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from actsearch.grammar import space
from actsearch.grammar.errors import UsageError
from actsearch.studies.rungs import chosen_rungs
from actsearch.studies.study import Study, search
from actsearch.tasks import task
from actsearch.tasks.tables import Table, TableTask
from tests.actsearch.synthetic_task import NAME, SyntheticTask, read_log
from tests.actsearch.test_study import essence, small_search


def halved_search(run: Path, **options: Any) -> Study:
    return small_search(run, trials=30, asha="fullx1,fullx2,fullx4", **options)


def test_a_search_in_rungs_of_seeds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    study = halved_search(tmp_path / "run", task_options={"log": str(log)}, seed=4)
    assert study.stop_reason == "the steps of 30 trials are spent"
    trials = [trial for trial in study.trials() if trial["state"] == "done"]
    by_rung = Counter(trial["rung"] for trial in trials)
    assert by_rung[0] > by_rung[1] + by_rung[2] > 0
    for trial in trials:
        trainings = trial["trainings"]
        assert len(trainings) == 2 ** trial["rung"], "no seed is trained twice"
        assert len({t["seed"] for t in trainings}) == len(trainings)
        assert trial["reward"] == pytest.approx(fmean(t["metric"] for t in trainings))
    begun = Counter(facts for what, _, facts in read_log(log) if what == "begin")
    assert set(begun.values()) == {1}
    spent = sum(split == "validation" for *_, split in begun) - 2 * 2  # the baselines
    assert 30 <= spent <= 32, "the last promotion may pass the budget"
    others = [trial for trial in trials if trial["baseline"] is None]
    best = sorted(others, key=lambda t: (-t["rung"], -t["reward"]))[:2]
    retested = {row["trial"] for row in study.retest()} - {None}
    assert retested == {trial["number"] for trial in best}


def test_rungs_of_steps_train_less(tmp_path: Path) -> None:
    study = small_search(
        tmp_path,
        task="digits-mlp",
        task_options={"steps": 8},
        asha="2x1,8x1,fullx2",
        trials=6,
        driver="evolution",
    )
    assert study.config["rungs"] == [[2, 1], [None, 1], [None, 2]]
    spent = 0
    for trial in study.trials():
        asked = [(t["budget"], t["steps"], t["rung"]) for t in trial["trainings"]]
        assert asked == [(2, 2, 0), (None, 8, 1), (None, 8, 2)][: len(asked)]
        spent += sum(steps for _, steps, _ in asked)
        if trial["state"] == "done":
            full = [t["metric"] for t in trial["trainings"] if t["budget"] is None]
            metrics = full or [t["metric"] for t in trial["trainings"]]
            assert trial["reward"] == pytest.approx(fmean(metrics)), "equal steps alone compare"
    assert 48 <= spent <= 54
    assert study.counts["trained"] > 6, "more candidates for the same steps"
    assert study.leaderboard() == study.retest()


@pytest.mark.parametrize("driver", ["evolution", "surrogate"])
def test_the_number_of_workers_changes_nothing(driver: str, tmp_path: Path) -> None:
    options = {"surrogate": {"initial": 6, "batch": 2, "pool": 8}}
    studies = [
        halved_search(
            tmp_path / str(workers),
            space=space("swish", units=2),
            driver=driver,
            driver_options=options.get(driver, {"population": 6, "tournament": 3}),
            workers=workers,
            task_options={"delay": 0.005 * workers},
            seed=9,
        )
        for workers in (0, 2)
    ]
    assert essence(studies[0]) == essence(studies[1])
    assert studies[0].leaderboard() == studies[1].leaderboard()


def test_a_table_serves_every_seed_once(tmp_path: Path) -> None:
    """Different seeds read different columns; a table knows nothing of fewer steps."""
    searched = space("swish", units=1)
    candidates = tuple(str(searched.expression(k)) for k in range(searched.count()))
    metrics = tuple((k / 1e5, k / 1e5 + 0.1, k / 1e5 + 0.2, k / 1e5 + 0.3) for k in range(6250))
    losses = ((1.0,) * 4,) * 6250
    made = Table("t", candidates, tuple(range(6250)), {}, (0, 1, 2, 3), metrics, losses)
    made.save(tmp_path / "t.json.xz")
    name = f"table:{tmp_path / 't.json.xz'}"
    options: dict[str, Any] = {"task": name, "trials": 40, "retest": 0, "baselines": ()}
    options |= {"level": None, "exclude": (), "driver": "random", "run": tmp_path / "run"}
    with pytest.raises(UsageError, match="nothing of trainings with 100 steps"):
        search("swish", asha="100x1,fullx1", **options)
    with pytest.raises(UsageError, match="4 seeds, and rung fullx8 wants 8"):
        search("swish", asha="fullx1,fullx8", **options)
    with pytest.raises(UsageError, match="4 seeds, not 5"):
        search("swish", seeds=5, **options)
    study = search("swish", asha=True, **options)
    assert study.config["rungs"] == [[None, 1], [None, 2], [None, 4]]
    columns = defaultdict(list)
    for trial in study.trials():
        for training in trial["trainings"]:
            columns[trial["rung"]].append(round(10 * (training["metric"] - trial["index"] / 1e5)))
    assert set(columns[0]) == {columns[0][0]}
    assert sorted(set(columns[2])) == [0, 1, 2, 3]
    one = Table(
        "one",
        candidates,
        tuple(range(6250)),
        {},
        (0,),
        metrics=((0.5,),) * 6250,
        losses=((1.0,),) * 6250,
    )
    with pytest.raises(UsageError, match="this table has one"):
        chosen_rungs(True, TableTask(one))


def test_the_rungs_of_a_task() -> None:
    digits = task("digits-mlp")
    assert ",".join(map(str, chosen_rungs(True, digits) or ())) == (
        "25x1,fullx1,fullx2,fullx4,fullx8"
    )
    assert ",".join(map(str, chosen_rungs(True, SyntheticTask()) or ())) == (
        "fullx1,fullx2,fullx4,fullx8"
    )
    assert chosen_rungs(False, digits) is None
    with pytest.raises(UsageError, match="more steps than the recipe's 100"):
        chosen_rungs("25x1,200x1", digits)
    with pytest.raises(UsageError, match="takes no steps"):
        chosen_rungs("25x1,fullx1", SyntheticTask())
    with pytest.raises(UsageError, match="leave out seeds"):
        search("swish", task=NAME, asha=True, seeds=2)
