"""Raw losses to a curve, without lag: a centred window, where running means would shift every feature to larger LRs."""

from __future__ import annotations

import numpy as np

from hessian.results import Floats

FIRST = 5  # losses, at least, whose median is the initial level
FIRST_SHARE = 0.1  # of the planned sweep; a tenth averages batch noise away and is over before a usual sweep does anything


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


def smooth(losses: Floats, half_width: int, planned: int) -> Floats:
    """Triangular mean over ``half_width`` points to each side; NaN from the first non-finite loss on.

    A loss that explodes counts at most as far above the initial level as the sweep ever got below it: one blow-up must not be smeared
    over the valley beside it. The ends are mirrored: repeating the end value would give that one loss half the weight there.
    """
    count = clean_length(losses)
    curve = np.full(len(losses), np.nan)
    if count == 0:
        return curve
    values = capped(losses[:count], planned)
    weights = np.concatenate([np.arange(1, half_width + 2), np.arange(half_width, 0, -1)]).astype(np.float64)
    curve[:count] = np.convolve(np.pad(values, half_width, mode="symmetric"), weights / weights.sum(), "valid")
    return curve


def capped(losses: Floats, planned: int) -> Floats:
    """Losses with explosions cut off; untouched if the loss never fell."""
    initial, best = initial_level(losses, planned), float(losses.min())
    return np.minimum(losses, initial + (initial - best)) if best < initial else losses
