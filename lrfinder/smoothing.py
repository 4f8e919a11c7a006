"""Raw losses to a curve, without lag: a centred window, where running means would shift every feature to larger LRs."""

from __future__ import annotations

import numpy as np

from hessian.results import Floats

FIRST = 5  # losses, at least, whose median is the initial level
FIRST_SHARE = 0.1  # of the planned sweep; a tenth averages batch noise away and is over before a usual sweep does anything
SAFE_RATIO = 0.1  # of the mean: a batch with less would blow its own losses up
LEAST_COMPARED = 10  # losses


def clean_length(losses: Floats) -> int:
    """How many losses come before the first that is not finite."""
    bad = ~np.isfinite(losses)
    return int(bad.argmax()) if bad.any() else len(losses)


def initial_count(planned: int) -> int:
    """How many losses make up the initial level."""
    return max(FIRST, round(FIRST_SHARE * planned))


def initial_level(losses: Floats, planned: int) -> float:
    """The loss before the sweep did anything: the median over the first tenth of the ``planned`` steps."""
    return float(np.median(losses[: initial_count(planned)]))


def corrected(losses: Floats, baseline: Floats, every: Floats | None = None) -> Floats:
    """Losses with the difference between batches taken out: each relative to what the same batch cost at the initial weights.

    A control variate. A ratio where all of these are well above zero, a difference otherwise. ``every``: the baseline of all batches,
    where ``losses`` are those of some.
    """
    every = baseline if every is None else every
    mean = float(every.mean())
    if float(every.min()) > SAFE_RATIO * mean > 0:
        return losses * (mean / baseline)
    return losses - baseline + mean


def steadies(losses: Floats, baseline: Floats) -> bool:
    """Whether the correction makes neighbouring losses more alike: it would not if the data came in another order than before."""
    count = max(LEAST_COMPARED, len(losses) // 4)
    before, after = (np.diff(values[:count]) for values in (losses, corrected(losses, baseline)))
    return bool(np.sum(after**2) <= np.sum(before**2))


def smooth(losses: Floats, half_width: int, initial: float) -> Floats:
    """Triangular mean over ``half_width`` points to each side; NaN from the first non-finite loss on.

    A loss that explodes counts at most as far above the initial level as the sweep ever got below it: one blow-up must not be smeared
    over the valley beside it. The ends are mirrored: repeating the end value would give that one loss half the weight there.
    """
    count = clean_length(losses)
    curve = np.full(len(losses), np.nan)
    if count == 0:
        return curve
    values = capped(losses[:count], initial)
    weights = np.concatenate([np.arange(1, half_width + 2), np.arange(half_width, 0, -1)]).astype(np.float64)
    curve[:count] = np.convolve(np.pad(values, half_width, mode="symmetric"), weights / weights.sum(), "valid")
    return curve


def capped(losses: Floats, initial: float) -> Floats:
    """Losses with explosions cut off; untouched if the loss never fell."""
    best = float(losses.min())
    return np.minimum(losses, initial + (initial - best)) if best < initial else losses
