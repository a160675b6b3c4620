"""The random audit, the dedup command on small and large spaces, and the benchmark of keys."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actsearch.bench import dedup as bench
from actsearch.cli import main
from actsearch.equivalence import EquivalenceClasses, deduplicate
from actsearch.equivalence.index import Link
from actsearch.equivalence.sampling import audit_classes, audit_rows

GRAMMAR = """
start: unit
unit: "add(" unary ", " unary ")" | "max(" unary ", " unary ")"
unary: operand | "abs(" operand ")" | "_"
operand: "x" | unit
"""
TEXTS = ["x + x", "2*x", "max(x, -8)", "x", "beta*x", "-beta*x", "relu(x)", "max(0, x)", "x*_"]


def test_a_sound_partition_has_no_faults() -> None:
    for level in ("function", "reparameterised", "affine"):
        report = audit_classes(deduplicate(TEXTS, level), 12)
        assert (report.links, report.near) == (12, 12)
        assert (report.false, report.missed, report.undecided) == (0, 0, 0)
        assert 0 < report.bound < 0.25
        assert report.to_dict()["faults"] == []


def test_faults_are_found() -> None:
    classes = deduplicate(TEXTS)
    certificate = classes.links[0].certificate
    wrong = EquivalenceClasses(  # max(x, -8) and x merged, x + x and 2*x not
        TEXTS,
        [0, 1, 2, 2, 3, 3, 4, 4, 3],
        [Link(2, 3, replace(certificate, renaming=()))],
    )
    report = audit_classes(wrong, 40)
    assert report.false == 40
    assert report.bound == 1.0
    assert report.missed > 0
    assert "max(x, -8)" in " ".join(report.examples)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else {}, captured.err


@pytest.fixture
def grammar(tmp_path: Path) -> str:
    path = tmp_path / "own.lark"
    path.write_text(GRAMMAR)
    return str(path)


def test_dedup_audits_a_small_space(grammar: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dedup", grammar, "--parameters", "shared", "--audit", "20"]
    code, data, _ = run(capsys, *words, "--level", "affine", "--members", "0")
    assert code == 0
    assert data["level"] == "affine"
    assert data["links_checked"] == 20
    assert data["false_merges"] == 0
    assert data["members"]


def test_dedup_partitions_a_large_space_and_goes_on_where_it_was(
    grammar: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actsearch.cli.spaces._LARGEST_DEDUP", 100)
    assert main(["dedup", grammar, "--units", "2"]) == 2
    assert "--parameters shared" in capsys.readouterr().err
    output = str(tmp_path / "own.npz")
    words = ["dedup", grammar, "--units", "2", "--parameters", "shared", "--processes", "1"]
    words += ["--output", output, "--audit", "10", "--members", "max(x, add(x, x))"]
    code, data, err = run(capsys, *words)
    assert code == 0
    assert data["candidates"] == 432
    assert data["false_merges"] == 0
    assert data["representative"] in data["members"]
    assert data["count"] == len(data["members"])
    assert "classes:" in err
    code, again, err = run(capsys, *words)
    assert code == 0
    assert "of an earlier run" in err
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in data.items() if k != "seconds"
    }
    assert main(["dedup", grammar, "--units", "3", *words[4:]]) == 2
    assert "another space" in capsys.readouterr().err


def test_rows_of_a_partition_are_sampled(grammar: str) -> None:
    from actsearch.equivalence.congruence import partition
    from actsearch.grammar import space

    found = partition(space(grammar, units=2, parameters="shared"), processes=1)
    report = audit_rows(found, 15)
    assert (report.links, report.false, report.near, report.missed) == (15, 0, 15, 0)
    assert report.proved > 10


def test_the_benchmark_counts_what_keys_miss() -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    rows = bench.run(parser.parse_args(["--names", "12", "--limit", "2"]))
    assert rows[0]["case"] == "ActSearch"
    assert rows[0]["missed"] == rows[0]["false"] == 0
    assert {"sympy expand", "sympy simplify"} <= {row["case"] for row in rows}
    assert all(row["names"] == rows[0]["names"] for row in rows)


def test_keys_are_judged_by_witnesses() -> None:
    from actsearch.grammar import parse

    expressions = [parse(t) for t in ("sqrt(x) - sqrt(x)", "x - x", "x + x", "2*x")]
    keys, slow = bench._keys(expressions, lambda _: "0", 1.0)
    assert slow == 0
    assert bench._compare(expressions, [0, 1, 2, 2], keys) == (0, 2)
    assert bench._compare(expressions, [0, 1, 2, 2], ["a", "b", "c", "d"]) == (1, 0)
