"""Raw losses to a curve, without lag: a centred window, where running means would shift every feature to larger LRs."""

from __future__ import annotations

import numpy as np

from hessian.codec import LARGEST_LOSS
from hessian.result_base import Floats

FIRST = 5  # losses, at least, whose median is the initial level
FIRST_SHARE = 0.1  # of the planned sweep; a tenth averages batch noise away and is over before a usual sweep does anything
SAFE_RATIO = 0.1  # of the mean: a batch with less would blow its own losses up
LEAST_COMPARED = 10  # losses
WIDEST = 4  # times the curve: a wider window only means the mean of everything
MANY = 10_000_000  # products from which a running sum, which rounds more, is used


def clean_length(losses: Floats) -> int:
    """How many losses come before the first that is not finite, or so large that sums overflow."""
    bad = ~(np.abs(losses) <= LARGEST_LOSS)
    return int(bad.argmax()) if bad.any() else len(losses)


def initial_count(planned: int) -> int:
    return max(FIRST, round(FIRST_SHARE * planned))


def initial_level(losses: Floats, planned: int) -> float:
    """The loss before the sweep did anything: the median of the first few."""
    return float(np.median(losses[: initial_count(planned)]))


def corrected(losses: Floats, baseline: Floats, every: Floats | None = None) -> Floats:
    """Losses with the difference between batches taken out: each relative to what the same batch cost at the initial weights.

    A control variate. A ratio where all of these are well above zero, a difference otherwise. ``every``: the baseline of all batches,
    where ``losses`` are those of some.
    """
    every = baseline if every is None else every
    mean = float(every.mean())
    with np.errstate(over="ignore", invalid="ignore"):  # of losses that have blown up; what is not finite ends the curve anyway
        if float(every.min()) > SAFE_RATIO * mean > 0:
            return losses * (mean / baseline)
        return losses - baseline + mean


def steadies(losses: Floats, baseline: Floats) -> bool:
    """Whether the correction makes neighbouring losses more alike: it would not if the data came in another order than before."""
    count = max(LEAST_COMPARED, len(losses) // 4)
    before, after = (np.diff(values[:count]) for values in (losses, corrected(losses, baseline)))
    unit = max(unit_of(before), unit_of(after))
    return bool(np.sum((after / unit) ** 2) <= np.sum((before / unit) ** 2))


def unit_of(values: Floats) -> float:
    """A power of two near the largest of the values: divided by it they keep every digit, and their squares do not overflow."""
    return float(2.0 ** np.frexp(np.abs(values).max(initial=0.0))[1]) or 1.0


def smooth(losses: Floats, half_width: int, initial: float) -> Floats:
    """Triangular mean over ``half_width`` points to each side; NaN from the first non-finite loss on.

    A loss that explodes counts at most as far above the initial level as the sweep ever got below it: one blow-up must not be smeared
    over the valley beside it. The ends are mirrored: repeating the end value would give that one loss half the weight there.
    """
    count = clean_length(losses)
    values = losses.copy()
    if count:
        values[:count] = capped(losses[:count], initial)
    return smoothed(values, half_width)


def smoothed(values: Floats, half_width: int) -> Floats:
    """The same of values that do not explode, as shares do not."""
    count = clean_length(values)
    curve = np.full(len(values), np.nan)
    if count:
        curve[:count] = triangular_mean(values[:count], min(half_width, WIDEST * count))
    return curve


def triangular_mean(values: Floats, half_width: int) -> Floats:
    """Each value's mean with its neighbours, which weigh the less the farther they are."""
    padded = np.pad(values, half_width, mode="symmetric")
    if len(values) * half_width > MANY:
        return running_mean(running_mean(padded, half_width + 1), half_width + 1)
    weights = np.concatenate([np.arange(1, half_width + 2), np.arange(half_width, 0, -1)]).astype(np.float64)
    return np.convolve(padded, weights / weights.sum(), "valid")


def running_mean(values: Floats, width: int) -> Floats:
    """Means of ``width`` neighbours from one running sum. Twice that is a triangle, in no more time for a wide one."""
    first = float(values[0])  # subtracted: what all values share would take digits from the sum
    total = np.concatenate([[0.0], np.cumsum(values - first)])
    return np.asarray(first + (total[width:] - total[:-width]) / width, dtype=np.float64)


def capped(losses: Floats, initial: float) -> Floats:
    """Losses with explosions cut off; untouched if the loss never fell."""
    best = float(losses.min())
    return np.minimum(losses, initial + (initial - best)) if best < initial else losses
