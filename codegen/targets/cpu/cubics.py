"""Cubic polynomials that take the place of float32 code where many elements are computed.

An activation of one input without parameters is a function of 32 bits. For each sign, exponent and
seven bits of the fraction there is a cubic in the distance from the end nearest to 0, with its four
coefficients side by side. A cubic is kept where it was measured to be accurate; the others are NaN,
and blocks that need them are computed by the routine's own code.
"""

from __future__ import annotations

import numpy as np

from actsearch.codegen.probes import Array, scale
from actsearch.codegen.programs import DY, Routine
from actsearch.codegen.targets.cpu.accuracy import computed

_PLACES = 16  # bits of a float below those that choose a cubic
_SEGMENTS = 2 ** (23 - _PLACES)  # an octave
_OCTAVES = (-30, 7)  # with cubics
_NEEDED = (2.0**-10, 4.0)  # |x| where none may be missing
_ULPS = {"forward": 1.6, "backward": 3.2}  # that they may be off, four fifths of the tolerance
_CHECKED = (0.0, 0.13, 0.37, 0.5, 0.71, 0.93, 1.0)  # places in a segment
_NODES = 0.5 - 0.5 * np.cos(np.pi * (np.arange(4) + 0.5) / 4)  # of Chebyshev, in a segment
_TO_POWERS = np.linalg.inv(np.vander(_NODES, increasing=True))  # from values there
_ZERO = 2.0 ** (-149 + _PLACES)  # the end of the first segment
_TINY = np.float32(np.finfo(np.float32).tiny)


def fitted(routine: Routine) -> Array | None:
    """The coefficients [2^16, 4] of f, or of the factor of dy in a gradient, in float32.

    None where cubics are not accurate for numbers of ordinary size.
    """
    cubics = np.full((1 << (32 - _PLACES), 4), np.nan, np.float32)
    for sign in (0, 1):
        first, last = ((127 + octave) * _SEGMENTS for octave in _OCTAVES)
        codes = np.arange(first, last) + (sign << (31 - _PLACES))
        ends = _floats(codes), _floats(codes + 1)
        rows, accurate = _segments(routine, *ends)
        sizes = np.abs(ends[0])
        if not accurate[(sizes >= _NEEDED[0]) & (sizes < _NEEDED[1])].all():
            return None
        cubics[codes[accurate]] = rows[accurate]
        # a line around 0, where subnormal numbers are; 0 itself is frequent
        near = np.array([0.0, _ZERO]) * (1 - 2 * sign)
        values = _values(routine, near)
        with np.errstate(all="ignore"):
            line = np.array([values[0], (values[1] - values[0]) / near[1], 0, 0], np.float32)
        if not np.isfinite(line).all():
            return None
        cubics[sign << (31 - _PLACES)] = line
    return cubics


def _floats(codes: Array) -> Array:
    """The ends nearest to 0 of segments, as float64."""
    bits: Array = codes.astype(np.uint32) << _PLACES
    return bits.view(np.float32).astype(np.float64)


def _values(routine: Routine, x: Array) -> Array:
    """What is tabulated, in float64."""
    flat = x.ravel()
    arguments = [np.ones_like(flat) if node == DY else flat for node in routine.arguments]
    with np.errstate(all="ignore"):
        return computed(routine, arguments)[0].reshape(x.shape)


def _segments(routine: Routine, low: Array, high: Array) -> tuple[Array, Array]:
    """A cubic for each segment, and whether it is accurate."""
    width = (high - low)[:, None]
    with np.errstate(all="ignore"):
        powers = _values(routine, low[:, None] + width * _NODES) @ _TO_POWERS.T
        rows = (powers / width ** np.arange(4)).astype(np.float32)
        x = low[:, None] + width * np.array(_CHECKED)
        x[:, -1] = np.nextafter(high.astype(np.float32), np.float32(0))
        x = x.astype(np.float32).astype(np.float64)
        exact = _values(routine, x)
        d, c = x - low[:, None], rows.astype(np.float64).T[:, :, None]
        value = c[3]
        for coefficient in (c[2], c[1], c[0]):  # as the processor rounds
            value = (value * d + coefficient).astype(np.float32).astype(np.float64)
        size = scale(exact.ravel(), np.abs(exact).ravel(), _SEGMENTS * len(_CHECKED))
        unit = np.spacing(np.maximum(size, _TINY).astype(np.float32)).reshape(x.shape)
        accurate = np.abs(value - exact) <= _ULPS[routine.name] * unit
    return rows, accurate.all(axis=1)
