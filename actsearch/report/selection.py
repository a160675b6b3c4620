"""The winner's curse: the best of many noisy rewards is higher than the function deserves.

Tweedie's formula (Robbins 1956; Efron 2011, "Tweedie's formula and selection bias", equation 1.4)
says by how much, from the rewards alone: where y = θ + noise of variance σ², the mean of θ given y
is y + σ² d/dy log f(y), with f the density of all rewards. It needs no guess of how θ is
distributed. The re-test needs no correction: its seeds and its split chose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST = 20
"""Rewards below which their density cannot be told."""


def corrected(rewards: Sequence[float], noise: float) -> list[float] | None:
    """What each reward is worth once it is known that it was the reward of one among many.

    Args:
        rewards: of all trials of a search.
        noise: standard deviation of a reward between seeds (that of the mean, where a reward is
            a mean over seeds).

    Returns:
        The corrected rewards, none of them higher than the best reward nor further than 3 `noise`
        from its own; None where there are too few rewards or the noise is not known to be positive.
    """
    if len(rewards) < LEAST or not noise > 0:
        return None
    values = np.asarray(rewards, dtype=np.float64)
    # Only the upper tail is of interest, and f is smooth on the scale of the noise by construction.
    width = noise * max(0.5, 1.2 * len(values) ** -0.2)
    gaps = (values[:, None] - values[None, :]) / width
    weights = np.exp(-0.5 * gaps**2)
    slope = -(weights * gaps).sum(1) / weights.sum(1) / width
    # A kernel of this width adds its variance to that of the density that it estimates.
    shift = noise**2 * slope * _unsmoothed(values, width, noise)
    found = values + np.clip(shift, -3 * noise, 3 * noise)
    return [float(value) for value in np.minimum(found, values.max())]


def _unsmoothed(values: Floats, width: float, noise: float) -> float:
    """What a Gaussian density's slope loses by smoothing, for one as wide as the better half."""
    better = values[values >= np.median(values)]
    spread = max(float(np.sqrt(np.mean((better - better.min()) ** 2))), noise)
    return 1 + (width / spread) ** 2
