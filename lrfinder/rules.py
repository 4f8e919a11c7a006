"""One function per published suggestion rule: learning rates and a smooth curve in, one learning rate out.

``LRCurve.suggest`` sees to it that ``lr`` rises, ``loss`` is smooth and finite, and both have at least ten points. Registering a rule
runs it through the common checks of tests/lrfinder/test_rules.py; ``breaks`` names those that it cannot pass by its nature.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from hessian.errors import BadArgument, NoSuggestionError
from hessian.result_base import Floats
from lrfinder.smoothing import unit_of

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
    """The rule of that name."""
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
