"""Where code is measured, and what its errors are relative to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

Array = NDArray[Any]
_NEAR = 3  # points
_FALLEN = 0.25


def magnitudes(octaves: tuple[float, float], density: int) -> Array:
    """float64 sizes between powers of 2: evenly in the logarithm, with random last bits."""
    generator = np.random.default_rng(0)
    count = int((octaves[1] - octaves[0]) * density)
    middle = np.linspace(*octaves, count) + generator.uniform(-0.3, 0.3, count) / density
    sizes: Array = np.sort(2.0 ** np.minimum(middle, octaves[1]))
    return sizes


def scale(values: Array, sizes: Array, density: int) -> Array:
    """What errors are relative to: |f|, and within an octave of a root the largest |f| there.

    A root is where f changes its sign, or touches 0: where |f| has fallen to a quarter within three
    points on either side.

    Args:
        values: f at `magnitudes` of that density.
        sizes: |f|; 0 where it does not count.
        density: points an octave.
    """
    around = 2 * density + 1
    above, below = (maximum_filter1d((side >= 0).astype(int), around) for side in (values, -values))
    touches = maximum_filter1d(_touches(sizes).astype(int), around)
    return np.where((above & below | touches) == 1, maximum_filter1d(sizes, around), sizes)


def _touches(sizes: Array) -> NDArray[np.bool_]:
    """Where |f| touches 0 between points, or comes so close that the points cannot tell."""
    near = np.pad(sizes, _NEAR)
    left, right = near[: -2 * _NEAR], near[2 * _NEAR :]
    is_least = minimum_filter1d(sizes, 2 * _NEAR + 1) == sizes
    touches: NDArray[np.bool_] = (
        is_least & (sizes > 0) & (sizes <= _FALLEN * np.minimum(left, right))
    )
    return touches
