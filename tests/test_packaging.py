"""What is installed: one top level, all of its data, quick to import, and nothing loaded early."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A source archive, and the wheel built from it; in a copy, as builds leave files behind."""
    folder = tmp_path_factory.mktemp("dist")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=left_out)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_only_top_level_is_actsearch(distributions):
    names = zipfile.ZipFile(distributions[0]).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"actsearch"}


def test_the_wheel_has_every_module_and_data_file(distributions):
    packaged = set(zipfile.ZipFile(distributions[0]).namelist())
    for folder, package in [
        ("actsearch", "actsearch"),
        ("grammar", "actsearch/grammar"),
        ("codegen", "actsearch/codegen"),
    ]:
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT / folder)
            linked = folder == "actsearch" and relative.parts[0] in ("grammar", "codegen")
            if path.is_file() and "__pycache__" not in path.parts and not linked:
                assert f"{package}/{relative.as_posix()}" in packaged


def test_the_source_archive_can_build_the_wheel(distributions):
    with tarfile.open(distributions[1]) as archive:
        names = archive.getnames()
    assert any(name.endswith("grammar/activation.lark") for name in names)
    assert any(name.endswith("/pyproject.toml") for name in names)


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout


def test_importing_loads_neither_torch_nor_sympy():
    heavy = _python(
        "import sys, actsearch; actsearch.parse('silu(x)');"
        "print({'torch', 'sympy', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    assert heavy.strip() == "set()"


def test_help_loads_nothing_heavy():
    heavy = _python(
        "import sys\nfrom actsearch.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'sympy', 'numpy', 'lark', 'rich', 'sqlalchemy'} & set(sys.modules))"
    )
    assert heavy.splitlines()[-1] == "set()"


def test_every_public_name_is_there():
    import actsearch

    for name in actsearch.__all__:
        assert getattr(actsearch, name) is not None
        assert name in dir(actsearch)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = actsearch.nonsense


def test_public_functions_are_not_shadowed_by_modules():
    out = _python(
        "import importlib, pkgutil, actsearch\n"
        "for p in ('actsearch', 'actsearch.grammar', 'actsearch.codegen', 'actsearch.studies'):\n"
        "    m = importlib.import_module(p)\n"
        "    public = set(m.__all__)\n"
        "    print(*(public & {i.name for i in pkgutil.iter_modules(m.__path__)}))"
    )
    assert out.split() == []
