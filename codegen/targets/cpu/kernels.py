"""Kernels: the compiled C of one activation, registered with the operator.

What a forward and a backward pass need is compiled at once, the double backward when it is first
called. Libraries are found in the cache by what they were made of. For each routine the float32
code is kept where it is accurate, as `accuracy` measures.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
import traceback
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from actsearch.codegen.programs import Program
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.accuracy import single_range
from actsearch.codegen.targets.cpu.library import Builder, library
from actsearch.codegen.targets.cpu.rendering import ELEMENTARY, ROUTINES, functions

FIRST, _SECOND = ROUTINES[:2], ROUTINES[2:]
_NAME = "KERNEL"
_LOCK = threading.RLock()
_PROGRAMS: dict[int, tuple[Program, str]] = {}


def load(programs: Iterable[Program], precision: str) -> list[int]:
    """The kernels of activations, by number; what is not in the cache is compiled in one go.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    with _LOCK:
        _set_builder()
        numbers = []
        missing: dict[int, Program] = {}
        for program in programs:
            number = _number(program, precision)
            numbers.append(number)
            if number not in _PROGRAMS:
                missing[number] = program
        paths = _libraries(missing, precision, FIRST)
        for number, program in missing.items():
            dimensions = [parameter.dimension for parameter in program.parameters]
            library().actsearch_declare(
                ctypes.c_int64(number),
                ctypes.c_int64(len(program.inputs)),
                ctypes.c_int64(len(dimensions)),
                (ctypes.c_int64 * len(dimensions))(*dimensions),
            )
            _register(number, program, precision, paths[number], FIRST)
            _PROGRAMS[number] = program, precision
        return numbers


@cache
def _number(program: Program, precision: str) -> int:
    """What the operator calls an activation: the same in every process.

    Initial values belong to it, because accuracy is measured around them.
    """
    declared = [(parameter.dimension, parameter.initial) for parameter in program.parameters]
    text = f"{ELEMENTARY}{_code(program, FIRST)}{len(program.inputs)}{declared}{precision}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


@lru_cache(maxsize=256)
def _code(program: Program, routines: Sequence[str]) -> str:
    """The routines as C, under a name that stands for that of the kernel."""
    return functions(program, routines, _NAME)


def _libraries(
    programs: dict[int, Program], precision: str, routines: Sequence[str]
) -> dict[int, str]:
    """A library that holds the routines, for each program."""
    compiler = toolchain.compiler("c")
    arguments = [*compiler.flags, *(["-DFAST"] if precision == "fast" else [])]
    arguments += ["-DVECTOR_MATH", "-lmvec", "-lm"] if compiler.vector_math else ["-lm"]
    texts = {
        number: _code(program, routines).replace(_NAME, f"k{number}")
        for number, program in programs.items()
    }
    names = {
        number: "kernel-" + toolchain.key(compiler, ELEMENTARY, text, *arguments)
        for number, text in texts.items()
    }
    paths = {number: toolchain.cached(name) for number, name in names.items()}
    missing = [number for number, path in paths.items() if path is None]
    if missing:
        source = ELEMENTARY + "".join(texts[number] for number in missing)
        wanted = [names[number] for number in missing]
        built = toolchain.build(compiler, wanted, source, *arguments)
        paths |= dict(zip(missing, built, strict=True))
    return {number: str(path) for number, path in paths.items()}


def _register(
    number: int, program: Program, precision: str, path: str, routines: Sequence[str]
) -> None:
    loaded = ctypes.CDLL(path)
    for name in routines:
        single: Any = getattr(loaded, f"k{number}_{name}_f32")
        wide: Any = getattr(loaded, f"k{number}_{name}_f64")
        holds = single_range(getattr(program, name), precision, single, wide)
        library().actsearch_register(
            ctypes.c_int64(number),
            ROUTINES.index(name),
            ctypes.cast(single, ctypes.c_void_p) if holds.anywhere else None,
            ctypes.cast(wide, ctypes.c_void_p),
            ctypes.c_double(holds.bound),
        )


@cache
def _set_builder() -> None:
    library().actsearch_builder(_BUILD_SECOND)


def _build_second(number: int, routine: int) -> int:
    """Called by the operator, in any thread, for a routine that is not there yet."""
    try:
        with _LOCK:
            program, precision = _PROGRAMS[number]
            path = _libraries({number: program}, precision, _SECOND)[number]
            _register(number, program, precision, path, _SECOND)
    except Exception:  # nothing may leave a C callback; the operator raises
        traceback.print_exc()
        return 0
    return 1


_BUILD_SECOND = Builder(_build_second)
