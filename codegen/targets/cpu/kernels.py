"""Kernels: the compiled C of one activation, registered with the operator.

What a forward and a backward pass need in float32 is compiled at once and kept where it is
accurate, as `accuracy` measures; else, or where a simulation is far off, pairs of float32 are
tried. The rest is compiled where it turns out to be needed. Several kernels are compiled by as many
compilers as PyTorch has threads, each for a few of them, while Python prepares the next and
measures the last. Every routine is found in the cache by what it was made of.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import torch

from actsearch.codegen.programs import Earlier, Program, Step
from actsearch.codegen.scaling import degree_of_scaling
from actsearch.codegen.targets import PRECISIONS
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.accuracy import is_hopeless, single_range
from actsearch.codegen.targets.cpu.elementary import ELEMENTARY, instructions, needed_by
from actsearch.codegen.targets.cpu.library import Builder, Coster, library
from actsearch.codegen.targets.cpu.rendering import ROUTINES, Variant, functions
from actsearch.grammar.expression import Parameter

FIRST: tuple[Variant, ...] = (("forward", "f32"), ("backward", "f32"))
_TOGETHER = 40  # routines in one run of the compiler
_MOST_COMPILERS = 4
_STEEPEST = 1000.0  # constant factors that make no feature too narrow for its polynomials' checks
_SCALED = (0, 1)  # degrees of scaled functions whose polynomials need few factors beside them
_NAME = "KERNEL"
_WIDE = 5  # how many times longer float64 code takes than plain float32 code
_SHARED = -(1 << 63)  # the dimension of a parameter that has none
_LOCK = threading.RLock()
_PROGRAMS: dict[int, tuple[Program, str]] = {}
_SINGLE: dict[tuple[int, str], Variant] = {}  # what computes in float32, by kernel and routine


@dataclass(frozen=True, eq=False)
class Piece:
    """A routine of a kernel in one precision of arithmetic.

    Attributes:
        number: the kernel's.
        program: what it computes.
        precision: "accurate" or "fast".
        variant: the routine, and "f32", "pairs" or "f64".
        share: of elements that float32 code leaves to float64; pairs are used if they leave fewer.
    """

    number: int
    program: Program
    precision: str
    variant: Variant
    share: float = 1.0

    @property
    def function(self) -> str:
        """Its name in C."""
        return "_".join((f"k{self.number}", *self.variant))

    @cached_property
    def text(self) -> str:
        """It as C."""
        return _code(self.program, self.variant).replace(_NAME, f"k{self.number}")

    @property
    def flags(self) -> list[str]:
        """What the compiler is told. In float32 nothing is called, so there is nothing to link."""
        compiler = toolchain.compiler("c")
        flags = [*compiler.flags, "-pipe"]
        if self.precision == "fast":
            flags += ["-DFAST"]
        elif self.variant[1] != "pairs" and not compiler.clang:
            flags += ["-fgcse"]  # a tenth fewer instructions for a quarter more of GCC's time
        if self.variant[1] != "f64":
            return [*flags, "-nostdlib"]
        return flags + (["-DVECTOR_MATH", "-lmvec"] if compiler.vector_math else []) + ["-lm"]

    @cached_property
    def library(self) -> str:
        """The name of its library in the cache."""
        key = toolchain.key(toolchain.compiler("c"), ELEMENTARY, self.text, *self.flags)
        return f"kernel-{key}"


def load(programs: Iterable[Program], precision: str) -> list[int]:
    """The kernels of activations, by number; what is not in the cache is compiled in one go.

    Args:
        programs: they may be made while they are asked for: the compiler is at work meanwhile.
        precision: "accurate" or "fast".

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    with _LOCK:
        _set_builder()
        numbers: list[int] = []
        new: dict[int, Program] = {}

        def pieces() -> Iterator[Piece]:
            for program in programs:
                number = _number(program, precision)
                numbers.append(number)
                if number not in _PROGRAMS and number not in new:
                    new[number] = program
                    _declare(number, program)
                    for routine, _ in FIRST:
                        yield _first_piece(number, program, precision, routine)

        _add(pieces())
        _PROGRAMS.update((number, (program, precision)) for number, program in new.items())
        return numbers


def _first_piece(number: int, program: Program, precision: str, routine: str) -> Piece:
    """What a routine is tried with first: plain float32 code, unless that cannot be accurate."""
    needs_pairs = precision == "accurate" and is_hopeless(getattr(program, routine))
    return Piece(number, program, precision, (routine, "pairs" if needs_pairs else "f32"))


def _declare(number: int, program: Program) -> None:
    dimensions = [_dimension(parameter) for parameter in program.parameters]
    degree = degree_of_scaling(program.expression)
    is_scaled = degree in _SCALED
    library().actsearch_declare(
        ctypes.c_int64(number),
        ctypes.c_int64(len(program.inputs)),
        ctypes.c_int64(len(dimensions)),
        (ctypes.c_int64 * len(dimensions))(*dimensions),
        (ctypes.c_float * len(dimensions))(*(p.initial or 1.0 for p in program.parameters)),
        ctypes.c_int(is_scaled),
        ctypes.c_int(degree or 0),
    )


def _dimension(parameter: Parameter) -> int:
    return parameter.dimension if parameter.scope == "per channel" else _SHARED


@cache
def _number(program: Program, precision: str) -> int:
    """What the operator calls an activation: the same in every process.

    Initial values belong to it, because accuracy is measured around them.
    """
    declared = [(_dimension(parameter), parameter.initial) for parameter in program.parameters]
    code = "".join(_code(program, variant) for variant in FIRST)
    text = f"{ELEMENTARY}{code}{len(program.inputs)}{declared}{precision}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


@lru_cache(maxsize=512)
def _code(program: Program, variant: Variant) -> str:
    """A routine as C, under a name that stands for that of the kernel."""
    return functions(program, [variant], _NAME)


def _add(pieces: Iterable[Piece]) -> None:
    """Compile and register routines; float64 code takes the place of inaccurate float32 code."""
    count = min(_MOST_COMPILERS, torch.get_num_threads())
    with ThreadPoolExecutor(count) as compilers:
        running: deque[tuple[Sequence[Piece], Future[list[str]]]] = deque()

        def start(group: Sequence[Piece]) -> None:
            running.append((group, compilers.submit(compiled, group)))

        waiting: dict[str, list[Piece]] = {"f32": [], "pairs": [], "f64": []}  # by their flags

        def start_waiting(shares: int) -> None:
            for alike in waiting.values():
                for group in _shares(alike, shares):
                    start(group)
                alike.clear()

        for piece in pieces:
            alike = waiting[piece.variant[1]]
            alike.append(piece)
            if len(alike) == _TOGETHER:
                start(alike.copy())
                alike.clear()
        start_waiting(count)
        while running:
            group, paths = running.popleft()
            for piece, path in zip(group, paths.result(), strict=True):
                for instead in _register(piece, path):
                    waiting[instead.variant[1]].append(instead)
            if not running or sum(map(len, waiting.values())) >= _TOGETHER // 2:
                start_waiting(1 if running else count)


def _shares(pieces: Sequence[Piece], count: int) -> list[Sequence[Piece]]:
    """At most so many groups of one size, but no routine alone: a compiler has to start, too."""
    size = max(2, -(-len(pieces) // count))
    return [pieces[first : first + size] for first in range(0, len(pieces), size)]


def _register(piece: Piece, path: str) -> list[Piece]:
    """Tell the operator, or what to compile instead of float32 code that is not accurate."""
    code: Any = getattr(ctypes.CDLL(path), piece.function)
    routine, type_ = piece.variant
    place = ctypes.c_int64(piece.number), ROUTINES.index(routine)
    pointer = ctypes.cast(code, ctypes.c_void_p)
    if type_ == "f64":
        library().actsearch_register_wide(*place, pointer)
        return []
    holds = single_range(getattr(piece.program, routine), piece.precision, type_, code)
    none_yet = piece.share == 1.0
    if none_yet or holds.share_outside < piece.share:
        used = pointer if holds.anywhere else ctypes.c_void_p()
        range_ = ctypes.c_double(holds.bound), ctypes.c_double(holds.least)
        library().actsearch_register_single(*place, used, *range_)
        _SINGLE[piece.number, routine] = piece.variant
    if type_ == "f32" and piece.precision == "accurate" and not holds.suffices:
        return [replace(piece, variant=(routine, "pairs"), share=holds.share_outside)]
    return [] if holds.anywhere or not none_yet else [replace(piece, variant=(routine, "f64"))]


def compiled(pieces: Sequence[Piece]) -> list[str]:
    """The library of each of some routines of one type and precision.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    missing = [piece for piece in pieces if toolchain.cached(piece.library) is None]
    if missing:
        text = "".join(piece.text for piece in missing)
        source = f"{needed_by(text)}\n{text}"
        names = [piece.library for piece in missing]
        toolchain.build(toolchain.compiler("c"), names, source, *missing[0].flags)
    return [str(toolchain.path_of(piece.library)) for piece in pieces]


@cache
def _set_builder() -> None:
    library().actsearch_builder(_BUILD)
    library().actsearch_coster(_COST)


def _build(numbers: Any, count: int, routine: int, is_wide: int) -> int:
    """Called by the operator, in any thread, for a routine of kernels that is not there yet."""
    try:
        with _LOCK:
            name = ROUTINES[routine]
            wanted = [(number, *_PROGRAMS[number]) for number in set(numbers[:count])]
            for precision in PRECISIONS:
                _add(
                    Piece(*row, (name, "f64")) if is_wide else _first_piece(*row, name)
                    for row in wanted
                    if row[-1] == precision
                )
    except Exception:  # nothing may leave a C callback; the operator raises
        traceback.print_exc()
        return 0
    return 1


def _cost(number: int, routine: int, is_wide: int) -> float:
    """Called by the operator, in any thread: instructions an element of a routine's code.

    0 where polynomials could miss some of its features.
    """
    try:
        program, _ = _PROGRAMS[number]
        name = ROUTINES[routine]
        if _steepness(getattr(program, name).steps) > _STEEPEST:
            return 0.0
        plain = name, "f32"
        variant = plain if is_wide else _SINGLE.get((number, name), plain)
        count = instructions(_code(program, variant).partition("++i)")[2])
        return float(count * (_WIDE if is_wide else 1))
    except Exception:  # as above
        traceback.print_exc()
        return -1.0


def _steepness(steps: Sequence[Step]) -> float:
    """The largest product of constant factors on the way to a step: how they narrow features."""
    found: list[float] = []
    for step in steps:
        inner = [found[o.step] for o in step.operands if isinstance(o, Earlier)]
        factors = [abs(o) for o in step.operands if isinstance(o, float) and o]
        factor = 1.0
        if step.operator == "mul":
            factor = max([1.0, *factors])
        elif step.operator == "div" and isinstance(step.operands[1], float) and factors:
            factor = max(1.0, 1 / factors[-1])
        found.append(factor * max(inner, default=1.0))
    return max(found, default=1.0)


_BUILD = Builder(_build)
_COST = Coster(_cost)
