"""Piecewise polynomials that take the place of float32 code where many elements are computed.

An activation of one input without parameters, or its slope, is a polynomial on each of 32 pieces of
one width around 0. The centre of a piece is a number at which the value is very nearly a float
(Gal, "Computing elementary functions: a new approach for achieving high accuracy and good
performance", 1986), so that only the last addition rounds. It is near the end with the smaller
value where values differ much, because nothing cancels then, and 0 for a piece that begins there,
because functions have roots at 0. Kinks between pieces do no harm. A polynomial is kept where it
was measured to be accurate; numbers on other pieces are computed by the routine's own code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actsearch.codegen.probes import Array
from actsearch.codegen.programs import DY, Routine, Step
from actsearch.codegen.targets.cpu.accuracy import computed

PIECES = 32
_SHAPES = ((1.0, 6), (1.0, 8), (0.5, 8), (0.5, 10))
"""Widths and degrees, in the order in which they are tried."""
_NEEDED = 3.0  # |x| below which none may be missing
_FAR = 8.0  # |x| up to which polynomials are enough
_ULPS = {"forward": 2.0, "backward": 4.0}  # the tolerance
_CANDIDATES = np.arange(-32, 33) * 2.0**-12  # for a centre, from the middle of a piece, in widths
_STEEP = 2.0  # ratio of the values at the ends of a piece, from which on the smaller one is chosen
_HIGHEST_ORDER = 4  # of a root at 0
_FITTED = 256  # numbers of a piece with a root that a polynomial is fitted to
_CHECKS = ((96, 0.9), (1024, 0.97))
"""How many numbers of a piece are checked, and the share of the tolerance that they may be off."""
_STEEPEST = 1000.0  # factor that makes no feature too narrow to be seen there
_OCTAVES = 30  # of numbers that are checked near 0
_TINY = np.float32(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Piecewise:
    """A polynomial c₀ + c₁·r + … of r = x − centre on each piece.

    Attributes:
        width: of a piece; number k, modulo 32, begins at k·width, −16 ≤ k < 16.
        centres: [32] float32; NaN where no polynomial is accurate.
        coefficients: [degree + 1, 32] float32, the highest first.
    """

    width: float
    centres: Array
    coefficients: Array

    @property
    def degree(self) -> int:
        """Of the polynomials; 6, 8 or 10, which the operator has code for."""
        return len(self.coefficients) - 1


def fitted(routine: Routine) -> Piecewise | None:
    """The polynomials of f, or of the factor of dy in a gradient; the cheapest that reach far.

    None where they are not accurate for numbers of ordinary size.
    """
    if any(map(_is_steep, routine.steps)):
        return None
    best, farthest = None, 0.0
    with np.errstate(all="ignore"):
        for width, degree in _SHAPES:
            low = width * np.arange(-PIECES // 2, PIECES // 2)
            centres, coefficients = _polynomials(routine, low, width, degree)
            inner = np.minimum(np.abs(low), np.abs(low + width))
            reach, accurate = np.inf, np.ones(PIECES, bool)
            for count, share in _CHECKS:
                if reach > max(farthest, _NEEDED):
                    off = _off(routine, low, width, centres, coefficients, count)
                    accurate &= off <= share * _ULPS[routine.name]
                    reach = float(inner[~accurate].min(initial=-low[0]))
            if reach > max(farthest, _NEEDED):
                centres[~accurate] = np.nan
                ordered = (np.roll(rows, PIECES // 2, axis=-1) for rows in (centres, coefficients))
                best, farthest = Piecewise(width, *ordered), reach
            if farthest >= _FAR:
                break
    return best


def _values(routine: Routine, x: Array) -> Array:
    """What is approximated, in float64."""
    flat = x.ravel()
    arguments = [np.ones_like(flat) if node == DY else flat for node in routine.arguments]
    return computed(routine, arguments)[0].reshape(x.shape)


def _polynomials(routine: Routine, low: Array, width: float, degree: int) -> tuple[Array, Array]:
    """Centres [32] and coefficients [degree + 1, 32] in float32, pieces in ascending order."""
    centres = _centres(routine, low, width)
    constants = _values(routine, centres).astype(np.float32)
    constants[constants == 0] = -0.0  # the sum of it and a zero is that zero
    coefficients = np.zeros((degree + 1, PIECES))
    coefficients[-1] = constants
    orders = _orders(routine, centres, constants, low, width)
    for order in np.unique(orders).tolist():
        chosen = orders == order
        count = degree + 1 - order
        nodes = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)  # of Chebyshev
        r = low[chosen, None] + width * nodes - centres[chosen, None]
        rest = _values(routine, centres[chosen, None] + r) - constants[chosen, None]
        powers = (r / width)[:, :, None] ** np.arange(count)
        rows = np.linalg.solve(powers, (rest / (r / width) ** order)[:, :, None])[:, :, 0]
        coefficients[:count, chosen] = (rows / width ** np.arange(order, degree + 1)).T[::-1]
    for piece in np.flatnonzero((centres == 0) & (constants == 0)).tolist():
        x = low[piece] + width * (np.arange(_FITTED) + 0.5) / _FITTED
        _make_up(coefficients[:, piece], orders[piece], x / width, _values(routine, x), width)
    return centres.astype(np.float32), coefficients.astype(np.float32)


def _make_up(coefficients: Array, order: int, t: Array, values: Array, width: float) -> None:
    """Round the lowest coefficient of a piece with a root, and let the others make up for that.

    In place, with the least squares of relative errors.

    Args:
        coefficients: [degree + 1], the highest first, in units of x.
        order: of the root.
        t: numbers of the piece, in widths.
        values: there.
    """
    degree = len(coefficients) - 1
    lowest = coefficients[degree - order] = coefficients[degree - order].astype(np.float32)
    powers = np.arange(order + 1, degree + 1)
    rows = t[:, None] ** powers / values[:, None]
    if np.isfinite(rows).all():
        rest = 1 - lowest * (t * width) ** order / values
        found = np.linalg.lstsq(rows, rest, rcond=None)[0]
        coefficients[: degree - order] = (found / width**powers)[::-1]


def _centres(routine: Routine, low: Array, width: float) -> Array:
    """For each piece a number near its middle, or end, whose value is very nearly a float."""
    ends = np.stack([low, low + width])
    sizes = np.abs(_values(routine, ends))
    larger, smaller = sizes.max(axis=0), sizes.min(axis=0)
    best = np.where(sizes[0] < sizes[1], *ends)
    middle = np.where(larger > _STEEP * smaller, best, low + width / 2)
    candidates = middle[:, None] + width * _CANDIDATES
    values = _values(routine, candidates)
    rounded = values.astype(np.float32)
    off = np.abs(values - rounded) / np.spacing(np.maximum(np.abs(rounded), _TINY))
    chosen = candidates[np.arange(PIECES), np.argmin(np.nan_to_num(off, nan=np.inf), axis=1)]
    return np.where((low == 0) | (low == -width), 0.0, chosen)


def _orders(
    routine: Routine, centres: Array, constants: Array, low: Array, width: float
) -> NDArray[np.int64]:
    """The lowest power of r in each polynomial: 1, or the order of a root at 0."""
    near = 2.0**-16 * np.where(low < 0, -1.0, 1.0)
    ratio = np.log2(_values(routine, 2 * near) / _values(routine, near))
    order = np.clip(np.nan_to_num(np.round(ratio), nan=1.0), 1, _HIGHEST_ORDER)
    at_root = (centres == 0) & (constants == 0)
    found: NDArray[np.int64] = np.where(at_root, order, 1).astype(np.int64)
    return found


def _is_steep(step: Step) -> bool:
    """Whether a step has so large a factor that there may be features which no check sees."""
    last = step.operands[-1]
    if step.operator == "div":
        return isinstance(last, float) and abs(last) * _STEEPEST < 1
    factors = step.operands if step.operator == "mul" else ()
    return any(isinstance(factor, float) and abs(factor) > _STEEPEST for factor in factors)


def _off(
    routine: Routine, low: Array, width: float, centres: Array, coefficients: Array, count: int
) -> Array:
    """How many units in the last place each polynomial is off, computed as the processor rounds.

    On a piece with a root, and beside it, the unit is that of the largest value there.
    """
    x = low[:, None] + width * np.linspace(0.0, 1.0, count)
    x[:, -1] = np.nextafter((low + width).astype(np.float32), np.float32(-np.inf))
    near = width * 0.5 ** np.arange(1, _OCTAVES)  # to the end that is nearer to 0
    near = np.where(low[:, None] < 0, low[:, None] + width - near, low[:, None] + near)
    x = np.concatenate([x, near], axis=1).astype(np.float32).astype(np.float64)
    exact = _values(routine, x)
    r = (x - centres[:, None]).astype(np.float32).astype(np.float64)
    value = coefficients[0].astype(np.float64)[:, None]
    for row in coefficients[1:]:
        value = (value * r + row.astype(np.float64)[:, None]).astype(np.float32).astype(np.float64)
    sizes = np.abs(exact)
    has_root = (exact.max(axis=1) > 0) & (exact.min(axis=1) < 0)
    beside = np.convolve(has_root, [1, 1, 1], "same") > 0
    sizes[beside] = sizes[beside].max(axis=1, keepdims=True)
    unit = np.spacing(np.maximum(sizes, _TINY).astype(np.float32))
    worst: Array = np.nan_to_num(np.abs(value - exact) / unit, nan=np.inf).max(axis=1)
    return worst
