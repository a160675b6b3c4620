"""Where code is measured, and what its errors are relative to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

Array = NDArray[Any]


def magnitudes(octaves: tuple[float, float], density: int) -> Array:
    """float64 sizes between powers of 2: evenly in the logarithm, with random last bits."""
    generator = np.random.default_rng(0)
    count = int((octaves[1] - octaves[0]) * density)
    middle = np.linspace(*octaves, count) + generator.uniform(-0.3, 0.3, count) / density
    sizes: Array = np.sort(2.0 ** np.minimum(middle, octaves[1]))
    return sizes


def scale(values: Array, sizes: Array, density: int) -> Array:
    """What errors are relative to: |f|, and within an octave of a root the largest |f| there.

    Args:
        values: f at `magnitudes` of that density.
        sizes: |f|; 0 where it does not count.
        density: points an octave.
    """
    around = 2 * density + 1
    above, below = (maximum_filter1d((side >= 0).astype(int), around) for side in (values, -values))
    return np.where((above & below) == 1, maximum_filter1d(sizes, around), sizes)
