"""Where float32 code is accurate enough, by measurement against the same steps in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from actsearch.codegen.probes import Array, magnitudes, scale
from actsearch.codegen.programs import DY, Earlier, Operand, Routine
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Input, Parameter

_TOLERANCE = {"forward": 2.0, "backward": 4.0, "double_backward": 16.0}  # units in the last place
_PER_STEP = 0.4  # of them that each operation may add, in long code
_FAST = 4096.0  # of them in the precision "fast": a relative error of 2^-11
_NOTHING = {"accurate": float(np.finfo(np.float32).tiny), "fast": 2.0**-90}
"""Units in the last place are at least those of a number of this size."""

_NEEDED = 8.0  # float32 code that is inaccurate for smaller |x| is not used at all
_OCTAVES = (-40, 128)
_DENSITY = 24  # probes an octave
_LANES = 16  # what the number of elements, that of the probes too, is a multiple of
_A_FEW = ctypes.c_long(_LANES)
_Pointer = ctypes.c_void_p
_FACTORS = (1.0, -1.0, 0.4375)  # of the parameters' initial values


@dataclass(frozen=True)
class Range:
    """Where float32 code may be used.

    Attributes:
        anywhere: whether it may at all.
        bound: up to which |x|; infinity where it may everywhere.
    """

    anywhere: bool
    bound: float


def tolerance(routine: Routine, precision: str) -> float:
    """Units in the last place that results may be off away from their roots; more for long code."""
    if precision == "fast":
        return _FAST
    return max(_TOLERANCE[routine.name], _PER_STEP * len(routine.steps))


@cache
def _probes() -> Array:
    """|x| from subnormal numbers to the largest."""
    sizes = np.minimum(magnitudes(_OCTAVES, _DENSITY), float(np.finfo(np.float32).max))
    return sizes.astype(np.float32)


def single_range(routine: Routine, precision: str, single: Callable[..., int]) -> Range:
    """Where a routine's float32 code keeps to the tolerance, along rays through 0.

    Args:
        routine: what the code computes.
        precision: "accurate" or "fast".
        single: the compiled code, a C function of the number of elements and of arrays of pointers
            to arguments and results.
    """
    worst = np.inf
    sizes = _probes()
    parameters = [node for node in routine.arguments if isinstance(node, Parameter) and node != DY]
    for factor in _FACTORS if parameters and precision == "accurate" else _FACTORS[:1]:
        for sign in (1.0, -1.0):
            arguments = []
            for node in routine.arguments:
                if isinstance(node, Input):
                    arguments.append((sign * sizes).astype(np.float32))
                else:
                    value = 1.0
                    if isinstance(node, Parameter) and node in parameters:
                        value = factor * (node.initial or 1.0)
                    arguments.append(np.full(len(sizes), value, np.float32))
            with np.errstate(all="ignore"):
                failing = _failing(routine, precision, arguments, single)
            if failing.any():
                worst = min(worst, float(sizes[failing].min()))
    if worst < _NEEDED:
        return Range(False, np.inf)
    return Range(True, np.inf if worst == np.inf else float(np.nextafter(worst, 0.0)))


def _failing(
    routine: Routine, precision: str, arguments: list[Array], single: Callable[..., int]
) -> Array:
    """At which probes a result is off by more than the tolerance."""
    found, lost = call(single, arguments, len(routine.results))
    failing = np.zeros(len(arguments[0]), bool)
    told = _told(single, arguments, len(routine.results)) if lost else failing
    for value, reference in zip(found, computed(routine, arguments), strict=True):
        rounded = reference.astype(np.float32)
        size = np.where(np.isfinite(rounded), np.abs(reference), 0.0)
        relative_to = np.maximum(scale(reference, size, _DENSITY), _NOTHING[precision])
        error = np.abs(value.astype(np.float64) - reference)
        ok = error <= tolerance(routine, precision) * np.spacing(relative_to.astype(np.float32))
        ok |= (value == rounded) | (np.isnan(value) & np.isnan(rounded))
        failing |= ~ok & ~told
    return failing


def computed(routine: Routine, arguments: Sequence[Array]) -> list[Array]:
    """A routine's results in float64, from arguments of any type and of one length."""
    given = {
        node: argument.astype(np.float64)
        for node, argument in zip(routine.arguments, arguments, strict=True)
    }
    done: list[Any] = []

    def read(operand: Operand) -> Any:
        if isinstance(operand, Earlier):
            return done[operand.step]
        return np.float64(operand) if isinstance(operand, float) else given[operand]

    for step in routine.steps:
        done.append(apply_numpy(step.operator, *map(read, step.operands)))
    return [np.broadcast_to(read(result), arguments[0].shape) for result in routine.results]


def _told(single: Callable[..., int], arguments: list[Array], count: int) -> Array:
    """At which probes the code says itself that it is not accurate."""
    arrays = [*arguments, *(np.empty_like(arguments[0]) for _ in range(count))]
    addresses = [array.ctypes.data for array in arrays]
    step = _LANES * arguments[0].itemsize
    told = []
    for offset in range(0, arguments[0].nbytes, step):
        here = [address + offset for address in addresses]
        given, found = here[: len(arguments)], here[len(arguments) :]
        told.append(
            bool(single(_A_FEW, (_Pointer * len(given))(*given), (_Pointer * count)(*found)))
        )
    return np.repeat(told, _LANES)


def call(
    function: Callable[..., int], arguments: list[Array], results: int
) -> tuple[list[Array], bool]:
    """A compiled routine on arrays of one length: its results, and whether it says it is lost."""
    length = len(arguments[0])
    padded = arguments
    if length % _LANES:
        padded = [np.pad(argument, (0, -length % _LANES), "edge") for argument in arguments]
    out = [np.empty_like(padded[0]) for _ in range(results)]
    lost = function(ctypes.c_long(len(padded[0])), _pointers(padded), _pointers(out))
    return [values[:length] for values in out], bool(lost)


def _pointers(arrays: list[Array]) -> Any:
    return (_Pointer * len(arrays))(*(array.ctypes.data for array in arrays))
