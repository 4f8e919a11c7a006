"""The place of a minimum known from a few noisy points: their mean, weighted by how good they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hessian.result_base import Floats
from lrfinder.constants import CONSTANTS


def soft_minimum(x: Sequence[float], losses: Sequence[float], before: float) -> float:
    """Mean of ``x`` with weights ``exp(-r / softness) - exp(-1 / softness)``; ``r`` is the share of the decrease that a point misses.

    A point at the initial loss or above weighs nothing. Several points share the answer where several are as good, so that one lucky
    batch moves it less than it would move the minimum itself.

    Args:
        x: Places, log10 of the LR.
        losses: Loss reached at each; infinite where the training blew up.
        before: Loss before.

    Returns:
        The place; where nothing got better, a half below the lowest.
    """
    if not min(losses) < before:
        return min(x) - 0.5
    weights = weights_of(missed_shares(losses, before))
    return float(np.dot(weights, x) / weights.sum())


def missed_shares(losses: Sequence[float], before: float) -> Floats:
    """Share of the whole decrease that each point misses: 0 for the best, 1 where nothing got better. One must be below ``before``."""
    lowest = min(losses)
    start = before if math.isfinite(before) else max(loss for loss in losses if math.isfinite(loss))
    span = start - lowest or 1.0  # zero where the losses before are infinite, and all others alike
    return np.where(np.isinf(losses), 1.0, np.clip((np.minimum(losses, start) - lowest) / span, 0, 1))


def weights_of(missed: Floats) -> Floats:
    """What each point weighs."""
    return np.asarray(np.exp(-missed / CONSTANTS.softness) - math.exp(-1 / CONSTANTS.softness), dtype=np.float64)
