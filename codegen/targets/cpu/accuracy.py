"""Where float32 code is accurate enough, by measurement against the same code in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from actsearch.codegen.programs import DY, Routine
from actsearch.grammar.expression import Input, Parameter

Array = NDArray[Any]

_TOLERANCE = {"forward": 2.0, "backward": 4.0, "double_backward": 16.0}  # units in the last place
_PER_STEP = 0.4  # of them that each operation may add, in long code
_FAST = 4096.0  # of them in the precision "fast": a relative error of 2^-11

_NEEDED = 8.0  # float32 code that is inaccurate for smaller |x| is not used at all
_SMALLEST = float(np.finfo(np.float32).tiny)
_OCTAVES = (-41, 127)
_DENSITY = 24  # probes an octave
_AROUND = 2 * _DENSITY + 1
_LANES = 16  # what the number of elements is a multiple of
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
    """|x| from subnormal numbers to the largest: evenly in the logarithm, with random last bits."""
    generator = np.random.default_rng(0)
    count = (_OCTAVES[1] - _OCTAVES[0]) * _DENSITY
    middle = np.linspace(*_OCTAVES, count) + generator.uniform(-0.3, 0.3, count) / _DENSITY
    values = np.sort(np.minimum(2.0**middle, float(np.finfo(np.float32).max)))
    return values.astype(np.float32)


def single_range(
    routine: Routine, precision: str, single: Callable[..., int], wide: Callable[..., int]
) -> Range:
    """Where a routine's float32 code keeps to the tolerance, along rays through 0.

    Args:
        routine: what the code computes.
        precision: "accurate" or "fast".
        single, wide: the compiled code, as C functions of the number of elements and of arrays of
            pointers to arguments and results.
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
                failing = _failing(routine, precision, arguments, single, wide)
            if failing.any():
                worst = min(worst, float(sizes[failing].min()))
    if worst < _NEEDED:
        return Range(False, np.inf)
    return Range(True, np.inf if worst == np.inf else float(np.nextafter(worst, 0.0)))


def _failing(
    routine: Routine,
    precision: str,
    arguments: list[Array],
    single: Callable[..., int],
    wide: Callable[..., int],
) -> Array:
    """At which probes a result is off by more than the tolerance."""
    count = len(routine.results)
    found, lost = call(single, arguments, count)
    exact, _ = call(wide, [argument.astype(np.float64) for argument in arguments], count)
    failing = np.zeros(len(arguments[0]), bool)
    told = _told(single, arguments, count) if lost else failing
    for value, reference in zip(found, exact, strict=True):
        rounded = reference.astype(np.float32)
        size = np.where(np.isfinite(rounded), np.abs(reference), 0.0)
        unit = np.spacing(np.maximum(_scale(reference, size), _SMALLEST).astype(np.float32))
        error = np.abs(value.astype(np.float64) - reference)
        ok = error <= tolerance(routine, precision) * unit
        ok |= (value == rounded) | (np.isnan(value) & np.isnan(rounded))
        failing |= ~ok & ~told
    return failing


def _scale(values: Array, sizes: Array) -> Array:
    """What errors are relative to: |f|, and within an octave of a root the largest |f| there."""
    above, below = (
        maximum_filter1d((side >= 0).astype(int), _AROUND) for side in (values, -values)
    )
    return np.where((above & below) == 1, maximum_filter1d(sizes, _AROUND), sizes)


def _told(single: Callable[..., int], arguments: list[Array], count: int) -> Array:
    """At which probes the code says itself that it is not accurate."""
    told = np.zeros(len(arguments[0]), bool)
    for begin in range(0, len(told), 2 * _LANES):
        part = slice(begin, begin + 2 * _LANES)
        told[part] = call(single, [argument[part].copy() for argument in arguments], count)[1]
    return told


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
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
