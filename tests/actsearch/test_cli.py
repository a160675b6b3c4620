"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actsearch.cli import main

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
QUICK = ["--task", "digits-mlp", "--task-option", "steps=20"]


def run(capsys, *words):
    """Exit code, stdout and stderr of one command."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys, *words):
    code, out, _ = run(capsys, *words, "--json")
    return code, json.loads(out)


def test_help_names_every_command(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in "show equal export space dedup search resume report compare list".split():
        assert command in out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["show"],
        ["show", "x*sigmod(x)"],
        ["show", ""],
        ["show", "x**"],
        ["equal", "x", "max(x"],
        ["export", "x", "--target", "trch", "--output", "f.py"],
        ["space", "swsh", "--count"],
        ["space", "swish", "--at", "6250"],
        ["space", "swish", "--units", "0"],
        ["space", "swish", "--units", "3", "--list"],
        ["dedup", "swish", "--units", "2"],
        ["search", "swish", "--driver", "evolutoin"],
        ["search", "swish", "--task", "mnist"],
        ["compare", "x*", "--task", "digits-mlp"],
        ["compare", "relu(x)", "--task", "digits-mlp", "--task-option", "stepps=3"],
        ["list", "things"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_a_message_and_no_traceback(capsys, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 24
    assert list(tmp_path.iterdir()) == []


def test_a_typo_is_shown_with_a_caret_and_a_proposal(capsys):
    _, _, err = run(capsys, "show", "x*sigmod(x)")
    assert "did you mean 'sigmoid'?" in err
    assert err.splitlines()[-1] == "    ^"


def test_a_megabyte_of_parentheses_is_refused_in_one_screen():
    done = subprocess.run(
        [sys.executable, "-m", "actsearch", "show", "(" * 100_000],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert len(done.stderr) < 500


def test_show(capsys, tmp_path):
    plot = tmp_path / "swish.svg"
    code, out, _ = run(capsys, "show", "x*sigmoid(beta*x)", "--latex", "--plot", plot)
    assert code == 0
    known = "Swish / SiLU with trainable beta"
    for part in ("x*sigmoid(beta*x)", known, "domain", "gain", r"\sigma"):
        assert part in out
    assert plot.read_text().lstrip().startswith("<?xml")


def test_show_json(capsys):
    code, data = run_json(capsys, "show", "relu(x)")
    assert code == 0
    assert data["expression"] == "relu(x)"
    assert data["gain"] == pytest.approx(2**0.5)
    assert data["gradient"]["x"] == "where(x > 0, 1, 0)"
    assert data["properties"]["range"]
    assert data["name"].startswith("ReLU")


def test_show_a_gated_activation(capsys):
    code, data = run_json(capsys, "show", "swiglu(x, gate)")
    assert code == 0
    assert set(data["gradient"]) == {"x", "gate"}


@pytest.mark.parametrize(
    ("a", "b", "code"),
    [
        ("x*sigmoid(x)", "x/(1+exp(-x))", 0),
        ("x*sigmoid(x)", "x*sigmoid(1.001*x)", 1),
        ("max(x, -8)", "x", 1),
        ("sqrt(x)*sqrt(x)", "x", 1),
    ],
)
def test_equal(capsys, a, b, code):
    found, data = run_json(capsys, "equal", a, b)
    assert found == code
    assert data["equal"] is (code == 0)
    assert data["reason"]


@pytest.mark.parametrize("target", ["torch", "torchscript"])
def test_export(capsys, target, tmp_path):
    path = tmp_path / "swish.out"
    words = ["export", "x*sigmoid(beta*x)", "--target", target, "--output", path]
    code, data = run_json(capsys, *words)
    assert code == 0
    assert Path(data["path"]) == path
    assert path.stat().st_size > 0


def test_export_to_nowhere_fails_and_leaves_nothing(capsys, tmp_path):
    path = tmp_path / "missing" / "swish.py"
    code, _, err = run(capsys, "export", "x", "--target", "torch", "--output", path)
    assert code == 1
    assert "missing" in err
    assert list(tmp_path.iterdir()) == []


def test_space(capsys):
    assert run(capsys, "space", "swish", "--units", "2", "--count")[1].strip() == "75000000"
    assert run(capsys, "space", "actbench")[1].strip() == "5103"
    _, first = run_json(capsys, "space", "swish", "--sample", "5", "--seed", "0")
    _, again = run_json(capsys, "space", "swish", "--sample", "5", "--seed", "0")
    assert first == again
    assert len(first) == 5
    _, row = run_json(capsys, "space", "swish", "--at", str(first[0]["index"]))
    assert row == first[0]
    assert len(run(capsys, "space", "named", "--list")[1].splitlines()) == 61


def test_space_of_ones_own(capsys):
    path = ROOT / "examples" / "gates.lark"
    count = int(run(capsys, "space", path, "--count")[1])
    assert len(run_json(capsys, "space", path, "--list")[1]) == count


def test_dedup(capsys, tmp_path):
    path = ROOT / "examples" / "gates.lark"
    code, data = run_json(capsys, "dedup", path, "--members", "x*sigmoid(x)")
    assert code == 0
    assert data["classes"] < data["candidates"]
    assert data["unproved"] == 0
    assert data["proved"] + data["certified"] == data["candidates"] - data["classes"]
    assert "x*((1 - sigmoid(-x)))" in {member.replace(" ", "") for member in data["members"]} or (
        len(data["members"]) > 1
    )


@pytest.mark.parametrize("what", ["targets", "tasks", "drivers", "spaces"])
def test_list(capsys, what):
    code, names = run_json(capsys, "list", what)
    assert code == 0
    expected = {
        "targets": {"torch", "torchscript"},
        "tasks": {"mnist1d-mlp", "digits-mlp", "digits-cnn"},
        "drivers": {"exhaustive", "random", "evolution", "reinforce", "ppo"},
        "spaces": {"swish", "actbench", "named"},
    }[what]
    assert expected <= set(names)


def search_words(run_directory, trials=6):
    return [
        "search", "swish", *QUICK, "--driver", "random", "--trials", str(trials), "--seed", "3",
        "--run", str(run_directory), "--retest", "2", "--retest-seeds", "2",
    ]  # fmt: skip


def test_search_report_and_resume(capsys, tmp_path):
    directory = tmp_path / "run"
    code, data = run_json(capsys, *search_words(directory))
    assert code == 0
    assert data["trials"] == 6
    assert {"expression", "mean", "stderr", "seeds"} <= set(data["leaderboard"][0])
    for name in ("report.html", "winner.py", "winner.pt"):
        assert (directory / name).stat().st_size > 0

    code, again = run_json(capsys, "resume", directory)
    assert code == 0
    assert again["leaderboard"] == data["leaderboard"]
    code, report = run_json(capsys, "report", directory)
    assert code == 0
    assert report["leaderboard"] == data["leaderboard"]

    code, _, err = run(capsys, *search_words(directory))
    assert code in (1, 2)
    assert "resume" in err


def test_two_runs_of_one_seed_print_the_same_byte_for_byte(tmp_path):
    """Whatever the number of workers, and whatever order Python gives to sets of strings."""

    def printed(workers):
        directory = tmp_path / f"run{workers}"
        words = [*search_words(directory), "--driver", "evolution", "--workers", str(workers)]
        environment = ENVIRONMENT | {"PYTHONHASHSEED": str(workers)}
        command = [sys.executable, "-m", "actsearch", *words]
        output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
        assert b"relu(x)" in output
        return output.replace(bytes(directory), b"RUN")

    assert printed(0) == printed(2)


def test_resume_of_no_study(capsys, tmp_path):
    code, _, err = run(capsys, "resume", tmp_path / "nothing")
    assert code in (1, 2)
    assert "nothing" in err
    assert not (tmp_path / "nothing").exists()


def test_compare(capsys):
    code, rows = run_json(capsys, "compare", "relu(x)", "silu(x)", *QUICK, "--seeds", "2")
    assert code == 0
    assert {row["expression"] for row in rows} >= {"relu(x)"}
    assert all(row["seeds"] == 2 and 0 <= row["mean"] <= 1 for row in rows)


def test_ctrl_c_saves_exits_130_and_resume_goes_on(capsys, tmp_path):
    directory = tmp_path / "run"
    words = search_words(directory, trials=45)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    process = subprocess.Popen(
        [sys.executable, "-m", "actsearch", *words, "--workers", "1"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    from actsearch.studies.study import Study

    while time.monotonic() < deadline:  # until some, but not all, is trained
        time.sleep(0.2)
        if process.poll() is not None:
            break
        if (directory / "study.db").exists() and Study.open(directory).counts["done"] >= 3:
            break
    assert process.poll() is None, "the search ended before it could be interrupted"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"actsearch resume {directory}" in err
    assert "Traceback" not in err
    code, data = run_json(capsys, "resume", directory)
    assert code == 0
    assert data["trials"] == 45
