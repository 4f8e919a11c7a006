"""``suggest_lr``: the evidence of a sweep and of curvature to one learning rate, an interval and the doubts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hessian.errors import NoSuggestionError
from hessian.results import StableLR
from lrfinder.basin import FEW, Basin, escaped, find_basin, got_better, little_gain, on_plateau, soft_minimum
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.doubts import Doubt
from lrfinder.horizon import check_schedule, horizon_factors, planned_steps
from lrfinder.results import Probes, Schedule, Suggestion

FEW_SAMPLES = 32  # below it a score says little
CATAPULT = 4.0  # times the limit that a warm-up leads past safely: beyond 2 / sharpness the sharpness itself falls (Lewkowycz et al. 2020)
SPREAD = 0.3  # decades to each side of the suggestion; docs/accuracy.md has the measured coverage
AGREE = 3.0  # both measurements are uncertain by about half of this
NARROW = 0.2  # decades of the basin: a factor of 1.6, a third of the usual width
FAR_BELOW = 10.0  # break over curvature limit at which something else than curvature must have broken the loss
AMPLIFICATION = 1e3  # growth of an unstable mode by the time the loss shows it


def suggest_lr(
    curve: LRCurve,
    limit: StableLR | None = None,
    *,
    probes: Probes | None = None,
    total_steps: int | None = None,
    schedule: Schedule | None = "onecycle",
    no_limit: str | None = None,
) -> Suggestion:
    """The learning rate to train with, from recorded evidence alone: no model is needed.

    The soft minimum of short trainings, or where there are none or they moved nothing, the middle of the basin in which the sweep
    reached 80 % of its decrease, on a log scale; times what the planned length, schedule and passes over the data make of it
    (docs/choosing.md), never above the LR at which the sweep broke.

    Args:
        curve: A range test, recorded now or read from a file.
        limit: The curvature limit at the same weights. It says what the first steps tolerate, which is not what trains best
            (docs/accuracy.md), so it raises doubts and says how low a warm-up must start; it caps the suggestion with full batches only,
            behind the warm-up of 1cycle at four times the limit.
        probes: Short trainings from the same weights.
        total_steps: Steps of the planned training; None assumes ten epochs.
        schedule: ``"constant"``, ``"onecycle"``, ``"cosine"``, ``"linear"``, or None if unknown (a constant LR is then assumed).
        no_limit: Why there is no ``limit``, for the report.

    Raises:
        NoSuggestionError: If the curve is too short, or its loss never falls by more than batch noise.
        ValueError: If an argument cannot be right.
    """
    check_schedule(schedule)
    steps = planned_steps(total_steps, curve.samples, curve.batch_size)
    place = place_of(curve, probes)
    centre, basin, factors = place.centre, place.basin, dict[str, float]()
    if probes is not None and place.trained is not None:
        factors[f"short trainings of {place.trained} steps"] = 10 ** min(max(best_of(probes) - centre, -300.0), 300.0)
    factors |= horizon_factors(steps, schedule, curve.samples, curve.batch_size, place.trained, place.escaped)
    lr = 10**centre * math.prod(factors.values())
    for reason, ceiling in ceilings(curve, limit, schedule).items():
        if lr > ceiling:
            factors[reason] = ceiling / lr
            lr = ceiling
    return Suggestion(
        lr=lr,
        interval=(lr / 10**SPREAD, min(lr * 10**SPREAD, float(curve.lrs[curve.clean - 1]))),
        curve=curve,
        limit=limit,
        no_limit=no_limit,
        probes=probes,
        midpoint=10**centre,
        basin=(10**centre, 10**centre) if basin is None else (10**basin.left, 10**basin.right),
        factors=factors,
        total_steps=steps,
        schedule=schedule,
        doubts=(
            *sweep_doubts(curve, basin, trained=place.trained is not None),
            *probe_doubts(probes),
            *([Doubt.LITTLE_GAIN] if probes is not None and little_gain(curve, probes) else []),
            *([Doubt.PLATEAU] if place.plateau else []),
            *limit_doubts(lr, curve, limit, no_limit),
            *plan_doubts(total_steps, steps, schedule),
            Doubt.UNCONFIRMED,
        ),
    )


def centre_of(curve: LRCurve, needed: bool = False) -> tuple[float, Basin | None]:
    """Where to look for the best LR, in log10, and the basin; without a basin, unless it is ``needed``, below the break."""
    try:
        basin = find_basin(curve)
    except NoSuggestionError:
        curve.check_length()
        if needed:
            raise
        return below_break(curve), None
    return basin.midpoint, basin


def below_break(curve: LRCurve) -> float:
    """What stands for the middle of the basin where the sweep shows none, in log10."""
    return math.log10(break_ceiling(curve)) + CONSTANTS.without_basin


@dataclass(frozen=True)
class Place:
    """Where the evidence puts the best LR, before what is planned is allowed for."""

    centre: float  # middle of the basin of the sweep, or what stands for it; log10
    basin: Basin | None
    trained: int | None = None  # steps of the short trainings, if they decide
    escaped: bool = False  # whether they show how soon a plateau is left
    plateau: bool = False  # whether they moved nothing


def place_of(curve: LRCurve, probes: Probes | None) -> Place:
    """The short trainings' place, if there are any and they moved the loss; else the sweep's, or that of its break."""
    nothing_else = probes is None or (curve.break_lr is None and not got_better(curve, probes))
    centre, basin = centre_of(curve, needed=nothing_else)
    if probes is None or on_plateau(curve, probes, basin):
        return Place(centre, basin, plateau=probes is not None)
    return Place(centre, basin, trained=probes.runs[0].steps, escaped=escaped(curve, probes))


def best_of(probes: Probes) -> float:
    """Where the best LR of the short trainings lies, in log10."""
    return soft_minimum([math.log10(run.lr) for run in probes.runs], [run.after for run in probes.runs], probes.before)


LOWERED = "a higher LR failed in a short training"
BREAK, CURVATURE = "held below the break", "capped by curvature"  # factors of a suggestion that a ceiling has cut


def ceilings(curve: LRCurve, limit: StableLR | None, schedule: str | None) -> dict[str, float]:
    """What no suggestion may exceed, by reason: the break, and with full batches the curvature limit."""
    found = {BREAK: break_ceiling(curve)}
    if limit is not None and curve.samples and (curve.batch_size or 0) >= curve.samples:
        found[CURVATURE] = limit.curvature_lr * (CATAPULT if schedule == "onecycle" else 1.0)
    return found


def break_ceiling(curve: LRCurve) -> float:
    """The break corrected for the ramp, or the last clean point."""
    last = float(curve.lrs[curve.clean - 1])
    return min(corrected_break(curve) or last, last)


def corrected_break(curve: LRCurve) -> float | None:
    """Where the loss starts to be unstable: the break, less what a rising LR overshoots until the loss shows it; None without a break.

    It is seen later by ``exp(sqrt(r ln A))``, where ln(LR) rises by ``r`` a step (docs/formulas.md#overshoot).
    """
    if curve.break_lr is None or len(curve.lrs) < 2:
        return None
    growth = float(np.log(curve.lrs[-1]) - np.log(curve.lrs[-2]))
    return curve.break_lr / math.exp(math.sqrt(growth * math.log(AMPLIFICATION)))


def sweep_doubts(curve: LRCurve, basin: Basin | None, trained: bool) -> list[Doubt]:
    """What is doubtful about the sweep; its edges matter little where short trainings decide."""
    by_status = {
        "completed": Doubt.NO_DIVERGENCE,
        "nonfinite": Doubt.NONFINITE,
        "interrupted": Doubt.INTERRUPTED,
        "data_ended": Doubt.DATA_ENDED,
    }
    doubts = [by_status[curve.status]] if curve.status in by_status else []
    if basin is None:
        return [*doubts, Doubt.NO_FALL]
    if basin.open_left:
        doubts.append(Doubt.STARTS_HIGH)
    if basin.noise > basin.decrease / 2:
        doubts.append(Doubt.NOISY)
    if basin.right - basin.left < NARROW:
        doubts.append(Doubt.NARROW)
    if basin.points < FEW and not trained:
        doubts.append(Doubt.FEW_POINTS)
    return doubts


def probe_doubts(probes: Probes | None) -> list[Doubt]:
    if probes is None:
        return []
    doubts = [Doubt.SMALL_SET_ASIDE] if probes.scored is not None and probes.scored < FEW_SAMPLES else []
    if probes.share is None:
        doubts.append(Doubt.SHARED_SAMPLES)
    return doubts


def limit_doubts(lr: float, curve: LRCurve, limit: StableLR | None, no_limit: str | None) -> list[Doubt]:
    """What curvature says against the suggestion."""
    if limit is None:
        return [Doubt.NO_CURVATURE] if no_limit else []
    doubts = [] if limit.converged else [Doubt.NOT_CONVERGED]
    corrected = corrected_break(curve)
    if corrected is not None and corrected < limit.lr / FAR_BELOW:
        doubts.append(Doubt.BREAKS_BELOW_LIMIT)
    if lr > limit.curvature_lr:
        doubts.append(Doubt.ABOVE_LIMIT)
    return doubts


def plan_doubts(given: int | None, steps: int, schedule: str | None) -> list[Doubt]:
    doubts = [] if given is not None else [Doubt.HORIZON_ASSUMED]
    if steps > CONSTANTS.largest_steps:
        doubts.append(Doubt.HORIZON_EXTRAPOLATED)
    if schedule is None:
        doubts.append(Doubt.SCHEDULE_UNKNOWN)
    return doubts


def agreement(curve: LRCurve, limit: StableLR | None) -> str | None:
    """Whether the sweep's break and the limit that binds agree, in words; None where there are not both."""
    corrected = corrected_break(curve)
    if corrected is None or limit is None:
        return None
    ratio = corrected / limit.lr
    factor = max(ratio, 1 / ratio) if ratio else math.inf
    binding, name = ("batch noise", "limit of batch noise") if limit.binding == "noise" else ("curvature", "curvature limit")
    if factor <= AGREE:
        return f"sweep and {binding} agree within x{factor:.2g}"
    return f"corrected for the ramp, the sweep broke x{factor:.2g} {'above' if ratio > 1 else 'below'} the {name}"
