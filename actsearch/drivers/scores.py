"""Rewards as a model reads them: their order alone, and the better ones in more detail."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CUT = 0.3
"""Share of the rewards, from below, that count as equally bad."""


def normal_scores(rewards: Sequence[float | None]) -> NDArray[np.float64]:
    """Normal quantiles of the ranks, the lower ones cut off, with mean 0 and variance 1.

    Failures (None) are below everything. How bad a bad candidate is matters little, so that a model
    can spend its resolution on the better ones.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.array([-math.inf if reward is None else reward for reward in rewards])
    scores = ndtri((rankdata(values) - 0.5) / len(values))
    scores = np.maximum(scores, ndtri(CUT))
    deviation = float(scores.std())
    return np.asarray((scores - scores.mean()) / (deviation or 1.0), dtype=np.float64)
