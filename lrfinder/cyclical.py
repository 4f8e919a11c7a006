"""Base and max LR of cyclical training, read off a metric over the learning rate (Smith 2017, arXiv:1506.01186, section 3.3)."""

from __future__ import annotations

import math

import numpy as np

from hessian.errors import NoSuggestionError
from hessian.result_base import Floats
from lrfinder.smoothing import WIDEST, clean_length, smoothed, unit_of

FEWEST = 10  # values
EDGE = 0.1  # of the rise: what has been gained where it begins, and what is missing where it ends
BEYOND = 0.5  # standard errors, added to 2 sqrt(2 ln n), which the range of n values of pure noise stays below on average
ROUNDING = 1e-9  # of the largest value: no rise at all


def clr_range(lr: Floats, metric: Floats, half_width: int) -> tuple[float, float]:
    """Base and max LR, two points of the sweep; the rule is that of ``LRCurve.clr_range``.

    Raises:
        NoSuggestionError: If there are too few values, or they do not rise.
    """
    values = scaled(metric)
    half_width = min(half_width, WIDEST * len(values))
    smooth = smoothed(values, half_width)
    top = int(smooth.argmax())
    foot = int(smooth[: top + 1].argmin())
    rise = float(smooth[top] - smooth[foot])
    chance = largest_by_chance(values, half_width)
    if not rise > chance:
        raise NoSuggestionError(
            "the metric never rises by more than chance during the sweep; widen start_lr to end_lr, take more steps or larger val_data, "
            "or check that a larger metric is a better one."
        )
    last = end_of_rise(smooth[foot : top + 1], rise, chance) + foot
    first = foot + start_of_rise(smooth[foot : last + 1], rise)
    return float(lr[first]), float(lr[last])


def scaled(metric: Floats) -> Floats:
    """The values before the first that is not finite, in a unit in which their squares are numbers."""
    if not len(metric):
        raise NoSuggestionError("the curve has no metric; pass metric='accuracy', or a function metric(model, batch), to range_test.")
    count = clean_length(metric)
    if count < FEWEST:
        raise NoSuggestionError(
            f"the metric has only {count} finite values before the loss breaks, too few to judge; record at least {FEWEST}: lower "
            "start_lr, or use more steps."
        )
    return metric[:count] / unit_of(metric[:count])


def largest_by_chance(values: Floats, half_width: int) -> float:
    """The rise that noise alone may give the smoothed values. The noise is taken from second differences, which no trend is part of."""
    noise = math.sqrt(float(np.mean(np.diff(values, 2) ** 2)) / 6)
    half = half_width + 1
    variance = (2 * half**2 + 1) / (3 * half**3)  # of a triangular mean
    errors = 2 * math.sqrt(2 * math.log(len(values))) + BEYOND
    return max(errors * noise * math.sqrt(variance), ROUNDING * float(np.abs(values).max()))


def end_of_rise(smooth: Floats, rise: float, chance: float) -> int:
    """The first point with nine tenths of the rise; or, if a fall that is no chance comes before, the highest point before that fall."""
    end = int((smooth >= smooth[0] + (1 - EDGE) * rise).argmax())
    highest = np.maximum.accumulate(smooth[: end + 1])
    fallen = highest - smooth[: end + 1] > max(EDGE * rise, chance)
    return int(smooth[: int(fallen.argmax())].argmax()) if fallen.any() else end


def start_of_rise(smooth: Floats, rise: float) -> int:
    """The first point from which on a tenth of the rise is there, up to the last one; the point before, where that is the last one."""
    below = np.flatnonzero(smooth < smooth[0] + EDGE * rise)
    return min(int(below[-1]) + 1, len(smooth) - 2)
