"""NVRTC, NVIDIA's compiler for CUDA C++ as a library, through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actsearch.codegen.targets import BuildError

_FLAGS = ("--fmad=false", "--std=c++17")
_SHOWN = 20  # lines of a compiler's complaint


@cache
def library() -> Any:
    """The library, where a package, PyTorch or the system has it.

    Raises:
        BuildError: it is not installed.
    """
    for path in _candidates():
        try:
            loaded = ctypes.CDLL(path)
        except OSError:
            continue
        loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
        return loaded
    raise BuildError(
        "the target cuda needs NVIDIA's runtime compiler: pip install 'actsearch[cuda]'"
    )


def _candidates() -> Iterator[str]:
    pattern = "nvrtc64_*.dll" if sys.platform == "win32" else "libnvrtc.so*"
    roots = []
    for package in ("nvidia", "torch"):
        found = find_spec(package)
        roots += list(found.submodule_search_locations or []) if found else []
    for root in roots:
        for folder in ("*/lib", "*/bin", "*/lib/x64", "lib"):
            paths = glob.glob(os.path.join(root, folder, pattern))
            yield from sorted((p for p in paths if "builtins" not in Path(p).name), reverse=True)
    system = ctypes.util.find_library("nvrtc")
    if system:
        yield system


def available() -> bool:
    """Whether it is installed."""
    try:
        library()
    except BuildError:
        return False
    return True


def compile(
    source: str, architecture: int, kernels: Sequence[str], *flags: str
) -> tuple[bytes, dict[str, str]]:
    """Machine code for one architecture.

    Args:
        source: CUDA C++.
        architecture: such as 80 or 90.
        kernels: instances of templates that are needed, such as `kernel<float, 4, true>`.
        *flags: further flags.

    Returns:
        A cubin, and the name that each kernel has in it.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    nvrtc = library()
    program = ctypes.c_void_p()
    text, name = source.encode(), b"activation.cu"
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
    try:
        for kernel in kernels:
            _check(nvrtc.nvrtcAddNameExpression(program, kernel.encode()))
        options = [*_FLAGS, f"--gpu-architecture=sm_{architecture}", *flags]
        array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if nvrtc.nvrtcCompileProgram(program, len(options), array):
            raise BuildError(f"NVRTC could not compile generated code:\n{_log(nvrtc, program)}")
        names = {}
        for kernel in kernels:
            lowered = ctypes.c_char_p()
            _check(nvrtc.nvrtcGetLoweredName(program, kernel.encode(), ctypes.byref(lowered)))
            names[kernel] = (lowered.value or b"").decode()
        size = ctypes.c_size_t()
        _check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        code = ctypes.create_string_buffer(size.value)
        _check(nvrtc.nvrtcGetCUBIN(program, code))
        return code.raw, names
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _log(nvrtc: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value)
    _check(nvrtc.nvrtcGetProgramLog(program, log))
    return "\n".join(log.value.decode(errors="replace").splitlines()[:_SHOWN])


def _check(result: int) -> None:
    if result:
        raise BuildError(f"NVRTC: {library().nvrtcGetErrorString(result).decode()}")
