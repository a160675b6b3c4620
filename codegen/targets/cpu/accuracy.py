"""Where float32 code is accurate enough, by measurement against the same steps in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, cast

import numpy as np

from actsearch.codegen.probes import Array, magnitudes, scale
from actsearch.codegen.programs import DY, Earlier, Operand, Routine
from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cpu.simulation import simulated
from actsearch.grammar.evaluate import apply_numpy
from actsearch.grammar.expression import Input, Parameter
from actsearch.grammar.operators import OPERATORS

_TOLERANCE = {"forward": 2.0, "backward": 4.0, "double_backward": 16.0}  # units in the last place
_PER_STEP = 0.4  # of them that each operation may add that rounds, where these are more than
_FEW = 6
_PER_FUNCTION = {"f32": 1.0, "pairs": 1.25}  # that each may add that takes far longer in float64:
_DEAR = 8  # its cost
_SEEN = {"f32": 0.85, "pairs": 1.0}  # of all that: the worst of plain code is between probes
_FAST = 4096.0  # of them in the precision "fast": a relative error of 2^-11
_HALF = {"forward": 2.0**6, "backward": 2.0**9}  # for half types: 1/128 and 1/16 unit of float16,
_BELOW_HALF = 2.0**-25  # and of bfloat16 for numbers that float16 has not,
_COARSER = 8.0  # whose units are larger
_TINIEST = float(np.finfo(np.float32).tiny)
_NOTHING = {"accurate": _TINIEST, "half": _TINIEST, "fast": 2.0**-90}
"""Units in the last place are at least those of a number of this size."""

_LITTLE = 0.3  # of a logistic distribution; where plain code fails for more, pairs may do better
_MOST = 0.4  # of it; float32 code that fails for more is not used at all
_MIDDLE = 8.0  # |x| up to which overflow is not expected
_NARROW = 2.0**-8  # |x| up to which what fails near 0 may be as many times wider:
_WIDER_NEAR_0 = 16.0  # poles and roots move with parameters
_Ray = tuple[tuple[float, float], int]  # octaves of |x|, and probes in each
_WHOLE: _Ray = ((-40, 128), 12)
_CENTRE: _Ray = ((-4, 7), 96)
_MORE = 4  # times as many in the centre, for code of at most so many steps:
_SHORT = 16
_FORETOLD: _Ray = ((-4, 7), 48)
_HOPELESS = 1.2  # of the tolerance, that simulated code is off where it is not even compiled
_OVERFLOW_AT = 3  # overflow is looked for at each of so many probes
_LANES = 16  # what the number of elements, that of the probes too, is a multiple of
_TINY = 2.0 ** np.linspace(-149, -41, _LANES)
_Pointer = ctypes.c_void_p
_FEWER, _MORE_FACTORS = (1.0, -1.0, 0.4375), (1.0, -1.0, 0.4375, 2.0)
_FACTORS = {"f32": _FEWER, "pairs": _MORE_FACTORS, "half": _MORE_FACTORS}
"""Of the parameters' initial values. Fewer for plain code, which loses digits little by little."""

_WIDER = (16.0, 0.0625)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Range:
    """Where float32 code may be used.

    Attributes:
        anywhere: whether it may at all.
        bound: up to which |x|; infinity where it may everywhere.
        least: from which |x| on, but for 0 itself; 0 where it may everywhere.
        arithmetic: what it computes with: "f32", "pairs" or "half".
    """

    anywhere: bool
    bound: float
    least: float = 0.0
    arithmetic: str = "f32"

    @property
    def share_outside(self) -> float:
        """Of a logistic distribution."""
        if not self.anywhere:
            return 1.0
        return float(_share_outside(self.bound, self.least))

    @property
    def suffices(self) -> bool:
        """Whether so little is left to float64 that pairs would take longer."""
        return self.share_outside <= _LITTLE


def tolerance(routine: Routine, precision: str, arithmetic: str) -> float:
    """Units in the last place that probes may be off away from their roots; more for long code.

    What is composed of several functions may be off by what each of them and its operation are.
    Pairs, which take the place of float64, may be off by a little more than plain code.

    Args:
        routine: what the code computes.
        precision: "accurate", "fast", or "half", for half types.
        arithmetic: "f32" or "pairs", where the precision is "accurate".
    """
    if precision == "fast":
        return _FAST
    if precision == "half":
        return _HALF[routine.name]
    functions = sum(OPERATORS[step.operator].cost >= _DEAR for step in routine.steps)
    of_steps = _PER_STEP * routine.roundings if routine.roundings > _FEW else 0.0
    of_functions = _PER_FUNCTION[arithmetic] * functions
    return _SEEN[arithmetic] * max(_TOLERANCE[routine.name], of_steps, of_functions)


def _rays(routine: Routine) -> tuple[_Ray, ...]:
    """Octaves, from 0 to the largest number and again where x mostly is, and probes in each."""
    octaves, density = _CENTRE
    return _WHOLE, (octaves, density * _MORE if len(routine.steps) <= _SHORT else density)


@cache
def _probes(rays: tuple[_Ray, ...]) -> tuple[Array, ...]:
    """|x| along rays, the first from 0 on."""
    found = [np.minimum(magnitudes(*ray), _LARGEST) for ray in rays]
    found[0] = np.concatenate([np.zeros(_LANES), _TINY, found[0]])
    return tuple(sizes.astype(np.float32) for sizes in found)


def single_range(
    routine: Routine, precision: str, arithmetic: str, single: Callable[..., int]
) -> Range:
    """Where a routine's float32 code keeps to the tolerance, along rays through 0.

    Args:
        routine: what the code computes.
        precision: "accurate", "fast" or "half".
        arithmetic: what the code computes with.
        single: the compiled code, a C function of the number of elements and of arrays of pointers
            to arguments and results.
    """
    allowed = tolerance(routine, precision, arithmetic)
    sizes = np.concatenate(_probes(_rays(routine)))
    order = np.argsort(sizes, kind="stable")
    fails = np.zeros(len(sizes), bool)
    parameters = _own_parameters(routine)
    factors = _FACTORS[arithmetic] if parameters and precision != "fast" else (1.0,)
    rows = _along_rays(routine, sizes, factors)
    shape = len(rows[0]), len(sizes)
    for ray in zip(*(np.broadcast_to(row, shape) for row in rows), strict=True):
        arguments = [np.ascontiguousarray(values) for values in ray]
        with np.errstate(all="ignore"):
            fails |= _failing(routine, precision, allowed, arguments, single)
        kept = _without(sizes[order], fails[order], bool(parameters))
        if fails[0] or kept.share_outside > _MOST:
            return Range(False, np.inf, arithmetic=arithmetic)
    bound = min(kept.bound, max(_MIDDLE, _overflow(routine)))
    return replace(kept, bound=bound, arithmetic=arithmetic)


def _without(sizes: Array, fails: Array, has_parameters: bool) -> Range:
    """Where nothing fails: the range that leaves out the least."""
    sizes = sizes.astype(np.float64)
    places = np.flatnonzero(fails)
    near, far = np.append(-1, places), np.append(places, len(sizes))
    bounds = np.where(far == len(sizes), np.inf, sizes[np.maximum(far - 1, 0)])
    leasts = np.where(near < 0, 0.0, sizes[np.minimum(near + 1, len(sizes) - 1)])
    if has_parameters:
        leasts = np.maximum(leasts, np.minimum(_WIDER_NEAR_0 * leasts, _NARROW))
    best = int(np.argmin(_share_outside(bounds, leasts)))
    return Range(True, float(bounds[best]), float(leasts[best]))


def _share_outside(bound: Any, least: Any) -> Any:
    """Of a logistic distribution."""
    return 1.0 - np.maximum(0.0, np.tanh(bound / 2) - np.tanh(least / 2))


def is_hopeless(routine: Routine) -> bool:
    """Whether plain code would fail for so much that it need not be compiled.

    It is simulated, at a part of the probes; by the tolerance of the precision "accurate".
    """
    octaves, density = _FORETOLD
    sizes = magnitudes(octaves, density)
    allowed = _HOPELESS * tolerance(routine, "accurate", "f32")
    arguments = _along_rays(routine, sizes, (1.0, -1.0))
    fails: Array = np.zeros((len(arguments[0]), len(sizes)), bool)
    with np.errstate(all="ignore"):
        exact, single = _values(routine, arguments), simulated(routine, arguments)
        for result in routine.results:
            reference = np.broadcast_to(exact[result], fails.shape)
            value = reference.astype(np.float32)
            error = np.where(np.isfinite(value), np.abs(single[result] - reference), 0.0)
            wrong = error > allowed * _unit(np.abs(reference), "accurate")
            for row in np.flatnonzero(wrong.any(axis=1)):
                size = scale(reference[row], np.abs(reference[row]), density)
                wrong[row] &= error[row] > allowed * _unit(size, "accurate")
            fails |= wrong
    kept = _without(sizes, np.asarray(fails.any(axis=0)), bool(_own_parameters(routine)))
    return not kept.suffices


def _own_parameters(routine: Routine) -> list[Parameter]:
    return [node for node in routine.arguments if isinstance(node, Parameter) and node != DY]


def _along_rays(routine: Routine, sizes: Array, factors: Sequence[float]) -> list[Array]:
    """Arguments in rows: inputs of both signs, for each factor of the parameters."""
    parameters = _own_parameters(routine)
    rays = [(f, s) for f in (factors if parameters else (1.0,)) for s in (1.0, -1.0)]
    factor, sign = np.array(rays).T[:, :, None]
    given: dict[Operand, Array] = {node: factor * (node.initial or 1.0) for node in parameters}
    given |= {node: sign * sizes for node in routine.arguments if isinstance(node, Input)}
    ones = np.ones_like(factor)
    with np.errstate(over="ignore"):
        return [given.get(node, ones).astype(np.float32) for node in routine.arguments]


def _overflow(routine: Routine) -> float:
    """Up to which |x| arithmetic stays in the range of float32, parameters varying more.

    Exponentials and their like need no such bound: their code says itself that it is lost. Nor does
    what is only a result: where it overflows, infinity is its rounded value.
    """
    used = {operand for step in routine.steps for operand in step.operands}
    sizes = _probes((_WHOLE,))[0][2 * _LANES :: _OVERFLOW_AT]  # not 0, which may divide
    arguments = _along_rays(routine, sizes, _WIDER)
    with np.errstate(all="ignore"):
        known = _values(routine, arguments)
    fits = {operand: np.abs(value) <= _LARGEST for operand, value in known.items()}
    held = np.ones((len(arguments[0]), len(sizes)), bool)
    for place, step in enumerate(routine.steps):
        if step.operator in ("add", "sub", "mul", "div") and Earlier(place) in used:
            given_fit = np.logical_and(*(fits[operand] for operand in step.operands))
            held &= fits[Earlier(place)] | ~given_fit
    first = int(held.all(axis=0).argmin())
    return np.inf if held.all() else float(sizes[max(0, first - 1)])


def _failing(
    routine: Routine,
    precision: str,
    allowed: float,
    arguments: list[Array],
    single: Callable[..., int],
) -> Array:
    """At which probes a result is off by more than the tolerance."""
    found, lost = call(single, arguments, len(routine.results))
    off: list[tuple[Array, Array, Array]] = []  # results, their sizes, and where they are not equal
    failing = np.zeros(len(arguments[0]), bool)
    for value, reference in zip(found, computed(routine, arguments), strict=True):
        rounded = reference.astype(np.float32)
        size = np.where(np.isfinite(rounded), np.abs(reference), 0.0)
        error = np.abs(value.astype(np.float64) - reference)
        error[(value == rounded) | (np.isnan(value) & np.isnan(rounded))] = 0.0
        failing |= ~(error <= allowed * _unit(size, precision))
        off.append((reference, size, error))
    if lost:
        _forgive(failing, single, arguments, len(routine.results))
    if failing.any():  # near a root more is allowed
        units = [_unit(_scale(routine, reference, size), precision) for reference, size, _ in off]
        failing &= np.any([~(row[-1] <= allowed * u) for row, u in zip(off, units, strict=True)], 0)
    return failing


def _scale(routine: Routine, values: Array, sizes: Array) -> Array:
    """`scale` along each ray."""
    own = _rays(routine)
    parts = np.cumsum([len(probes) for probes in _probes(own)])[:-1]
    rays = zip(np.split(values, parts), np.split(sizes, parts), own, strict=True)
    return np.concatenate([scale(value, size, density) for value, size, (_, density) in rays])


def _unit(sizes: Array, precision: str) -> Array:
    """The unit in the last place that errors are measured in."""
    unit: Array = np.spacing(np.maximum(sizes, _NOTHING[precision]).astype(np.float32))
    return unit * np.where(sizes < _BELOW_HALF, _COARSER, 1.0) if precision == "half" else unit


def computed(routine: Routine, arguments: Sequence[Array]) -> list[Array]:
    """A routine's results in float64, from arguments of any type and of one length."""
    known = _values(routine, arguments)
    return [np.broadcast_to(known[result], arguments[0].shape) for result in routine.results]


def _values(routine: Routine, arguments: Sequence[Array]) -> dict[Operand, Any]:
    """Every operand of a routine in float64."""
    known: dict[Operand, Any] = {
        node: argument.astype(np.float64)
        for node, argument in zip(routine.arguments, arguments, strict=True)
    }
    for place, step in enumerate(routine.steps):
        known |= {
            operand: np.float64(operand) for operand in step.operands if isinstance(operand, float)
        }
        known[Earlier(place)] = apply_numpy(step.operator, *(known[o] for o in step.operands))
    known |= {result: np.float64(result) for result in routine.results if isinstance(result, float)}
    return known


def _forgive(
    failing: Array, single: Callable[..., int], arguments: list[Array], count: int
) -> None:
    """Take back the probes where the code says itself that it is not accurate."""
    code = ctypes.cast(cast("Any", single), _Pointer)
    shape = ctypes.c_long(len(arguments)), _pointers(arguments), ctypes.c_long(count)
    _forgiving()(code, ctypes.c_long(len(failing)), _Pointer(failing.ctypes.data), *shape)


@cache
def _forgiving() -> Callable[..., None]:
    """The C function that does so: there are thousands to ask about."""
    compiler = toolchain.compiler("c")
    source = resources.files(__package__).joinpath("forgive.c").read_text(encoding="utf-8")
    path = toolchain.built(compiler, "forgive", source, *compiler.flags)
    found: Callable[..., None] = ctypes.CDLL(str(path)).forgive
    return found


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
