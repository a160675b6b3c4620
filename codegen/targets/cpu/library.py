"""The C++ operator of the target `cpu`: built once for a machine, loaded once for a process."""

from __future__ import annotations

import ctypes
import re
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from actsearch.codegen.targets.cpu import toolchain

_INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)

Builder = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int, ctypes.c_int)


@cache
def library() -> Any:
    """The operator's library, with its C functions; `torch.ops.actsearch` has its operators.

    Raises:
        BuildError: it is not in the cache, and cannot be built.
    """
    compiler = toolchain.compiler("c++")
    source = _source("operator.cpp", set())
    flags = _flags(compiler)
    name = f"operator-{toolchain.key(compiler, source, *flags, torch.__version__)}"
    path = toolchain.cached(name) or _build(compiler, name, source, flags)
    load: Any = torch.ops.load_library
    load(str(path))
    _register_shapes()
    return ctypes.CDLL(str(path))


def _source(name: str, included: set[str]) -> str:
    """A file of the operator with those that it includes in their places, each once."""
    included.add(name)
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    text = text.replace("#pragma once\n", "")
    return _INCLUDE.sub(lambda m: "" if m[1] in included else _source(m[1], included), text)


def _build(compiler: toolchain.Compiler, name: str, source: str, flags: list[str]) -> Path:
    with FileLock(toolchain.cache_folder() / f"{name}.lock"):  # another process may be at it
        path = toolchain.cached(name)
        if path is None:
            note = "actsearch: building the CPU operator, once for this machine (half a minute) …"
            print(note, file=sys.stderr, flush=True)
            (path,) = toolchain.build(compiler, [name], source, *flags)
        return path


def _flags(compiler: toolchain.Compiler) -> list[str]:
    root = Path(torch.__file__).parent
    include, libraries = root / "include", root / "lib"
    abi = int(torch.compiled_with_cxx11_abi())
    standard = "c++20" if (include / "torch" / "headeronly").is_dir() else "c++17"
    return [
        f"-std={standard}", "-O3", "-fPIC", "-shared", "-w", "-fopenmp",
        compiler.native, f"-D_GLIBCXX_USE_CXX11_ABI={abi}", f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{libraries}",
        "-ltorch", "-ltorch_cpu", "-lc10",
    ]  # fmt: skip


def _register_shapes() -> None:
    """What torch.compile and meta tensors need to know: results are like x and the parameters."""
    register = torch.library.register_fake
    register("actsearch::activation", lambda variables, kernel: torch.empty_like(variables[0]))
    register("actsearch::activation_backward", lambda dy, variables, kernel: _like(variables))
    register(
        "actsearch::activation_double_backward",
        lambda weights, dy, variables, kernel: _like([dy, *variables]),
    )


def _like(tensors: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(tensor) for tensor in tensors]
