"""Every factor of the rule, with the formula that gives it and the numbers of the run in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from hessian.layout import formula, paragraph, row
from lrfinder.combine import BREAK, CATAPULT, CURVATURE, LOWERED, best_of, break_ceiling
from lrfinder.constants import CONSTANTS
from lrfinder.describe import course
from lrfinder.horizon import SCHEDULE_NAMES
from lrfinder.results import Suggestion

NEAR = 1e-6  # relative difference up to which a formula and the factor that was saved are the same
NUMBERS = 19  # columns of "x0.43 = lr 0.069"

Told = tuple[float, str]  # what the formula gives, and the formula with its numbers


def factors_story(found: Suggestion) -> list[str]:
    lines = paragraph("The middle of the basin is multiplied by one factor after another:")
    lines += row(f"lr {found.midpoint:.2g}", "the middle of the basin", NUMBERS)
    for name, value, lr in course(found):
        lines += row(f"x{value:.2g} = lr {lr:.2g}", because(found, name, value), NUMBERS)
    return [*lines, *product(found), *ceiling_story(found)]


def product(found: Suggestion) -> list[str]:
    """All of it in one line, where it is what the file says."""
    lr = found.midpoint * math.prod(found.factors.values())
    if not found.factors or not math.isclose(lr, found.lr, rel_tol=NEAR):
        return []
    return formula(f"{found.midpoint:.2g} {' '.join(f'x {value:.2g}' for value in found.factors.values())} = {found.lr:.2g}")


def because(found: Suggestion, name: str, value: float) -> str:
    """A factor in words; its formula too, if that gives the number that was saved: a file may be from another version."""
    for pattern, teller in TELLERS.items():
        match = re.fullmatch(pattern, name)
        if match is not None:
            try:
                predicted, told = teller(found, match)
            except (ValueError, OverflowError, ZeroDivisionError):  # a file may say anything
                return name
            return f"{name}: {told}" if math.isclose(predicted, value, rel_tol=NEAR) else name
    return name


def trained_steps(found: Suggestion) -> int | None:
    """Steps of the short trainings, if they decided."""
    for name in found.factors:
        match = re.fullmatch(r"short trainings of (\d+) steps", name)
        if match is not None:
            return int(match[1])
    return None


def by_trainings(found: Suggestion, match: re.Match[str]) -> Told:
    best = 10 ** (0.0 if found.probes is None else best_of(found.probes))
    return best / found.midpoint, f"their soft minimum over the middle, {best:.2g} / {found.midpoint:.2g}"


def to_best(found: Suggestion, match: re.Match[str]) -> Told:
    c, trained = CONSTANTS, trained_steps(found) or 0
    told = (
        f"10^({c.from_trainings:g} + {c.from_longer:g} log10({trained} / {c.usual_training})), as the loss rises faster above the best LR"
    )
    return 10 ** (c.from_trainings + c.from_longer * math.log10(trained / c.usual_training)), told


def to_training(found: Suggestion, match: re.Match[str]) -> Told:
    c = CONSTANTS
    told = f"10^{c.from_sweep:g}, as the best constant LR of {c.reference_steps} steps lies below the middle of a sweep"
    return 10**c.from_sweep, told


def decaying(found: Suggestion, match: re.Match[str]) -> Told:
    return 10**CONSTANTS.decaying, f"10^{CONSTANTS.decaying:g}, as the LR is below its peak most of the time"


def by_length(found: Suggestion, match: re.Match[str]) -> Told:
    c, steps, reference = CONSTANTS, int(match[1].replace(",", "")), int(match[2])
    held = min(steps, max(c.largest_steps, reference))
    told = f"({held:,} / {reference})^-{c.steps:g}" + (f", held at {held:,} steps" if held < steps else "")
    return (held / reference) ** -c.steps, told


def by_passes(found: Suggestion, match: re.Match[str]) -> Told:
    c, curve = CONSTANTS, found.curve
    size, samples = curve.batch_size or 0, curve.samples or 0
    counted = min(size, c.batch_cap)
    passes = min(found.total_steps * counted / samples, c.largest_passes)
    capped = f" (of a batch of {size:,} at most {c.batch_cap} count)" if size > c.batch_cap else ""
    told = f"(1 + p / {c.passes:g})^-{c.epochs:g} with p = {found.total_steps:,} x {counted} / {samples:,} = {passes:.3g} passes{capped}"
    return (1 + passes / c.passes) ** -c.epochs, told


def by_break(found: Suggestion, match: re.Match[str]) -> Told:
    ceiling, before = break_ceiling(found.curve), before_factor(found, BREAK)
    return ceiling / before, f"{before:.2g} would lie above {ceiling:.2g}, where the sweep became unstable"


def by_curvature(found: Suggestion, match: re.Match[str]) -> Told:
    times = CATAPULT if found.schedule == "onecycle" else 1.0
    ceiling, before = times * (0.0 if found.limit is None else found.limit.curvature_lr), before_factor(found, CURVATURE)
    why = f"{times:g} x the limit" if times != 1 else "the limit"
    return ceiling / before, f"{before:.2g} would lie above {why}, {ceiling:.2g}, which binds where a batch holds all data"


def by_failure(found: Suggestion, match: re.Match[str]) -> Told:
    before = before_factor(found, LOWERED)
    thirds = round(-math.log(found.factors[LOWERED], 3))
    return 3.0**-thirds, f"a training at {before:.2g} raised the loss, so it was divided by 3 until one lowered it, {thirds} times"


def before_factor(found: Suggestion, name: str) -> float:
    lrs = [found.midpoint, *(lr for _, _, lr in course(found))]
    return lrs[list(found.factors).index(name)]


TELLERS: dict[str, Callable[[Suggestion, re.Match[str]], Told]] = {  # by the names that combine, horizon and find give their factors
    r"short trainings of \d+ steps": by_trainings,
    r"soft minimum to best": to_best,
    r"sweep to training": to_training,
    "|".join(re.escape(name) for name in SCHEDULE_NAMES.values()): decaying,
    r"([\d,]+) steps, not (\d+)": by_length,
    r"data seen .+ times": by_passes,
    re.escape(BREAK): by_break,
    re.escape(CURVATURE): by_curvature,
    re.escape(LOWERED): by_failure,
}


def ceiling_story(found: Suggestion) -> list[str]:
    """What bounds it, where nothing had to be cut."""
    if not found.curve.clean or BREAK in found.factors or CURVATURE in found.factors:
        return []
    return paragraph(f"It lies below {break_ceiling(found.curve):.2g}, the ceiling that the sweep sets, so nothing was cut.")
