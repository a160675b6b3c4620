"""Tables: made, resumed, saved, read, looked up; and Act-Bench's files."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from actsearch.cli import main
from actsearch.grammar import SearchSpace, space
from actsearch.grammar.errors import UsageError
from actsearch.studies.run_directory import StudyError
from actsearch.studies.study import search
from actsearch.studies.tabulating import build_table
from actsearch.tasks import TaskError, task
from actsearch.tasks.tables import Table, TableError, TableTask, read_actbench, table
from tests.actsearch.synthetic_task import NAME, SyntheticTask, read_log

TINY = """
start: unit
unit: "max(" unary ", " unary ")" -> max | "mul(" unary ", " unary ")" -> mul
unary: "x" -> identity | "sin(x)" -> sin | "1/x" -> reciprocal
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.lark"
    path.write_text(TINY)
    return path


def build(tiny: Path, folder: Path, **options: Any) -> Table:
    settings: dict[str, Any] = {"task": NAME, "seeds": 3, **options}
    return build_table(str(tiny), folder / "run", folder / "tiny.json.xz", **settings)


def test_a_table_holds_what_was_trained(tiny: Path, tmp_path: Path) -> None:
    made = build(tiny, tmp_path)
    names = SearchSpace(TINY, "tiny")
    assert list(made.candidates) == [str(names.expression(k)) for k in range(18)]
    assert made.class_of("max(x, sin(x))") == made.class_of("max(sin(x), x)")
    assert made.class_of("max(x,sin(x))") == made.class_of(1), "a text need not be canonical"
    assert "undefined" in made.excluded[2]
    assert made.class_of(2) is None
    for number in range(len(made)):
        text = made.candidates[made.classes.index(number)]
        trained = [SyntheticTask().train(text, s, "validation", "cpu") for s in range(3)]
        assert made.metrics[number] == tuple(result.metric for result in trained)
    assert made.mean(0) == pytest.approx(sum(v or 0 for v in made.metrics[0]) / 3)
    best = made.best(3)
    means = [mean for k in range(len(made)) if (mean := made.mean(k)) is not None]
    assert [made.mean(k) for k in best] == sorted(means, reverse=True)[:3]
    assert made.facts["versions"].keys() >= {"actsearch", "torch", "numpy"}
    with pytest.raises(TableError, match="no candidate 'cos"):
        made.class_of("cos(x)")


def test_the_file_says_the_same_and_always_in_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    made = build(tiny, tmp_path)
    again = table(str(tmp_path / "tiny.json.xz"))
    assert again == made
    before = (tmp_path / "tiny.json.xz").read_bytes()
    again.save(tmp_path / "tiny.json.xz")
    assert (tmp_path / "tiny.json.xz").read_bytes() == before


def test_training_is_resumed_and_nothing_is_trained_twice(tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = {"task_options": {"log": str(log)}}

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tiny, tmp_path, progress=stop, **options)
    counts: list[int] = []
    made = build(tiny, tmp_path, progress=lambda done, total: counts.append(done), **options)
    begun = [facts for what, _, facts in read_log(log) if what == "begin"]
    assert len(begun) == len(set(begun)) == 3 * len(made)
    assert counts == list(range(7, 3 * len(made) + 1))
    assert [seed for _, seed, _ in begun] == sorted(seed for _, seed, _ in begun)
    with pytest.raises(StudyError, match="another seeds: use another --run"):
        build(tiny, tmp_path, **options | {"seeds": 4})


def test_a_table_is_a_task(tiny: Path, tmp_path: Path) -> None:
    made = build(tiny, tmp_path)
    name = f"table:{tmp_path / 'tiny.json.xz'}"
    looked_up = task(name).train("max(sin(x), x)", seed=4, split="validation")
    number = made.class_of("max(x, sin(x))")
    assert number is not None
    assert looked_up.metric == made.metrics[number][4 % 3]
    assert looked_up.seed == 4
    assert task(name).train("mul(x, 1/x)", seed=0).status == "failed"
    with pytest.raises(TaskError, match="--retest 0"):
        task(name).train("x", seed=0, split="test")
    with pytest.raises(TaskError, match="no option 'steps'"):
        task(name, steps=3)
    options: dict[str, Any] = {"task": name, "driver": "exhaustive", "trials": 99, "baselines": ()}
    with pytest.raises(UsageError, match="no test split"):
        search(tiny, **options, run=tmp_path / "study")
    study = search(tiny, **options, retest=0, run=tmp_path / "study")
    assert study.best is not None
    (seed,) = map(int, study.best["metrics"])
    assert study.best["mean"] == max(row[seed % 3] or 0.0 for row in made.metrics)


def test_the_table_that_ships_is_the_whole_space() -> None:
    shipped = table("mnist1d-swish-1")
    swish = space("swish", units=1)
    assert len(shipped.candidates) == swish.count() == 6250
    for position in range(0, 6250, 61):
        assert shipped.candidates[position] == str(swish.expression(position))
    assert shipped.seeds == (0, 1, 2, 3)
    assert all(len(row) == 4 for row in shipped.metrics)
    assert sum(number >= 0 for number in shipped.classes) + len(shipped.excluded) == 6250
    assert set(shipped.classes) == {-1, *range(len(shipped.metrics))}
    silu = shipped.metrics[shipped.classes[shipped.candidates.index("x*sigmoid(x)")]]
    assert all(metric is not None and 0.5 < metric < 0.7 for metric in silu)
    assert task("table:mnist1d-swish-1").train("sigmoid(x)*x", seed=2).metric == silu[2]


def test_a_failed_child_has_no_mean() -> None:
    made = Table(
        "t", ("x", "-x"), (0, 1), {}, (0, 1), ((0.5, None), (0.25, 0.5)), ((1.0,) * 2,) * 2
    )
    assert made.mean(0) is None
    assert made.best(5) == [1]
    assert TableTask(made).train("x", seed=1).reason == "failed in the table"
    with pytest.raises(TableError, match="contradicts"):
        Table("t", ("x",), (1,), {}, (0,), ((0.5,),), ((1.0,),))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        lzma.compress(b"[]"),
        lzma.compress(b"{"),
        lzma.compress(b'{"format": 9}'),
    ],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json.xz"
    path.write_bytes(content)
    with pytest.raises(TableError):
        table(str(path))


def test_unknown_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no table 'mnist'"):
        table("mnist")
    with pytest.raises(TableError, match="no table at"):
        table(str(tmp_path / "a.json.xz"))
    with pytest.raises(UsageError, match="named"):
        build_table("swish", tmp_path, tmp_path / "a.json")


def test_the_commands(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "t.json.xz"
    words = ["table", "build", str(tiny), "--task", NAME, "--seeds", "2", "--sample", "6"]
    assert main([*words, "--run", str(tmp_path / "r"), "--output", str(output), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert (built["candidates"], built["seeds"]) == (6, [0, 1])
    assert main(["table", "show", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == built
    assert main(["table", "show", str(output), "--top", "1"]) == 0
    assert "6 candidates" in capsys.readouterr().out
    assert main(["table", "show", "nonsense"]) == 2


# Act-Bench


def test_actbench_files_are_read_into_the_space_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    entries = {
        "min(square(x),selu(x))": {"val_acc": [10.0, 91.5], "val_loss": [2.0, 0.25]},
        "max(swish(x),negative(x))": {"val_acc": 88.0, "val_loss": 0.5},
        "add(hard_sigmoid(x),zero(x))": {"val_acc": None},
    }
    path.write_text(json.dumps(entries))
    read = read_actbench(path)
    assert read.metrics == ((0.915,), (0.88,), (None,))
    assert read.losses == ((0.25,), (0.5,), (None,))
    names = space("actbench")
    for text in read.candidates:
        assert names[names.index(text)] == text
    assert read.candidates[0] == "min(square(x), selu(x))"
    assert TableTask(read).train("min(x**2, selu(x))", seed=5).metric == 0.915
    assert TableTask(read).train("min(square(x), selu(x))", seed=5).metric == 0.915


def test_every_name_of_actbench_is_one_of_the_space(tmp_path: Path) -> None:
    """Written with its own names of the operators, each comes out as the space has it."""
    names = space("actbench")
    pairs = [line.split('"') for line in names.text.splitlines() if '" -> ' in line]
    alias = {parts[1]: parts[2].split()[1] for parts in pairs if parts[2].startswith(" ->")}
    theirs, ours = {}, []
    for position in range(0, names.count(), 37):
        text = names[position]
        ours.append(text)
        binary, _, rest = text.partition("(")
        inner = rest[:-1]
        halves = [
            (inner[:k], inner[k + 2 :]) for k in range(len(inner)) if inner[k : k + 2] == ", "
        ]
        first, second = next(h for h in halves if h[0] in alias and h[1] in alias)
        theirs[f"{binary}({alias[first]}(x),{alias[second]}(x))"] = {"accuracy": 0.5}
    path = tmp_path / "names.json"
    path.write_text(json.dumps(theirs))
    assert list(read_actbench(path).candidates) == ours


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"relu(x)": {"speed": 3}}'])
def test_other_json_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(TableError):
        read_actbench(path)
