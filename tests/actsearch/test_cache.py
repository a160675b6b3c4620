"""The folder of what can be made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from actsearch.cache import cache_folder


def test_it_is_what_the_user_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACTSEARCH_CACHE", str(tmp_path / "mine" / "of old"))
    assert cache_folder() == tmp_path / "mine" / "of old"
    assert cache_folder().is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="the convention of Linux")
@pytest.mark.parametrize("named", ["", "XDG_CACHE_HOME"])
def test_it_is_among_the_platforms_caches(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("ACTSEARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if named:
        monkeypatch.setenv(named, str(tmp_path / ".cache"))
    assert cache_folder() == tmp_path / ".cache" / "actsearch"


def test_one_that_cannot_be_written_is_replaced_until_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("where the folder should be")
    monkeypatch.setenv("ACTSEARCH_CACHE", str(blocked / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "from actsearch.cache import cache_folder; folder = cache_folder();"
        "(folder / 'kept').write_text(''); assert cache_folder() == folder; print(folder)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path
    assert list(tmp_path.iterdir()) == [blocked], "removed at the end"
