"""The short trainings of ``find_lr``: where they lie, and longer ones where those moved hardly anything."""

from __future__ import annotations

from dataclasses import replace

from lrfinder.basin import Basin
from lrfinder.budget import Budget
from lrfinder.combine import below_break, centre_of
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.plateau import left_plateau, little_gain
from lrfinder.probe import Prober
from lrfinder.results import Probes


def short_trainings(curve: LRCurve, prober: Prober, spend: Budget) -> Probes | None:
    """Those that the budget has, around the middle of the basin; longer ones where those gained little and the longer ones much.

    Trainings that end on a plateau lie in an order of chance, and the basin that placed them is one of chance too: longer ones go by the
    break, if there is one. Where they gain little more, little may be all there is to gain, and those about the basin count.
    """
    if not spend.length:
        return None
    centre, basin = centre_of(curve)
    places = offsets(spend, basin)
    with prober.progress.named("training", len(places) + CONSTANTS.extensions):
        found = prober.summary(prober.around(centre, places, spend.length))
    if spend.longer <= spend.length or not little_gain(curve, found):
        return found
    place = centre if curve.break_lr is None else below_break(curve)
    prober.progress.more(spend.longer * (len(CONSTANTS.longer_offsets) + 1))  # one beyond an end of them, as in most cases
    with prober.progress.named("longer training", len(CONSTANTS.longer_offsets) + CONSTANTS.extensions):
        longer = prober.summary(prober.around(place, CONSTANTS.longer_offsets, spend.longer))
    return replace(longer, shorter=spend.length) if left_plateau(curve, longer) else found


def offsets(spend: Budget, basin: Basin | None) -> tuple[float, ...]:
    """Where they lie about the middle of the basin; if only the break stands for it, a large set has two more below."""
    if not spend.large:
        return CONSTANTS.offsets
    return CONSTANTS.fine_offsets if basin else (*CONSTANTS.lower_offsets, *CONSTANTS.fine_offsets)
