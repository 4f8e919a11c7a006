"""Whether the sweep and the short trainings moved the loss at all: on a plateau at the start their order is chance."""

from __future__ import annotations

import numpy as np

from lrfinder.basin import Basin, batch_noise
from lrfinder.curve import LRCurve
from lrfinder.results import Probes

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
