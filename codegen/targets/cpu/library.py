"""The C++ operator of the target `cpu`: built once for a machine, loaded once for a process."""

from __future__ import annotations

import ctypes
import re
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from actsearch.cache import cache_folder
from actsearch.codegen.targets import BuildError
from actsearch.codegen.targets.calling import check_slices, empty_slices
from actsearch.codegen.targets.cpu import toolchain

_INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)

Builder = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int, ctypes.c_int
)
Coster = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, ctypes.c_int, ctypes.c_int)


@cache
def library() -> Any:
    """The operator's library, with its C functions; `torch.ops.actsearch` has its operators.

    Raises:
        BuildError: it is not in the cache, and cannot be built.
    """
    load: Any = torch.ops.load_library
    load(_path())
    loaded = ctypes.CDLL(_path())
    loaded.actsearch_inputs.restype = ctypes.c_int64
    loaded.actsearch_covered.restype = ctypes.c_double
    _register_shapes(loaded)
    return loaded


@cache
def activation() -> Callable[..., Any]:
    """(kernel, *variables) -> y, as `torch.ops.actsearch.activation` but faster.

    It returns NotImplemented for tensor subclasses and inside of torch.func's transforms; always,
    where Python has no headers.
    """
    library()
    binding = getattr(ctypes.PyDLL(_path()), "actsearch_callable", None)
    if binding is None:
        return lambda *arguments: NotImplemented
    binding.restype = ctypes.py_object
    found: Callable[..., Any] = binding()
    return found


def _path() -> str:
    found = _path_or_failure()
    if isinstance(found, BuildError):
        raise BuildError(*found.args)
    return found


@cache
def _path_or_failure() -> str | BuildError:
    """What fails takes long, too, so that it is tried once in a process."""
    try:
        compiler = toolchain.compiler("c++")
        source = _source("operator.cpp", set())
        flags = _flags(compiler)
        name = f"operator-{toolchain.key(compiler, source, *flags, torch.__version__)}"
        return str(toolchain.cached(name) or _build(compiler, name, source, flags))
    except BuildError as error:
        return error


def _source(name: str, included: set[str]) -> str:
    """A file of the operator with those that it includes in their places, each once."""
    included.add(name)
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    text = text.replace("#pragma once\n", "")
    return _INCLUDE.sub(lambda m: "" if m[1] in included else _source(m[1], included), text)


def _build(compiler: toolchain.Compiler, name: str, source: str, flags: list[str]) -> Path:
    with FileLock(cache_folder() / f"{name}.lock"):  # another process may be at it
        path = toolchain.cached(name)
        if path is None:
            note = "actsearch: building the CPU operator, once for this machine (a minute) …"
            print(note, file=sys.stderr, flush=True)
            (path,) = toolchain.build(compiler, [name], source, *flags)
        return path


def _flags(compiler: toolchain.Compiler) -> list[str]:
    root = Path(torch.__file__).parent
    include, libraries = root / "include", root / "lib"
    abi = int(torch.compiled_with_cxx11_abi())
    standard = "c++20" if (include / "torch" / "headeronly").is_dir() else "c++17"
    return [
        f"-std={standard}", "-O3", "-fPIC", "-shared", "-w",
        "-fopenmp",
        "-ffp-contract=off",  # what is fitted does not depend on what is inlined
        compiler.native, f"-D_GLIBCXX_USE_CXX11_ABI={abi}", f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{libraries}",
        f"-I{sysconfig.get_path('include')}", "-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10",
    ]  # fmt: skip


def _register_shapes(loaded: Any) -> None:
    """What torch.compile and meta tensors need to know about results.

    Those of an activation, which has one kernel's number, are like x; in a population, which has a
    list of them, slices lie one after the other, each like its slice of x.
    """

    def values(x: Tensor, kernels: int | Sequence[int]) -> Tensor:
        if isinstance(kernels, int):
            return torch.empty_like(x)
        check_slices(x, len(kernels))
        return empty_slices(x)

    def forward(variables: Sequence[Tensor], kernels: int | Sequence[int]) -> Tensor:
        return values(variables[0], kernels)

    def backward(
        dy: Tensor, variables: Sequence[Tensor], kernels: int | Sequence[int]
    ) -> list[Tensor]:
        first = kernels if isinstance(kernels, int) else kernels[0]
        inputs = loaded.actsearch_inputs(ctypes.c_int64(first))
        made = [values(variables[0], kernels) for _ in range(inputs)]
        return made + [torch.empty_like(tensor) for tensor in variables[inputs:]]

    def double_backward(
        weights: Sequence[Tensor],
        dy: Tensor,
        variables: Sequence[Tensor],
        kernels: int | Sequence[int],
    ) -> list[Tensor]:
        return [values(variables[0], kernels), *backward(dy, variables, kernels)]

    for name in ("activation", "population"):
        torch.library.register_fake(f"actsearch::{name}", forward)
        torch.library.register_fake(f"actsearch::{name}_backward", backward)
        torch.library.register_fake(f"actsearch::{name}_double_backward", double_backward)
