"""The range of learning rates in which the sweep reached most of what it gained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hessian.errors import NoSuggestionError
from hessian.results import Floats
from lrfinder.results import LRCurve

DEPTH = 0.8  # share of the total decrease that counts as "most"
WIDEST_HALF = 1.0  # decades; where the sweep never broke, the right edge is only where it ended
SIGNIFICANT = 3.0  # standard errors by which the loss must fall to count as falling
FEW = 5  # points in a basin below which its edges are coarse


@dataclass(frozen=True)
class Basin:
    """Where the smoothed loss is low, in log10 of the LR.

    Attributes:
        left: Left edge, interpolated between grid points.
        right: Right edge.
        points: Sweep points inside.
        decrease: How far the smoothed loss fell.
        noise: Standard deviation of one batch's loss around the smooth curve.
        open_left: Whether the first point is already inside.
        open_right: Whether the sweep ended inside without breaking.
    """

    left: float
    right: float
    points: int
    decrease: float
    noise: float
    open_left: bool
    open_right: bool

    @property
    def midpoint(self) -> float:
        """Middle of the basin; at most a decade from the left edge where the right one is unknown."""
        half = (self.right - self.left) / 2
        return self.left + (min(half, WIDEST_HALF) if self.open_right else half)


def find_basin(curve: LRCurve) -> Basin:
    """The connected stretch around the minimum of the smoothed loss where at least 80 % of the decrease is reached.

    Raises:
        NoSuggestionError: If the curve is too short, or its loss does not fall by more than batch noise explains.
    """
    curve.check_length()
    x, loss = np.log10(curve.lrs[: curve.clean]), curve.smooth[: curve.clean]
    lowest, noise = int(loss.argmin()), batch_noise(curve)
    decrease = curve.initial - float(loss[lowest])
    check_falls(curve, decrease, noise)
    level = curve.initial - DEPTH * decrease
    first = last = lowest
    while first > 0 and loss[first - 1] <= level:
        first -= 1
    while last < len(loss) - 1 and loss[last + 1] <= level:
        last += 1
    return Basin(
        left=float(x[0]) if first == 0 else crossing(x, loss, first, level),
        right=float(x[last]),
        points=last - first + 1,
        decrease=decrease,
        noise=noise,
        open_left=first == 0,
        open_right=last == len(loss) - 1 and curve.break_lr is None,
    )


def crossing(x: Floats, loss: Floats, index: int, level: float) -> float:
    """Where the loss crosses the level between point ``index - 1`` (above) and ``index`` (below)."""
    share = (loss[index - 1] - level) / (loss[index - 1] - loss[index])
    return float(x[index - 1] + share * (x[index] - x[index - 1]))


def batch_noise(curve: LRCurve) -> float:
    """Standard deviation of single losses about the trend, from neighbours' differences; the median shrugs off the blow-up."""
    steps = np.diff(curve.losses[: curve.clean])
    return float(np.median(np.abs(steps - np.median(steps))) * 1.4826 / math.sqrt(2))


def check_falls(curve: LRCurve, decrease: float, noise: float) -> None:
    """Refuse a curve whose fall is within the standard error of its smoothing window and of its initial level."""
    error = noise * math.sqrt(2 / (3 * (curve.window + 1)) + 1 / max(5, curve.num_iter // 10))
    if not decrease > SIGNIFICANT * error:
        raise NoSuggestionError(
            f"the loss never falls by more than batch noise (from {curve.initial:.4g} by {max(decrease, 0):.2g}, noise {noise:.2g}); "
            "raise end_lr, use larger batches, or check that the criterion fits this model.",
            curve=curve,
        )
