"""What every doubt did to the number."""

from __future__ import annotations

from collections.abc import Callable

from hessian.layout import bullets
from lrfinder.combine import LOWERED, SPREAD
from lrfinder.constants import CONSTANTS
from lrfinder.describe import all_doubts
from lrfinder.doubts import Doubt
from lrfinder.explain_factors import trainings_decide
from lrfinder.results import Suggestion

NOTHING = "It changed no number."


def doubts_story(found: Suggestion) -> list[str]:
    """Each sentence, and what the doubt lowered, replaced or left out."""
    told = [f"{doubt.value} {effect(found, doubt)}" if isinstance(doubt, Doubt) else doubt.value for doubt in all_doubts(found)]
    return bullets(told)


def effect(found: Suggestion, doubt: Doubt) -> str:
    """What it did to this suggestion."""
    return EFFECTS[doubt](found) if doubt in EFFECTS else NOTHING


def lowered(found: Suggestion) -> str:
    """By how much the check lowered the answer."""
    ratio = found.factors.get(LOWERED)
    return NOTHING if ratio is None else f"It multiplied the answer by {ratio:.2g}, to {found.lr:.2g}."


def cut_interval(found: Suggestion) -> str:
    """Where the range ends, if the sweep bounds it."""
    high = found.interval[1]
    return f"The good range ends at {high:.2g}, where the sweep ended." if high < 0.999 * found.lr * 10**SPREAD else NOTHING


def set_aside(found: Suggestion) -> str:
    """Whether the short trainings decided all the same: then it was the check that left the loss where it was."""
    return NOTHING if trainings_decide(found) else "The short trainings were set aside, and the sweep decides."


def start_of_warmup(found: Suggestion) -> str:
    """Where to begin."""
    if found.warmup is None:
        return NOTHING
    return f"It asks for a start at {f'{found.warmup.start_lr:.2g}' if found.warmup.start_lr else 'zero'}; lr is not lowered."


EFFECTS: dict[Doubt, Callable[[Suggestion], str]] = {
    Doubt.NO_DIVERGENCE: cut_interval,
    Doubt.NO_FALL: lambda found: f"{found.midpoint:.2g} stands for the middle of the basin, from the break alone.",
    Doubt.PLATEAU: set_aside,
    Doubt.LOWERED: lowered,
    Doubt.ABOVE_LIMIT: start_of_warmup,
    Doubt.HORIZON_ASSUMED: lambda found: f"{found.total_steps:,} steps were assumed.",
    Doubt.HORIZON_EXTRAPOLATED: lambda found: f"The factor for the length was held at that of {CONSTANTS.largest_steps:,} steps.",
    Doubt.SCHEDULE_UNKNOWN: lambda found: f"The factor x{10**CONSTANTS.decaying:.2g} for a schedule that decays was left out.",
    Doubt.NO_CURVATURE: lambda found: "No ceiling and no warm-up come from curvature.",
    Doubt.INTERRUPTED: cut_interval,
    Doubt.DATA_ENDED: cut_interval,
    Doubt.NONFINITE: cut_interval,
}
