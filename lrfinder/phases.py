"""What ``find_lr`` is going to do, phase by phase, and what each will cost in gradients: for the bar, which says how long it takes."""

from __future__ import annotations

import math

from lrfinder.budget import Budget
from lrfinder.constants import CONSTANTS
from lrfinder.cost import FORWARD, PRODUCT

SWEEP, TRAININGS, CURVATURE, CHECK = "sweep", "short trainings", "curvature", "check"
REACHED = 0.85  # of a coarse sweep is made before the loss breaks, in most trainings
SPAN = 3.2  # decades of a fine sweep until it breaks
USED = 0.6  # of the products allowed


def expected_gradients(spend: Budget, start_lr: float, end_lr: float, curvature: bool) -> dict[str, float]:
    """The phases in order, each with its cost; the sweep's with the losses before it."""
    coarse = REACHED * spend.coarse * math.log10(end_lr / start_lr)
    fine = min(SPAN * spend.fine, spend.finest)
    phases = {SWEEP: (coarse + fine) * (1 + FORWARD)}
    if spend.length:
        phases[TRAININGS] = float(spend.length * usual_trainings(spend))
    if curvature:
        phases[CURVATURE] = USED * spend.products * PRODUCT * spend.batches
    phases[CHECK] = 0.0 if spend.length else float(spend.trial)  # a short training at the answer or above will do
    return phases


def most_trainings(spend: Budget) -> int:
    """How many short trainings there will be at most, where the sweep has a basin and they tell something."""
    return len(CONSTANTS.fine_offsets if spend.large else CONSTANTS.offsets) + CONSTANTS.extensions


def usual_trainings(spend: Budget) -> int:
    """How many there are in most cases."""
    return most_trainings(spend) - CONSTANTS.extensions + 1
