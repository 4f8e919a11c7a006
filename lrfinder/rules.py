"""One function per published suggestion rule: learning rates and a smooth curve in, one learning rate out. Last, ``LRCurve.clr_range``.

``LRCurve.suggest`` sees to it that ``lr`` rises, ``loss`` is smooth and finite, and both have at least ten points. Registering a rule
runs it through the common checks of tests/lrfinder/test_rules.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from hessian.errors import BadArgument, NoSuggestionError
from hessian.result_base import Floats
from lrfinder.smoothing import WIDEST, clean_length, smoothed, unit_of

RuleFunction = Callable[[Floats, Floats], float]
RULES: dict[str, RuleFunction] = {}
BREAKS: dict[str, tuple[str, ...]] = {}

NEVER_FALLS = "the loss never falls during the sweep; raise end_lr, or check that the criterion fits this model."


def rule(name: str, *, breaks: tuple[str, ...] = ()) -> Callable[[RuleFunction], RuleFunction]:
    """Register a suggestion rule ``(lr, loss) -> lr`` under a name for ``LRCurve.suggest``; also for your own.

    Args:
        name: What users pass to ``suggest``.
        breaks: Common checks it cannot pass: ``"loss_units"`` (same answer for ``a * loss + b``), ``"finer_grid"``.
    """

    def register(function: RuleFunction) -> RuleFunction:
        RULES[name], BREAKS[name] = function, breaks
        return function

    return register


def find_rule(name: str) -> RuleFunction:
    if name not in RULES:
        raise BadArgument(f"rule {name!r} is unknown; choose one of {', '.join(sorted(RULES))}, or register yours with lrfinder.rule.")
    return RULES[name]


def check_falls(loss: Floats) -> None:
    """Refuse a loss that is flat or only rises. Its slope would not do: rounding makes that negative somewhere on a flat curve."""
    if np.diff(loss).min() >= 0:
        raise NoSuggestionError(NEVER_FALLS)


@rule("steepest")
def steepest(lr: Floats, loss: Floats) -> float:
    """Where the loss falls fastest per factor of LR. Per unit of LR, as some finders take it, tiny LRs always look steepest."""
    check_falls(loss)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # neighbours may be so close that their logarithms are one number
        slope = np.gradient(loss / unit_of(loss), np.log(lr))
    return float(lr[np.where(np.isnan(slope), np.inf, slope).argmin()])


@rule("minimum")
def minimum(lr: Floats, loss: Floats) -> float:
    """A tenth of the LR with the lowest loss (fastai's ``minimum``; Gugger 2018: one order of magnitude below the minimum)."""
    if loss.argmin() == 0:
        raise NoSuggestionError(NEVER_FALLS)
    return float(lr[loss.argmin()] / 10)


@rule("valley", breaks=("finer_grid",))
def valley(lr: Floats, loss: Floats) -> float:
    """The middle of the longest valley (fastai's default, due to ESRI).

    The valley is the longest strictly decreasing subsequence; it is taken to start as many points before its end as it has members,
    although the members need not be neighbours. The published index arithmetic is kept, truncations included.
    """
    check_falls(loss)
    lengths = falling_lengths(loss)
    end = int(lengths.argmax())
    start = end - int(lengths[end])
    third = (end - start) / 3
    return float(lr[max(start + int(third) + int(third / 2), 0)])


def falling_lengths(loss: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Length of the longest strictly decreasing subsequence that ends at each point (patience sorting, ``n log n``)."""
    tails: list[float] = []
    lengths = np.empty(len(loss), dtype=np.int64)
    for i, value in enumerate(-loss):
        place = bisect_left(tails, value)
        tails[place : place + 1] = [float(value)]
        lengths[i] = place + 1
    return lengths


@rule("slide", breaks=("loss_units", "finer_grid"))
def slide(lr: Floats, loss: Floats, window: int = 15, threshold: float = 0.005) -> float:
    """Slide a window from the right until the loss gradient at both ends is alike (fastai's ``slide``, due to A. Chang, Novetta).

    The published threshold is in units of loss per point, so the answer changes when the loss is rescaled.
    """
    check_falls(loss)
    slope = np.gradient(loss)
    right = len(lr) - 1
    left = max(right - window, 0)
    found = left
    while left >= 0 and abs(slope[right] - slope[left]) > threshold:
        found = left
        right, left = right - 1, left - 1
    return float(lr[found])


FEWEST = 10  # values
EDGE = 0.1  # of the rise: what has been gained where it begins, and what is missing where it ends
BEYOND = 0.5  # standard errors, added to 2 sqrt(2 ln n), which the range of n values of pure noise stays below on average
ROUNDING = 1e-9  # of the largest value: no rise at all


def clr_range(lr: Floats, metric: Floats, half_width: int) -> tuple[float, float]:
    """Base and max LR, two points of the sweep; the rule is that of ``LRCurve.clr_range``."""
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
