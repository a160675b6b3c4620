"""Warm starts: what is taken over, what is not, and that nothing known is trained again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actsearch.cli import main
from actsearch.equivalence import equivalent
from actsearch.grammar import SearchSpace, named_activations
from actsearch.studies.run_directory import NotAStudy
from actsearch.studies.study import Progress, Study, search
from tests.actsearch.synthetic_task import NAME, read_log
from tests.actsearch.test_study import essence, small_search

SPACE = """
start: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
    | "add(" unary ", " unary ")" -> add
unary: "x" -> identity | "sigmoid(x)" -> sigmoid | "tanh(x)" -> tanh | "sin(x)" -> sin
    | "0.5" -> half | "erf(x)" -> erf | "cos(x)" -> cos | "atan(x)" -> atan
"""


def small(run: Path, **options: Any) -> Study:
    space = options.pop("space", SearchSpace(SPACE, "small"))
    return small_search(run, **{"space": space, "retest": 0, "baselines": ()} | options)


def begun(log: Path) -> Counter[tuple[str, ...]]:
    return Counter(facts for what, _, facts in read_log(log) if what == "begin")


@pytest.mark.parametrize("driver", ["random", "evolution", "pqt", "surrogate"])
@pytest.mark.parametrize("asha", [False, True])
def test_what_an_earlier_study_trained_is_not_trained_again(
    driver: str, asha: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    options: dict[str, Any] = {"task_options": {"log": str(log)}, "driver": driver, "seed": 1}
    first = small(tmp_path / "a", **options)
    before = begun(log)
    second = small(tmp_path / "b", **options | {"seed": 2}, asha=asha, warm_start=tmp_path / "a")
    added = begun(log) - before
    assert set(begun(log).values()) == {1}
    done = {t["expression"]: t["reward"] for t in first.trials() if t["state"] == "done"}
    repeated = {text for text, *_ in added} & done.keys()
    assert not repeated or asha, "with rungs a known candidate may be promoted"
    taken = second.trials()[: len(done)]
    if not asha:
        assert {t["expression"]: t["reward"] for t in taken} == done
    assert all(t["trainings"][0]["lease"] == 0 for t in taken)
    assert asha or second.counts["trained"] == 12, "what is known costs none of the trials"
    for trial in second.trials()[len(done) :]:
        if trial["state"] == "reused":
            source = second.trials()[trial["source"]]
            assert trial["reward"] == source["reward"]
    assert "is not trained again" in second.config["warm_start"]["note"]


def test_another_recipe_takes_no_rewards_over_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    small(tmp_path / "a", task_options={"log": str(log)}, trials=30)
    first = Study.open(tmp_path / "a")
    best = [row["trial"] for row in first.leaderboard(16)]
    options = {"log": str(log), "prints": True}
    second = small(tmp_path / "b", task_options=options, trials=20, warm_start=tmp_path / "a")
    tried = [t["index"] for t in second.trials()[:16]]
    assert tried == [first.trials()[number]["index"] for number in best]
    assert all(t["state"] != "done" or t["trainings"][0]["lease"] for t in second.trials())
    assert second.counts["trained"] == 20, "they are trials like others"
    note = second.config["warm_start"]["note"]
    assert note.startswith("another task than in")
    assert "rewards are not taken over" in note


def test_named_activations_come_first(tmp_path: Path) -> None:
    """Those of the space, found by proof: its names for them are its own."""
    study = small(tmp_path, warm_start="named", trials=12)
    named = [found.expression for found in named_activations().values()]
    count = int(study.config["warm_start"]["note"].split()[0])
    assert count >= 5
    for trial in study.trials()[:count]:
        assert any(equivalent(trial["expression"], function).equal for function in named)
    texts = {t["expression"] for t in study.trials()[:count]}
    assert {"x*sigmoid(x)", "max(x, sigmoid(x))"} <= texts


@pytest.mark.parametrize("asha", [False, True])
def test_a_warm_study_resumes_exactly(
    asha: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the earlier study is gone meanwhile."""
    monkeypatch.setattr("actsearch.studies.search_loop.SNAPSHOT_EVERY", 4)
    small(tmp_path / "a", seed=1)
    options = {"seed": 2, "driver": "evolution", "asha": asha, "warm_start": tmp_path / "a"}
    reference = small(tmp_path / "b", **options)

    def stop(progress: Progress) -> None:
        if progress.stage == "search" and progress.done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "c", progress=stop, **options)
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    assert essence(Study.resume(tmp_path / "c")) == essence(reference)


def test_candidates_of_another_space_are_found_by_their_text(tmp_path: Path) -> None:
    small(tmp_path / "a", driver="exhaustive", trials=200)
    other = SearchSpace(SPACE.replace('"erf(x)" -> erf', '"exp(x)" -> exp'), "other")
    log = tmp_path / "log"
    second = small(
        tmp_path / "b", space=other, driver="exhaustive", trials=200, warm_start=tmp_path / "a"
    )
    trained = [t for t in second.trials() if t["trainings"] and t["trainings"][0]["lease"]]
    assert trained
    assert all("exp" in t["expression"] for t in trained)
    assert not log.exists()


def test_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.lark").write_text(SPACE)
    words = ["search", str(tmp_path / "small.lark"), "--task", NAME, "--trials", "3"]
    words += ["--retest", "0", "--json", "--rungs", "fullx1,fullx2", "--warm-start"]
    assert main([*words, "named", "--run", str(tmp_path / "run")]) == 0
    assert "warm start: " in capsys.readouterr().err
    assert Study.open(tmp_path / "run").config["rungs"] == [[None, 1], [None, 2]]
    assert main([*words, "named", "--run", str(tmp_path / "b"), "--rungs", "1to2"]) == 2
    assert "STEPSxSEEDS" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "nothing"), "--run", str(tmp_path / "b")]) == 1
    with pytest.raises(NotAStudy):
        search("swish", task=NAME, warm_start=tmp_path / "nothing")
