"""A suggestion as text, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hessian.doubts import CurvatureDoubt, Sentence
from hessian.layout import bullets, headline, row, table, wrapped
from hessian.results import StableLR
from lrfinder.combine import agreement, best_of, corrected_break
from lrfinder.horizon import ONECYCLE_START, SCHEDULE_NAMES, WarmUp
from lrfinder.results import Confirmation, ProbeRun, Probes, Suggestion


def describe_suggestion(found: Suggestion) -> str:
    """The answer first, then the evidence, then every doubt; fits 80 columns."""
    low, high = found.interval
    lines = headline(f"suggested lr {found.lr:.2g}   good range {low:.2g} to {high:.2g}   ({plan(found)})")
    lines += [line for label, text in evidence(found) for line in row(label, text)]
    sentences = [doubt.value for doubt in all_doubts(found)]
    return "\n".join([*lines, "doubts", *bullets(sentences)] if sentences else lines)


def plan(found: Suggestion) -> str:
    kind = "constant LR" if found.schedule is None else SCHEDULE_NAMES[found.schedule]
    return f"{kind}, {found.total_steps:,} steps"


def evidence(found: Suggestion) -> Iterator[tuple[str, str]]:
    """Label and text of every line of evidence."""
    yield "range test", sweep_text(found)
    if found.probes is not None:
        yield "trainings", probes_text(found.probes)
    yield "curvature", curvature_text(found)
    if found.warmup is not None and found.limit is not None:
        yield "warm-up", warmup_text(found.warmup, found.lr, found.limit)
    yield "schedule", schedule_text(found)
    yield "factors", factors_text(found)
    tried = found.confirmation
    if tried is not None:
        losses = f"from {tried.before:.3g} to {tried.after:.3g}"
        yield "confirmed", f"{tried.steps} steps at {tried.lr:.2g} took the loss on {tried.scored_on} {losses}"
    meaning = meaning_of(found.curve.optimizer)
    if meaning is not None:
        yield "this lr", meaning
    yield "valid for", found.curve.setting
    if found.gradients:
        yield "cost", f"{found.gradients:.0f} gradients"


def course(found: Suggestion) -> Iterator[tuple[str, float, float]]:
    """Every factor with its value and the LR it leads to, from the middle of the basin on."""
    lr = found.midpoint
    for name, value in found.factors.items():
        lr *= value
        yield name, value, lr


def factors_text(found: Suggestion) -> str:
    return " ".join([f"middle {found.midpoint:.2g}", *(f"x{value:.2g} ({name})" for name, value in found.factors.items())])


def sweep_text(found: Suggestion) -> str:
    low, high = found.basin
    corrected = corrected_break(found.curve)
    broke = (
        f"never broke up to {found.curve.lrs[-1]:.2g}"
        if corrected is None
        else f"broke at {found.curve.break_lr:.2g} (unstable from {corrected:.2g}, corrected for the ramp)"
    )
    return f"lowest from {low:.2g} to {high:.2g}; {broke}; {len(found.curve.lrs)} steps"


def probes_text(probes: Probes) -> str:
    blown = sum(not math.isfinite(run.after) for run in probes.runs)
    samples = "samples" if probes.scored is None else f"{probes.scored} samples"
    share = f" ({probes.share:.0%} set aside)" if probes.share else ""
    best = f"{probes.runs[0].steps} steps, best near {10 ** best_of(probes):.2g}"
    after = f"; in place of ones of {probes.shorter} steps, which hardly moved" if probes.shorter else ""
    return f"{len(probes.runs)} from the start ({blown} blew up), {best}{after}; scored on {samples} of {probes.scored_on}{share}"


def curvature_text(found: Suggestion) -> str:
    limit = found.limit
    if limit is None:
        return f"not measured: {found.no_limit}" if found.no_limit else "not measured"
    name = "preconditioned sharpness" if limit.preconditioned else "sharpness"
    seen = f"{name} {limit.sharpness:.3g} ({limit.hvps} Hessian-vector products)"
    roughly = "roughly " if CurvatureDoubt.NOISE_UNSURE in limit.doubts else ""
    parts = [
        f"stable up to {limit.curvature_lr:.2g} at step 0: {limit.formula}, {seen}",
        f"sharpest in {next(iter(limit.by_parameter))}" if limit.by_parameter else None,
        f"batch noise allows {roughly}{limit.noise_lr:.2g}" if limit.noise_lr is not None else None,
        agreement(found.curve, limit),
    ]
    return "; ".join(part for part in parts if part)


def warmup_text(advice: WarmUp, lr: float, limit: StableLR) -> str:
    if advice.own:
        usual = "" if advice.start_lr == lr * ONECYCLE_START else f": pass div_factor={math.ceil(lr / advice.start_lr)}"
        return f"1cycle has its own, from {advice.start_lr:.2g}, where the first steps are stable{usual}"
    if not advice.steps:
        return "none needed: the suggestion is stable at step 0"
    return f"{advice.steps} steps in a straight line from {warmup_start(advice, limit)}"


def warmup_start(advice: WarmUp, limit: StableLR) -> str:
    """Where a warm-up begins, and what that is."""
    if not advice.start_lr:
        return "zero"
    which = "the limit at step 0" if advice.start_lr == limit.curvature_lr else "the limit of the first step"
    return f"{advice.start_lr:.2g}, {which}"


def schedule_text(found: Suggestion) -> str:
    """What to paste behind ``found = find_lr(...)``."""
    if found.schedule == "onecycle":
        return "scheduler = found.one_cycle(optimizer)"
    if found.schedule == "cosine":
        return "scheduler = found.sgdr(optimizer, cycles=1)"
    if found.schedule == "linear":
        return "scheduler = found.linear(optimizer)"
    return "scheduler = found.constant(optimizer)" if found.warmup and found.warmup.steps else "found.apply(optimizer)"


def all_doubts(found: Suggestion) -> list[Sentence]:
    """Every doubt, also those about the curvature measurement that the suggestion does not repeat."""
    told = (CurvatureDoubt.NOT_CONVERGED, CurvatureDoubt.NOISE_UNSURE)  # as a doubt of its own, and in the line about curvature
    about_limit = found.limit.doubts if found.limit else ()
    return [*found.doubts, *(doubt for doubt in about_limit if doubt not in told)]


def describe_probes(probes: Probes) -> str:
    cells = [[f"{run.lr:.2g}", shown(run.after)] for run in probes.runs]
    return "\n".join([*wrapped(probes_text(probes)), *row("before", f"loss {probes.before:.4g}"), *table([["lr", "loss after"], *cells])])


def shown(loss: float) -> str:
    """A loss, if there was one left."""
    return f"{loss:.4g}" if math.isfinite(loss) else "blew up"


def describe_run(run: ProbeRun) -> str:
    after = f"left a loss of {run.after:.4g}" if math.isfinite(run.after) else "blew up"
    return "\n".join(headline(f"{run.steps} steps at a constant lr of {run.lr:.2g} {after}"))


def describe_confirmation(tried: Confirmation) -> str:
    verdict = "passed" if tried.passed else "failed"
    losses = f"from {tried.before:.4g} to {tried.after:.4g}"
    return "\n".join(headline(f"{verdict}: {tried.steps} steps at {tried.lr:.2g} took the loss on {tried.scored_on} {losses}"))


# Sources: the README of prodigyopt, Mishchenko and Defazio 2024, arXiv:2306.06101, Defazio and Mishchenko 2023, arXiv:2301.07733; the
# README of schedulefree (10 to 50 times the usual for SGD, 1 to 10 times for AdamW), Defazio et al. 2024, arXiv:2405.15682.
ESTIMATING = (
    "multiplies the step size that the optimizer estimates by itself: 1 is the default, and what its authors advise; that factor, not a "
    "step size, was measured"
)
MEANINGS = {  # by the part of the class name that is the same in every package that has them
    "Prodigy": ESTIMATING,
    "DAdapt": ESTIMATING,
    "ScheduleFree": (
        "stays constant after the warm-up, as averaging replaces the schedule: pass schedule='constant', attach no scheduler, and expect "
        "more than the usual peak"
    ),
}


def meaning_of(optimizer: str) -> str | None:
    """What the LR means, for an optimizer in the words of ``describe_optimizer``; None if it is the usual."""
    found = dict.fromkeys(text for part, text in MEANINGS.items() if part in optimizer)
    return "; ".join(found) or None
