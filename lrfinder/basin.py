"""The range of learning rates in which the sweep reached most of what it gained, the soft minimum of short trainings, and whether either
moved the loss at all: on a plateau at the start their order is chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hessian.errors import NoSuggestionError
from hessian.result_base import Floats
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.results import Probes
from lrfinder.smoothing import capped, initial_count, unit_of

SIGNIFICANT = 3.0  # standard errors by which the loss must fall; the lowest of some 25 windows does by chance in 2 % of sweeps
ROUNDING = 1e-9  # of the loss: no fall at all
FEWEST_STEPS = 10  # differences that the noise is taken from, at least
FEW = 5  # points in a basin below which its edges are coarse


@dataclass(frozen=True)
class Basin:
    """Where the smoothed loss is low, in log10 of the LR."""

    left: float  # edge, interpolated between grid points
    right: float
    points: int  # of the sweep inside
    decrease: float  # how far the smoothed loss fell
    noise: float  # standard deviation of one batch's loss around the smooth curve
    open_left: bool  # whether the loss fell from the first point on, so that the true edge may lie below it
    open_right: bool  # whether the sweep ended inside without breaking

    @property
    def midpoint(self) -> float:
        """Middle of the basin; at most a decade from the left edge where the right one is unknown."""
        half = (self.right - self.left) / 2
        return self.left + (min(half, CONSTANTS.widest_half) if self.open_right else half)


def find_basin(curve: LRCurve) -> Basin:
    """The connected stretch around the minimum of the smoothed loss where at least 80 % of the decrease is reached."""
    curve.check_length()
    x, loss = np.log10(curve.lrs[: curve.clean]), curve.smooth[: curve.clean]
    lowest = int(loss.argmin())
    noise = batch_noise(curve, lowest)
    decrease = curve.initial - float(loss[lowest])
    check_falls(curve, min(decrease, float(loss[0] - loss[lowest])), noise)  # from the first point too: a rise is no fall
    level = curve.initial - CONSTANTS.depth * decrease
    first, last = stretch(loss, level)
    # Within the stretch that counts as initial, by more than chance and by a share that moves the left edge.
    falls_at_once = float(loss[0]) - curve.initial > max((1 - CONSTANTS.depth) * decrease, chance(curve, noise))
    return Basin(
        left=left_edge(x, loss, first, level),
        right=float(x[last]),
        points=last - first + 1,
        decrease=decrease,
        noise=noise,
        open_left=first == 0 or falls_at_once,
        open_right=last == len(loss) - 1 and curve.break_lr is None,
    )


def stretch(loss: Floats, level: float) -> tuple[int, int]:
    """First and last point of the connected stretch around the minimum that lies below the level."""
    first = last = int(loss.argmin())
    while first > 0 and loss[first - 1] <= level:
        first -= 1
    while last < len(loss) - 1 and loss[last + 1] <= level:
        last += 1
    return first, last


def left_edge(x: Floats, loss: Floats, first: int, level: float) -> float:
    """Where the stretch that starts at point ``first`` begins: where the loss crosses the level between it and the point before."""
    if first == 0:
        return float(x[0])
    before = first - 1
    share = (loss[before] - level) / (loss[before] - loss[first])
    return float(x[before] + share * (x[first] - x[before]))


def batch_noise(curve: LRCurve, lowest: int) -> float:
    """Standard deviation of single losses about the trend, from neighbours' differences up to the lowest point: what follows is blow-up.

    The mean square and not a median of them: averages inherit heavy tails, which a median does not see.
    """
    losses = capped(curve.corrected[: curve.clean], curve.initial)
    steps = np.diff(losses[: max(lowest, FEWEST_STEPS) + 1])
    unit = unit_of(steps)
    return unit * math.sqrt(float(np.mean((steps / unit) ** 2)) / 2)


def chance(curve: LRCurve, noise: float) -> float:
    """How far the smoothed loss may come to lie below the initial level by chance; at least its rounding errors."""
    half = curve.window + 1
    variance = (2 * half**2 + 1) / (3 * half**3)  # of a triangular mean
    if not curve.steadied:  # a baseline is no sample: it is what the very batches of the sweep cost at the start
        variance += math.pi / 2 / initial_count(curve.num_iter)  # of a median
    return max(SIGNIFICANT * noise * math.sqrt(variance), ROUNDING * abs(curve.initial))


def check_falls(curve: LRCurve, decrease: float, noise: float) -> None:
    """Refuse a curve whose fall may be chance."""
    if not decrease > chance(curve, noise):
        raise NoSuggestionError(
            f"the loss never falls by more than batch noise (from {curve.initial:.4g} by {max(decrease, 0):.2g}, noise {noise:.2g}); "
            "widen start_lr to end_lr, use larger batches, or check that the criterion fits this model.",
            curve=curve,
        )


def soft_minimum(x: Sequence[float], losses: Sequence[float], before: float) -> float:
    """Mean of ``x`` with weights ``exp(-r / softness) - exp(-1 / softness)``; ``r`` is the share of the decrease that a point misses.

    A point at the initial loss or above weighs nothing. Several points share the answer where several are as good, so that one lucky
    batch moves it less than it would move the minimum itself. Where nothing got better, a half below the lowest.
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
    return np.asarray(np.exp(-missed / CONSTANTS.softness) - math.exp(-1 / CONSTANTS.softness), dtype=np.float64)


FLAT = 0.1  # of what the sweep gained: a change of the held-out loss that is none
LITTLE = 0.05  # of the initial loss: less may be all there is to gain, as in fine-tuning, or the edge of a plateau; nobody can tell
LEFT = 0.1  # of the initial loss
STILL = 0.02  # of the initial loss: a sweep that gains less may never have left a plateau


def fall(curve: LRCurve) -> float:
    """How far the sweep's smoothed loss came below the initial one."""
    return curve.initial - float(np.nanmin(curve.smooth))


def gain(probes: Probes) -> float:
    """How far the best short training lowered the held-out loss."""
    return probes.before - min(run.after for run in probes.runs)


def got_better(curve: LRCurve, probes: Probes) -> bool:
    """Whether a short training lowered the loss by more than one batch's noise: on mere noise some always get a little better."""
    curve.check_length()
    return gain(probes) > batch_noise(curve, int(curve.smooth[: curve.clean].argmin()))


def on_plateau(curve: LRCurve, probes: Probes, basin: Basin | None) -> bool:
    """Whether no short training moved the loss, beside what the sweep gained, or beyond chance where it gained nothing."""
    if basin is None:
        return not got_better(curve, probes)
    worst = probes.before - max(run.after for run in probes.runs)
    return gain(probes) < FLAT * fall(curve) and worst > -fall(curve)


def escaped(curve: LRCurve, probes: Probes) -> bool:
    """Whether trainings left a plateau that the sweep did not: they show how soon each LR gets away, which favours high ones."""
    still = STILL * abs(curve.initial)
    return fall(curve) < still <= gain(probes)


def little_gain(curve: LRCurve, probes: Probes) -> bool:
    """Whether so little moved that it may have been a plateau."""
    return max(fall(curve), gain(probes)) < LITTLE * abs(curve.initial)


def left_plateau(curve: LRCurve, probes: Probes) -> bool:
    """Whether longer trainings gained so much that those which gained little must have ended on a plateau."""
    return gain(probes) >= LEFT * abs(curve.initial)


def small_rise(curve: LRCurve, plateau: bool) -> float:
    """A rise of the held-out loss that is no failure."""
    return max(fall(curve), STILL * abs(curve.initial)) if plateau else FLAT * fall(curve)
