"""README: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from actsearch.cli.arguments import build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "swish.py").exists()


@pytest.mark.parametrize(
    "command", [line[2:] for b in blocks("console") for line in b.splitlines() if line[:2] == "$ "]
)
def test_every_command_is_one(command):
    program, *words = shlex.split(command)
    assert program == "actsearch"
    build_parser().parse_args(words)


def test_make_has_the_two_commands():
    makefile = (ROOT / "Makefile").read_text("utf8")
    for target in re.findall(r"^make (\w+)", "".join(blocks("")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text("utf8")):
        assert (path.parent / link).exists(), link
