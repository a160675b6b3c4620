"""Studies: what is trained, what is not, in which order, and what is reported of it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actsearch.drivers import UnknownDriver
from actsearch.equivalence import equivalent
from actsearch.grammar import ExpressionError, SearchSpace, SpaceError, space
from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import ExecutorError
from actsearch.studies.interrupts import check_for_interrupt, interrupts_noted
from actsearch.studies.protocol import compare, row, standard_error, training_seeds
from actsearch.studies.records import Training
from actsearch.studies.run_directory import NotAStudy, RunExists, StudyIsRunning, exclusive
from actsearch.studies.study import Progress, Study, search
from actsearch.tasks import TaskError
from tests.actsearch.synthetic_task import NAME, SyntheticTask, read_log

TINY = """
start: unit
unit: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
unary: "x" -> identity | "sin(x)" -> sin | "1" -> one | "log(x)" -> log
"""


def tiny() -> SearchSpace:
    """32 candidates: 14 with log(x), undefined for x < 0; 4 constants; 14 others in 7 classes."""
    return SearchSpace(TINY, "tiny")


def small_search(run: Path, **options: Any) -> Study:
    settings: dict[str, Any] = {"task": NAME, "trials": 12, "retest": 2, "retest_seeds": 3}
    settings |= {"baseline_seeds": 2, "baselines": ("relu(x)", "silu(x)"), "driver": "random"}
    return search(options.pop("space", "swish"), run=run, **settings | options)


def essence(study: Study) -> list[dict[str, Any]]:
    """What must not depend on workers, time or interruptions."""
    changing = {"seconds", "worker", "lease"}
    trials = study.trials()
    for trial in trials:
        trial["trainings"] = [
            {key: value for key, value in training.items() if key not in changing}
            for training in trial["trainings"]
        ]
    return trials


# the whole loop


def test_a_search_from_end_to_end(tmp_path: Path) -> None:
    log, seen = tmp_path / "log", []
    study = small_search(
        tmp_path / "run", task_options={"log": str(log)}, seed=4, progress=seen.append
    )
    assert study.status == "finished"
    assert study.stop_reason == "12 trials are done"
    counts = study.counts
    assert counts["trained"] == counts["done"] + counts["failed"] == 12
    assert counts["proposed"] == 12 + counts["reused"] + counts["excluded"]
    trained = Counter(facts for what, _, facts in read_log(log) if what == "begin")
    assert set(trained.values()) == {1}
    by_split = Counter(split for _, _, split in trained)
    assert by_split == {"validation": 12 + 2 * 2, "test": (2 + 2) * 3}
    # the test split and its seeds are touched by the re-test alone
    seeds = {split: {seed for _, seed, s in trained if s == split} for split in by_split}
    assert not seeds["validation"] & seeds["test"]
    assert {progress.stage for progress in seen} == {"baselines", "search", "retest"}
    assert (seen[-1].done, seen[-1].total) == (12, 12)
    best = max((t for t in study.trials() if t["reward"] is not None), key=lambda t: t["reward"])
    assert (seen[-1].best_expression, seen[-1].best_reward) == (
        best["expression"],
        best["reward"],
    )


def test_the_leaderboard_is_the_retest(tmp_path: Path) -> None:
    study = small_search(tmp_path)
    board = study.leaderboard()
    assert board == study.retest()
    assert [row["rank"] for row in board] == [1, 2, 3, 4]
    assert Counter(row["kind"] for row in board) == {"candidate": 2, "baseline": 2}
    assert {row["split"] for row in board} == {"test"}
    assert {row["seeds"] for row in board} == {3}
    assert all(row["stderr"] > 0 for row in board)
    assert [row["mean"] for row in board] == sorted((r["mean"] for r in board), reverse=True)
    rewards = sorted((t["reward"] for t in study.trials() if t["state"] == "done"), reverse=True)
    validation = [row["validation"] for row in board if row["kind"] == "candidate"]
    assert sorted(validation, reverse=True) == rewards[:2]
    assert {row["expression"] for row in study.baselines()} == {"relu(x)", "silu(x)"}
    assert {(row["seeds"], row["split"]) for row in study.baselines()} == {(2, "validation")}
    assert study.best == next(row for row in board if row["kind"] == "candidate")
    summary = json.loads(json.dumps(study.summary(), allow_nan=False))
    assert summary["leaderboard"] == board
    assert (summary["run"], summary["trials"]) == (str(tmp_path), 12)


def test_without_a_retest_the_leaderboard_is_the_search(tmp_path: Path) -> None:
    study = small_search(tmp_path, retest=0)
    board = study.leaderboard(limit=3)
    assert {row["split"] for row in board} == {"validation"}
    assert Counter(row["kind"] for row in board) == {"candidate": 3, "baseline": 2}
    assert all(row["stderr"] is None for row in board if row["kind"] == "candidate")
    assert study.retest() == []


def test_a_study_reads_the_same_from_disk(tmp_path: Path) -> None:
    study = small_search(tmp_path)
    again = Study.open(tmp_path)
    assert again.config == study.config
    assert again.trials() == study.trials()
    assert again.leaderboard() == study.leaderboard()
    json.dumps(again.config, allow_nan=False)
    json.dumps(again.trials(), allow_nan=False)


@pytest.mark.parametrize("driver", ["evolution", "ppo"])
def test_the_number_of_workers_changes_nothing(driver: str, tmp_path: Path) -> None:
    """Proposals depend on the window alone, whatever finishes first."""
    studies = [
        small_search(
            tmp_path / str(workers),
            space=space("swish", units=2),
            driver=driver,
            driver_options={"batch": 4, "hidden": 8}
            if driver == "ppo"
            else {"population": 6, "tournament": 3},
            trials=30,
            workers=workers,
            task_options={"delay": 0.005 * workers},
            seed=9,
        )
        for workers in (0, 1, 3)
    ]
    assert essence(studies[0]) == essence(studies[1]) == essence(studies[2])
    assert studies[0].leaderboard() == studies[1].leaderboard() == studies[2].leaderboard()


def test_several_seeds_a_candidate(tmp_path: Path) -> None:
    study = small_search(tmp_path, trials=4, seeds=3, seed=8)
    for trial in study.trials():
        if trial["state"] == "done":
            metrics = [training["metric"] for training in trial["trainings"]]
            assert trial["reward"] == pytest.approx(math.fsum(metrics) / 3, abs=1e-15)
            assert [t["seed"] for t in trial["trainings"]] == training_seeds(8, "search", 3)


def test_per_channel_holes_are_trained_as_such(tmp_path: Path) -> None:
    study = small_search(
        tmp_path, space=space("swish", scope="per channel"), trials=40, retest=0, baselines=()
    )
    with_holes = [t["expression"] for t in study.trials() if "_1" in t["expression"]]
    assert with_holes
    assert all("per channel" in expression for expression in with_holes)


# what costs no training


def test_duplicates_and_hopeless_candidates_are_not_trained(tmp_path: Path) -> None:
    study = small_search(tmp_path, space=tiny(), driver="exhaustive", trials=100, retest=0)
    assert study.stop_reason == "all 32 candidates of the space have been proposed"
    trials = study.trials()
    constants = ("max(sin(x), 1)", "max(1, sin(x))", "max(1, 1)", "1*1")
    assert [trial["index"] for trial in trials] == list(range(32))
    for trial in trials:
        match trial["state"]:
            case "excluded":
                undefined = "log" in trial["expression"]
                assert undefined or trial["expression"] in constants
                expected = "undefined or infinite at x = -5" if undefined else "constant"
                assert trial["reason"].startswith(expected)
                assert (trial["reward"], trial["class"], trial["trainings"]) == (None, None, [])
            case "reused":
                source = trials[trial["source"]]
                assert source["number"] < trial["number"]
                assert source["state"] == "done"
                assert trial["class"] == source["class"] == source["number"]
                assert trial["reward"] == source["reward"]
                assert trial["certificate"]
                assert equivalent(trial["expression"], source["expression"]).equal
                assert trial["trainings"] == []
            case state:
                assert state == "done"
    assert study.counts == {
        "proposed": 32,
        "trained": 7,
        "done": 7,
        "failed": 0,
        "reused": 7,
        "excluded": 18,
        "pending": 0,
        "running": 0,
    }


KNOWN = """
start: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
unary: "x" -> identity | "sigmoid(x)" -> sigmoid | "0" -> zero
"""


def test_a_candidate_that_is_a_baseline_is_not_trained_again(tmp_path: Path) -> None:
    """max(x, 0) is relu(x) and x*sigmoid(x) is silu(x), by proof; they stand on the board once."""
    log = tmp_path / "log"
    study = small_search(
        tmp_path / "run",
        space=SearchSpace(KNOWN, "known"),
        driver="exhaustive",
        trials=100,
        retest=9,
        task_options={"log": str(log)},
    )
    known = {t["expression"]: t for t in study.trials() if t["baseline"]}
    assert {text: t["baseline"] for text, t in known.items()} == {
        "max(x, 0)": "relu(x)",
        "x*sigmoid(x)": "silu(x)",
    }
    means = {row["expression"]: row["metrics"] for row in study.baselines()}
    for trial in known.values():
        (training,) = trial["trainings"]
        assert training["metric"] == trial["reward"]
        assert training["metric"] == means[trial["baseline"]][str(training["seed"])]
        assert (training["seconds"], training["lease"]) == (0.0, 0)
        assert trial["certificate"]
    begun = Counter(facts for what, _, facts in read_log(log) if what == "begin")
    assert set(begun.values()) == {1}
    texts = {text for text, _, _ in begun}
    assert not texts & known.keys()
    assert study.counts["trained"] == study.counts["done"] - 2
    board = [row["expression"] for row in study.retest()]
    assert not set(board) & known.keys()
    assert {"relu(x)", "silu(x)"} <= set(board)


def test_both_can_be_switched_off(tmp_path: Path) -> None:
    study = small_search(
        tmp_path,
        space=tiny(),
        driver="exhaustive",
        trials=100,
        retest=0,
        level=None,
        exclude=(),
    )
    assert study.counts["trained"] == 32
    assert study.counts["failed"] == 14
    reasons = {t["reason"] for t in study.trials() if t["state"] == "failed"}
    assert reasons == {"loss is nan at step 1"}


SCALED = """
start: unit
unit: "mul(" factor ", " unary ")" -> mul
factor: "1" -> one | "3" -> three | "_" -> free
unary: "sin(x)" -> sin | "exp(x)" -> exp | "exp(-x)" -> falling | "atan(_*x)" -> atan
"""


@pytest.mark.parametrize(
    ("level", "classes"), [(None, 12), ("function", 12), ("reparameterised", 12), ("affine", 3)]
)
def test_coarser_levels_train_less(tmp_path: Path, level: str | None, classes: int) -> None:
    """exp(-x) is exp(x) mirrored, 3*f and _*f are f scaled: the layers around make up for it."""
    searched = SearchSpace(SCALED, "scaled")
    study = small_search(
        tmp_path, space=searched, driver="exhaustive", trials=100, level=level, exclude=()
    )
    assert study.counts["trained"] == classes


def test_a_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no equivalence level 'afine'"):
        small_search(tmp_path, level="afine")


def test_a_failed_class_fails_its_duplicates(tmp_path: Path) -> None:
    study = small_search(
        tmp_path,
        space=tiny(),
        driver="exhaustive",
        trials=100,
        retest=0,
        task_options={"broken": "max(x, sin(x))"},
    )
    failed = [t for t in study.trials() if "ArithmeticError" in (t["reason"] or "")]
    assert [t["state"] for t in failed] == ["failed", "reused"]
    assert all(t["reward"] is None for t in failed)


def test_a_driver_that_knows_no_more_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among 16 candidates all of which are excluded, evolution runs on; the study does not."""
    monkeypatch.setattr("actsearch.studies.search_loop.PATIENCE", 10)
    hopeless = SearchSpace(TINY.replace('"x" -> identity | "sin(x)" -> sin |', ""), "hopeless")
    study = small_search(tmp_path, space=hopeless, driver="reinforce", retest=0, trials=5, window=2)
    assert study.counts["trained"] == 0
    assert study.stop_reason is not None
    assert "all 8 candidates" in study.stop_reason
    wide = SearchSpace("start: " + " | ".join(f'"{n}" -> a{n}' for n in range(50)), "wide")
    study = small_search(tmp_path / "wide", space=wide, driver="evolution", retest=0, trials=5)
    assert study.stop_reason == "stalled: the last 10 proposals were known or excluded"
    assert study.counts["proposed"] == 10


# what goes wrong


def test_a_candidate_that_kills_its_workers_fails_in_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    study = small_search(
        tmp_path / "run",
        space=tiny(),
        driver="exhaustive",
        trials=100,
        retest=0,
        baselines=(),
        workers=2,
        task_options={"log": str(log), "fatal": "max(x, sin(x))"},
    )
    fatal = study.trials()[1]
    assert fatal["state"] == "failed"
    assert fatal["reason"] == "the worker process died (SIGKILL), 3 times"
    assert study.counts["done"] == 6
    begun = Counter(facts[0] for what, _, facts in read_log(log) if what == "begin")
    assert begun.pop("max(x, sin(x))") == 3
    assert set(begun.values()) == {1}


def test_what_the_user_gave_wrong_leaves_no_run_behind(tmp_path: Path) -> None:
    run = tmp_path / "run"
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (SpaceError, {"space": "swosh"}),
        (UnknownDriver, {"driver": "evolutoin"}),
        (UnknownDriver, {"driver_options": {"populaton": 3}}),
        (TaskError, {"task": "mnist1d-mpl"}),
        (TaskError, {"task": "no_such_module:Task"}),
        (TaskError, {"task_options": {"unusable": True}}),
        (ExpressionError, {"baselines": ("rleu(x)",)}),
        (UsageError, {"exclude": ("constants",)}),
        (UsageError, {"trials": 0}),
        (UsageError, {"window": 0}),
        (UsageError, {"retest": -1}),
        (UsageError, {"space": tiny(), "units": 2}),
        (UsageError, {"workers": -1}),
    ]
    for error, options in wrong:
        with pytest.raises(error):
            small_search(run, **options)
        assert not run.exists(), options


def test_a_directory_with_a_study_is_refused(tmp_path: Path) -> None:
    first = small_search(tmp_path)
    with pytest.raises(RunExists, match=r"resume .* or choose another"):
        small_search(tmp_path)
    assert Study.open(tmp_path).trials() == first.trials()


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"task": "digits-mlp", "task_options": {"steps": 1}, "retest": 0}
    runs = [search("swish", trials=1, baselines=(), **options).run for _ in range(2)]
    names = ["swish-digits-mlp-evolution-1", "swish-digits-mlp-evolution-2"]
    assert runs == [Path("runs") / name for name in names]


def test_ctrl_c_counts_where_python_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the callback of a weak reference is printed, and no more."""
    forgotten = []
    monkeypatch.setattr(sys, "unraisablehook", forgotten.append)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def press_ctrl_c(_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def progress(now: Progress) -> None:
        if (now.stage, now.done) == ("search", 3):
            watched = set[int]()
            reference = weakref.ref(watched, press_ctrl_c)  # noqa: F841
            del watched

    with pytest.raises(KeyboardInterrupt):
        small_search(tmp_path, progress=progress)
    assert [type(fact.exc_value) for fact in forgotten] == [KeyboardInterrupt]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Study.open(tmp_path).counts["trained"] in (3, 4)


def pressed_and_renamed() -> None:
    """As when a module in C is being imported: another exception takes the place of Ctrl-C."""
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    raise ImportError("initialization failed")


@pytest.mark.parametrize("where", ["progress", "training"])
def test_ctrl_c_that_becomes_another_exception(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def progress(now: Progress) -> None:
        if where == "progress" and (now.stage, now.done) == ("search", 3):
            pressed_and_renamed()
        if where == "training" and (now.stage, now.done) == ("search", 3):
            monkeypatch.setattr(SyntheticTask, "train", lambda *_, **__: pressed_and_renamed())

    with pytest.raises(KeyboardInterrupt):
        small_search(tmp_path, progress=progress)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    counts = Study.open(tmp_path).counts
    assert (counts["trained"], counts["failed"], counts["running"]) == (3, 0, 0)
    assert Study.resume(tmp_path).counts["trained"] == 12


def test_ctrl_c_of_one_search_is_forgotten_by_the_next(tmp_path: Path) -> None:
    """An error that comes without Ctrl-C stays what it is."""
    with pytest.raises(KeyboardInterrupt), interrupts_noted():
        pressed_and_renamed()
    check_for_interrupt()
    with pytest.raises(ImportError), interrupts_noted(), interrupts_noted():
        raise ImportError


def test_ctrl_c_as_the_handler_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It interrupts once, and nothing that comes later."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def pressed_first(number: int, handler: Any) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with pytest.raises(KeyboardInterrupt), interrupts_noted():
        monkeypatch.setattr(signal, "signal", pressed_first)
    check_for_interrupt()
    with interrupts_noted():
        check_for_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    stop = stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        small_search(tmp_path, progress=stop)
    with exclusive(tmp_path), pytest.raises(StudyIsRunning):
        Study.resume(tmp_path)
    assert Study.open(tmp_path).status == "running"
    with pytest.raises(NotAStudy):
        Study.resume(tmp_path / "other")


def stop_after(results: int) -> Any:
    """A progress callback that interrupts the search."""

    def callback(progress: Progress) -> None:
        nonlocal results
        results -= 1
        if results < 0:
            raise KeyboardInterrupt

    return callback


def test_an_unusable_task_ends_the_search_and_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(self: object, *_: object, **__: object) -> None:
        raise TaskError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("tests.actsearch.synthetic_task.SyntheticTask.train", unusable)
        with pytest.raises(ExecutorError, match="the disk is gone"):
            small_search(tmp_path)
    assert Study.open(tmp_path).counts["running"] == 0
    assert Study.resume(tmp_path).counts["trained"] == 12


# rows and comparisons


def training(metric: float | None) -> Training:
    state = "failed" if metric is None else "done"
    return Training(1, "retest", None, "x", 1, "test", state=state, metric=metric)


def test_rows_give_mean_and_standard_error() -> None:
    values = [0.5, 0.625, 0.75, 0.5]
    made = row("x", [training(value) for value in [*values, None]])
    assert made["mean"] == pytest.approx(0.59375)
    assert made["stderr"] == pytest.approx(0.11967838846954226 / 2)  # statistics.stdev / sqrt(4)
    assert (made["seeds"], made["failed"]) == (4, 1)
    assert standard_error([0.5]) is None


def test_compare_trains_from_common_seeds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    counts: list[tuple[int, int]] = []
    rows = compare(
        ["relu(x)", "x*sigmoid(x)", "relu(x)"],
        NAME,
        seeds=3,
        task_options={"log": str(log)},
        progress=lambda done, total: counts.append((done, total)),
    )
    assert [row["expression"] for row in rows] == ["x*sigmoid(x)", "relu(x)"]
    assert [row["seeds"] for row in rows] == [3, 3]
    assert counts[-1] == (6, 6)
    used = {(facts[0], facts[1]) for what, _, facts in read_log(log) if what == "begin"}
    assert len(used) == 6
    assert len({seed for _, seed in used}) == 3
    with pytest.raises(UsageError):
        compare(["relu(x)"], NAME, seeds=0)


def test_seeds_are_reproducible_and_disjoint() -> None:
    assert training_seeds(3, "search", 5) == training_seeds(3, "search", 9)[:5]
    purposes = [set(training_seeds(3, p, 100)) for p in ("search", "retest")]
    assert not purposes[0] & purposes[1]
    assert training_seeds(3, "search", 5) != training_seeds(4, "search", 5)


def test_importing_the_study_loads_no_torch() -> None:
    program = (
        "import sys, actsearch.studies.study; print('torch' in sys.modules, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"False"]
