"""How a suggestion came about, in words, with every formula filled in with the numbers of the run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hessian.doubts import Sentence
from hessian.explain import limit_story
from hessian.layout import bullets, capital, formula, headline, paragraph, table, wrapped
from hessian.results import StableLR
from lrfinder.basin import missed_shares, weights_of
from lrfinder.combine import AMPLIFICATION, LOWERED, SPREAD, agreement, best_of, corrected_break
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.describe import all_doubts, plan, shown, warmup_start
from lrfinder.doubts import Doubt
from lrfinder.explain_factors import NEAR, factors_story, trained_steps
from lrfinder.horizon import ONECYCLE_START, SHARE, WarmUp
from lrfinder.results import Probes, Suggestion


def explain_suggestion(found: Suggestion) -> str:
    """The whole story; fits 80 columns."""
    lines = headline(f"lr {found.lr:.2g} is suggested for {found.curve.optimizer} ({plan(found)}).")
    chapters = {
        "The sweep": [*sweep_story(found.curve), *basin_story(found)],
        "The short trainings": [] if found.probes is None else trainings_story(found, found.probes),
        "From there to the answer": factors_story(found),
        "The good range": range_story(found),
        "Curvature": curvature_story(found),
        "The check": confirmation_story(found),
        "Doubts": doubts_story(found),
    }
    for title, text in chapters.items():
        lines += ["", f"{title}:", *text[text[:1] == [""] :]] if text else []
    return "\n".join(lines)


def sweep_story(curve: LRCurve) -> list[str]:
    lrs, text = curve.lrs, f"In {len(curve.lrs)} steps the LR rose from {curve.lrs[0]:.2g} to {curve.lrs[-1]:.2g}"
    if len(lrs) > 1 and curve.mode == "exponential":
        text += f", by a factor of {lrs[1] / lrs[0]:.3g} a step"
    if curve.clean:
        text += f"; the smoothed loss came from {curve.initial:.4g} down to {float(np.nanmin(curve.smooth)):.4g}"
    return [*paragraph(f"{text}."), *break_story(curve)]


def break_story(curve: LRCurve) -> list[str]:
    stable = corrected_break(curve)
    if curve.break_lr is None or stable is None:
        return paragraph(f"The loss did not break up to {curve.lrs[-1]:.2g}, so the sweep bounds the LR from above only there.")
    rate = math.log(curve.lrs[-1]) - math.log(curve.lrs[-2])
    return [
        *paragraph(
            f"The loss broke at {curve.break_lr:.3g} ({curve.status}). A rising LR overshoots, as what is unstable takes some steps to "
            f"show: with ln(LR) rising by r = {rate:.3g} a step, growth by A = {AMPLIFICATION:.0f} before it shows, it was unstable from"
        ),
        *formula(
            f"lr_break / exp(sqrt(r ln A)) = {curve.break_lr:.3g} / exp(sqrt({rate:.3g} x {math.log(AMPLIFICATION):.3g})) = {stable:.3g}"
        ),
    ]


def basin_story(found: Suggestion) -> list[str]:
    (low, high), middle = found.basin, found.midpoint
    if low == high:
        stands = math.log10(middle) - CONSTANTS.without_basin
        return [
            *paragraph(
                "The loss never fell by more than batch noise explains, so there is no basin; a share of the break stands for its middle:"
            ),
            *formula(f"{10 ** min(stands, 300.0):.2g} x 10^{CONSTANTS.without_basin:g} = {middle:.2g}"),
        ]
    lines = paragraph(
        f"{CONSTANTS.depth:.0%} of that fall or more was reached from {low:.3g} to {high:.3g}: the basin. Its middle on a log scale is"
    )
    if math.isclose(math.sqrt(low) * math.sqrt(high), middle, rel_tol=NEAR):
        return lines + formula(f"sqrt({low:.3g} x {high:.3g}) = {middle:.3g}")
    return lines + formula(
        f"{low:.3g} x 10^{math.log10(middle) - math.log10(low):.3g} = {middle:.3g}, as its right end is unknown where the loss never broke"
    )


def trainings_story(found: Suggestion, probes: Probes) -> list[str]:
    losses, steps = [run.after for run in probes.runs], probes.runs[0].steps
    share = f" ({probes.share:.0%} of the data, set aside)" if probes.share else ""
    samples = "samples" if probes.scored is None else f"{probes.scored} samples"
    lines = paragraph(
        f"{len(losses)} trainings of {steps} steps from the initial weights, each at a constant LR, scored on {samples} of "
        f"{probes.scored_on}{share} that none of them trained on. The loss there was {probes.before:.4g} before."
    )
    if probes.shorter:
        lines += paragraph(
            f"Trainings of {probes.shorter} steps were made before. They gained so little that they may have ended on a plateau, where "
            "their order is chance; these did better and took their place."
        )
    if not min(losses) < probes.before:
        lines += table([["lr", "loss after"], *([f"{run.lr:.2g}", shown(run.after)] for run in probes.runs)], "    ")
        return [*lines, *paragraph("None of them lowered it.")]
    missed = missed_shares(losses, probes.before)
    cells = [
        [f"{run.lr:.2g}", shown(run.after), f"{share:.2f}", f"{weight:.2f}"]
        for run, share, weight in zip(probes.runs, missed, weights_of(missed), strict=True)
    ]
    lines += table([["lr", "loss after", "r", "weight"], *cells], "    ")
    lines += wrapped(
        f"r: the share of the best one's decrease that a training missed; weight: exp(-r / {CONSTANTS.softness:g}) - "
        f"exp(-1 / {CONSTANTS.softness:g}). The mean of log(lr) by these weights is their soft minimum:"
    )
    lines += formula(f"lr = {10 ** best_of(probes):.3g}")
    if trained_steps(found) is None:
        lines += paragraph("Beside what the sweep gained that moved nothing, so their order is chance, and the sweep decides.")
    return lines


def range_story(found: Suggestion) -> list[str]:
    (low, high), factor = found.interval, 10**SPREAD
    text = f"{low:.2g} to {high:.2g}: the suggestion divided and multiplied by 10^{SPREAD:g} = {factor:.2g}"
    if high < 0.999 * found.lr * factor:
        text += ", and not above the last LR at which the loss was finite"
    return paragraph(f"{text} (docs/accuracy.md says how often the best LR lies inside).")


def curvature_story(found: Suggestion) -> list[str]:
    limit = found.limit
    if limit is None:
        return paragraph(f"Not measured: {found.no_limit}" if found.no_limit else "Not measured.")
    agrees = agreement(found.curve, limit)
    lines = limit_story(limit)
    lines += paragraph(f"{capital(agrees)}.") if agrees else []
    return [*lines, *(warmup_story(found.warmup, found.lr, limit, found.total_steps) if found.warmup else [])]


def warmup_story(advice: WarmUp, lr: float, limit: StableLR, steps: int) -> list[str]:
    if advice.own:
        first = [] if limit.first_step_lr is None else [limit.first_step_lr]
        bounds = ", ".join(f"{bound:.2g}" for bound in (lr * ONECYCLE_START, limit.curvature_lr, *first))
        which = "a 25th of the peak, the limit and that of the first step" if first else "a 25th of the peak and the limit"
        text = f"1cycle has a warm-up of its own; it starts at the lowest of {which}:"
        return paragraph(text) + formula(f"min({bounds}) = {advice.start_lr:.2g}")
    if not advice.steps:
        return paragraph(f"The suggestion {lr:.2g} is below the limit {limit.curvature_lr:.2g}, so no warm-up is needed.")
    return paragraph(f"The suggestion is above the limit, so warm up from {warmup_start(advice, limit)} in a straight line, for") + formula(
        f"{SHARE:g} x {steps:,} x (1 - {advice.start_lr:.2g} / {lr:.2g}) = {advice.steps:,} steps"
    )


def confirmation_story(found: Suggestion) -> list[str]:
    tried = found.confirmation
    if tried is None:
        return paragraph("No training was made at the suggestion.")
    verdict = "lowered" if tried.passed else "did not lower"
    schedule = "at that constant LR, above the answer, will do" if tried.lr > found.lr * (1 + NEAR) else "at the answer"
    text = f"A training of {tried.steps} steps {schedule}; {tried.lr:.2g} {verdict} the loss on {tried.scored_on}"
    return paragraph(f"{text}: {tried.before:.4g} before, {shown(tried.after)} after.")


NOTHING = "It changed no number."


def doubts_story(found: Suggestion) -> list[str]:
    told = []
    for doubt in all_doubts(found):
        effect = EFFECTS[doubt](found) if doubt in EFFECTS else NOTHING
        told.append(f"{doubt.value} {effect}" if isinstance(doubt, Doubt) else doubt.value)
    return bullets(told)


def lowered(found: Suggestion) -> str:
    ratio = found.factors.get(LOWERED)
    return NOTHING if ratio is None else f"It multiplied the answer by {ratio:.2g}, to {found.lr:.2g}."


def cut_interval(found: Suggestion) -> str:
    high = found.interval[1]
    return f"The good range ends at {high:.2g}, where the sweep ended." if high < 0.999 * found.lr * 10**SPREAD else NOTHING


def set_aside(found: Suggestion) -> str:
    """Whether the short trainings decided all the same: then it was the check that left the loss where it was."""
    return "The short trainings were set aside, and the sweep decides." if trained_steps(found) is None else NOTHING


def start_of_warmup(found: Suggestion) -> str:
    if found.warmup is None:
        return NOTHING
    return f"It asks for a start at {f'{found.warmup.start_lr:.2g}' if found.warmup.start_lr else 'zero'}; lr is not lowered."


EFFECTS: dict[Sentence, Callable[[Suggestion], str]] = {
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
