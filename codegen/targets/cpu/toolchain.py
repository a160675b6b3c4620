"""Compiling C and C++ on the machine at hand, into a cache that survives the process.

A library's name in the cache is a hash of its source, the compiler, the flags and the processor.
Its file ends with a digest of the rest: what is damaged is built again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from actsearch.cache import cache_folder
from actsearch.codegen.targets import BuildError

_DIGEST = hashlib.sha256().digest_size
_SHOWN = 20  # lines of a compiler's complaint
_VECTOR_MATH_SINCE = (2, 35)  # glibc's libmvec has every function from here on


_IDLE = [
    f"-fno-{name}"
    for name in (
        "tree-pta tree-sra tree-dse tree-dominator-opts dse dce forward-propagate "
        "cprop-registers compare-elim combine-stack-adjustments guess-branch-probability "
        "asynchronous-unwind-tables"
    ).split()
]
"""Passes of GCC that leave straight-line loops as they are, in a fifth of its time."""


@dataclass(frozen=True)
class Compiler:
    """A C or C++ compiler.

    Attributes:
        language: "c" or "c++".
        path: the executable.
        identity: what tells it from another version of it.
        clang: whether it takes clang's flags instead of GCC's.
    """

    language: str
    path: str
    identity: str
    clang: bool

    @property
    def vector_math(self) -> bool:
        """Whether the C library has vector forms of its functions that the compiler can call."""
        return not self.clang and platform.machine() == "x86_64" and _glibc() >= _VECTOR_MATH_SINCE

    @property
    def native(self) -> str:
        """The flag for this processor's own instructions."""
        return "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"

    @property
    def flags(self) -> list[str]:
        """For fast code with IEEE values: never -ffast-math, which changes the whole process."""
        flags = ["-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-builtin"]
        flags += ["-ffp-contract=off"]  # a kink stays where the formula puts it, in every loop
        flags += [self.native]
        if self.clang:
            flags += ["-O2"]
        else:
            # what -O2 adds takes thrice the time to compile, and straight-line loops are no faster
            flags += ["-O1", "-ftree-vectorize", "-fvect-cost-model=unlimited"]
            flags += [*_IDLE, "--param=max-combine-insns=2", "-fira-region=one"]
            # conditions stay selections between two values, or nothing vectorises
            flags += ["-fno-tree-sink", "-fno-thread-jumps"]
            # independent steps side by side: two thirds of the time of long code
            flags += ["-fschedule-insns", "-fschedule-insns2", "-fsched-pressure"]
            flags += ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
        return flags

    def run(self, *arguments: str) -> None:
        """Compile.

        Raises:
            BuildError: the compiler failed.
        """
        done = subprocess.run(
            [self.path, *arguments], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            said = "\n".join(done.stderr.splitlines()[:_SHOWN])
            raise BuildError(f"{self.path} could not compile generated code:\n{said}")


def compiler(language: str = "c") -> Compiler:
    """The compiler for "c" or "c++": what CC or CXX names, or the usual ones.

    Raises:
        BuildError: there is none.
    """
    found = _find(language, os.environ.get("CC" if language == "c" else "CXX", ""))
    if found is None:
        raise BuildError(
            f"there is no {'C' if language == 'c' else 'C++'} compiler; install gcc, or name one "
            f"in {'CC' if language == 'c' else 'CXX'}"
        )
    return found


@cache
def _find(language: str, preferred: str) -> Compiler | None:
    usual = ("cc", "gcc", "clang") if language == "c" else ("c++", "g++", "clang++")
    for name in (preferred, *usual):
        path = shutil.which(name) if name else None
        if path is not None:
            real = Path(path).resolve()
            status = real.stat()
            identity = f"{real} {status.st_size} {status.st_mtime_ns}"
            return Compiler(language, path, identity, "clang" in real.name)
    return None


@cache
def _glibc() -> tuple[int, ...]:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        return ()
    return tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()


@cache
def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kept)}))


def key(compiler: Compiler, *parts: str) -> str:
    """A name for what a compiler makes of some text on this machine."""
    text = "\0".join([compiler.identity, _processor(), *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def path_of(name: str) -> Path:
    """Where the library of that name is, or will be."""
    return cache_folder() / f"{name}.so"


def cached(name: str) -> Path | None:
    """The library of that name, if it is in the cache and whole."""
    path = path_of(name)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    return path if hashlib.sha256(body).digest() == digest else None


def built(compiler: Compiler, kind: str, source: str, *arguments: str) -> Path:
    """The library of some source: from the cache, or compiled and put into it.

    Args:
        compiler: what compiles it.
        kind: what its name begins with.
        source: the text.
        arguments: of the compiler.

    Raises:
        BuildError: the compiler failed.
    """
    name = f"{kind}-{key(compiler, source, *arguments)}"
    return cached(name) or build(compiler, [name], source, *arguments)[0]


def build(compiler: Compiler, names: Sequence[str], source: str, *arguments: str) -> list[Path]:
    """Compile a library and put it into the cache, under every name, each in one step.

    Raises:
        BuildError: the compiler failed.
    """
    folder = cache_folder()
    suffix = ".c" if compiler.language == "c" else ".cpp"
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        text, library = Path(scratch, f"source{suffix}"), Path(scratch, "library.so")
        text.write_text(source, encoding="utf-8")
        compiler.run(str(text), "-o", str(library), *arguments)
        with library.open("ab") as file:
            file.write(hashlib.sha256(library.read_bytes()).digest())
        paths = []
        for number, name in enumerate(names):
            link = Path(scratch, str(number))
            try:
                os.link(library, link)
            except OSError:
                shutil.copyfile(library, link)
            paths.append(path_of(name))
            os.replace(link, paths[-1])
    return paths
