"""Kernels: the compiled C of one activation, registered with the operator.

What a forward and a backward pass need in float32 is compiled at once and kept where it is
accurate, as `accuracy` measures. The rest is compiled where it turns out to be needed. Libraries
are found in the cache by what they were made of.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from actsearch.codegen.programs import Program
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.accuracy import single_range
from actsearch.codegen.targets.cpu.library import Builder, library
from actsearch.codegen.targets.cpu.rendering import ELEMENTARY, ROUTINES, Variant, functions

FIRST: tuple[Variant, ...] = (("forward", "f32"), ("backward", "f32"))
_WIDE: tuple[Variant, ...] = (("forward", "f64"), ("backward", "f64"))
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
        for number, program in missing.items():
            dimensions = [parameter.dimension for parameter in program.parameters]
            library().actsearch_declare(
                ctypes.c_int64(number),
                ctypes.c_int64(len(program.inputs)),
                ctypes.c_int64(len(dimensions)),
                (ctypes.c_int64 * len(dimensions))(*dimensions),
            )
        refused = _add(missing, precision, FIRST)
        _add({number: missing[number] for number in refused}, precision, _WIDE)
        for number, program in missing.items():
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
def _code(program: Program, variants: Sequence[Variant]) -> str:
    """The routines as C, under a name that stands for that of the kernel."""
    return functions(program, variants, _NAME)


def _add(programs: Mapping[int, Program], precision: str, variants: Sequence[Variant]) -> set[int]:
    """Compile and register routines; returns those kernels whose float32 code is not accurate."""
    refused = set()
    for number, path in _libraries(programs, precision, variants).items():
        loaded = ctypes.CDLL(path)
        for routine, type_ in variants:
            code: Any = getattr(loaded, f"k{number}_{routine}_{type_}")
            place = ctypes.c_int64(number), ROUTINES.index(routine)
            pointer = ctypes.cast(code, ctypes.c_void_p)
            if type_ == "f64":
                library().actsearch_register_wide(*place, pointer)
                continue
            holds = single_range(getattr(programs[number], routine), precision, code)
            if not holds.anywhere:
                refused.add(number)
                pointer = ctypes.c_void_p()
            library().actsearch_register_single(*place, pointer, ctypes.c_double(holds.bound))
    return refused


def _libraries(
    programs: Mapping[int, Program], precision: str, variants: Sequence[Variant]
) -> dict[int, str]:
    """A library that holds the routines, for each program."""
    if not programs:
        return {}
    compiler = toolchain.compiler("c")
    arguments = [*compiler.flags, *(["-DFAST"] if precision == "fast" else [])]
    arguments += ["-DVECTOR_MATH", "-lmvec", "-lm"] if compiler.vector_math else ["-lm"]
    texts = {
        number: _code(program, variants).replace(_NAME, f"k{number}")
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


@cache
def _set_builder() -> None:
    library().actsearch_builder(_BUILD)


def _build(number: int, routine: int, is_wide: int) -> int:
    """Called by the operator, in any thread, for a routine that is not there yet."""
    try:
        with _LOCK:
            program, precision = _PROGRAMS[number]
            variant = ROUTINES[routine], "f64" if is_wide else "f32"
            _add({number: program}, precision, (variant,))
    except Exception:  # nothing may leave a C callback; the operator raises
        traceback.print_exc()
        return 0
    return 1


_BUILD = Builder(_build)
