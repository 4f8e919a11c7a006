"""What a page about a suggestion says, and one about a range test: the answer, what to paste, doubts, evidence, what it holds for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hessian.layout import capital
from hessian.reports.parts import Block, Code, Picture, Report, Section, Table, Words, doubts_section, settings_section, shares_section
from lrfinder.curve import LRCurve
from lrfinder.describe import all_doubts, course, evidence, meaning_of, schedule_text
from lrfinder.describe_curve import groups_text, metric_text, rules_text
from lrfinder.horizon import ONECYCLE_START
from lrfinder.results import Suggestion

ELSEWHERE = ("schedule", "factors", "this lr", "valid for", "cost")  # lines of the print that have a section of their own
PEAKS = {
    "constant": "It is for a constant learning rate",
    "onecycle": "It is the peak of a 1cycle schedule",
    "cosine": "It is the peak of a schedule with cosine decay",
    "linear": "It is the peak of a schedule with linear decay",
    None: "It is for a constant learning rate, as no schedule was named,",
}


def suggestion_report(found: Suggestion) -> Report:
    doubts = all_doubts(found)
    layers = [shares_section("Sharpest parameters", found.limit.by_parameter)] if found.limit and found.limit.by_parameter else []
    rows = [(label.capitalize(), text.replace("; ", "\n")) for label, text in evidence(found) if label not in ELSEWHERE]
    rows.append(("Published rules", f"{rules_text(found.curve)}\nnone of them decides"))
    return Report(
        label="Suggested learning rate",
        number=f"{found.lr:.2g}",
        lead=lead(found, len(doubts)),
        picture=Picture("Loss over learning rate", description(found), lambda ax: found.plot(ax=ax)),
        sections=(
            Section("To use it", tuple(usage(found)), first=True),
            doubts_section(doubts),
            Section("Evidence", (Table("What was measured", ("Measurement", "What was seen"), tuple(rows)),)),
            Section("How the number came about", (factors_table(found),)),
            *layers,
            settings_section(settings(found)),
        ),
    )


def lead(found: Suggestion, doubts: int) -> tuple[str, ...]:
    low, high = found.interval
    count = "No doubts were raised." if not doubts else f"{'One doubt is' if doubts == 1 else f'{doubts} doubts are'} listed below."
    return (
        f"A good one is to be expected between `{low:.2g}` and `{high:.2g}`.",
        f"{PEAKS[found.schedule]} over {found.total_steps:,} steps.",
        count,
    )


def description(found: Suggestion) -> str:
    curve, (low, high) = found.curve, found.interval
    parts = [
        f"The smoothed loss of a sweep of {len(curve.lrs)} steps from {curve.lrs[0]:.2g} to {curve.lrs[-1]:.2g}, "
        f"lowest from {found.basin[0]:.2g} to {found.basin[1]:.2g}",
        "it does not break" if curve.break_lr is None else f"from {curve.break_lr:.2g} on, where the loss breaks, the picture is grey",
        f"a thick line stands at the suggestion {found.lr:.2g}, in a green band from {low:.2g} to {high:.2g}",
    ]
    if found.limit is not None:
        parts.append(f"above the curvature limit {found.limit.curvature_lr:.2g} it is hatched")
    if found.probes is not None:
        reached = sum(math.isfinite(run.after) for run in found.probes.runs)
        blown = f" ({len(found.probes.runs) - reached} more blew up)" if reached < len(found.probes.runs) else ""
        parts.append(f"diamonds show the loss that {reached} short trainings reached{blown}")
    return "; ".join(parts) + "."


def usage(found: Suggestion) -> Iterator[Words | Code]:
    """The line to paste and what it does at the start."""
    yield Code(schedule_text(found))
    yield Words("`found` is what `find_lr` returned, or `lrfinder.load` of a saved file. Param groups keep their ratios to the largest.")
    advice = found.warmup
    if advice is None:
        return
    if not advice.own and advice.steps:
        start = f"{advice.start_lr:.2g}" if advice.start_lr else "zero"
        yield Words(f"It begins with a warm-up of {advice.steps:,} steps, in a straight line from {start}.")
    if advice.own and advice.start_lr < found.lr * ONECYCLE_START:
        yield Words(f"It starts at {advice.start_lr:.2g}, lower than usual, where the first steps are stable.")


def factors_table(found: Suggestion) -> Table:
    rows = [
        ("Middle of the basin of the sweep", "", f"{found.midpoint:.2g}"),
        *((capital(name), f"x{value:.2g}", f"{lr:.2g}") for name, value, lr in course(found)),
        ("Suggested learning rate", "", f"{found.lr:.2g}"),
    ]
    return Table("How the number came about", ("Step", "Factor", "Learning rate"), tuple(rows), numbers=(1, 2), sum=True)


def settings(found: Suggestion) -> Iterator[tuple[str, str]]:
    curve = found.curve
    yield from training_settings(curve, meaning_of(curve.optimizer))
    yield "Planned", f"{found.total_steps:,} steps, schedule {found.schedule or 'unknown'}"
    yield "Sweep", f"{len(curve.lrs)} of {curve.num_iter} steps from {curve.start_lr:.2g} to {curve.end_lr:.2g}, {curve.status}"
    yield "Seed", str(curve.seed)
    yield "Cost", f"{found.gradients:.0f} gradients" if found.gradients else ""
    yield "Exact value", f"{found.lr:.6g}"


ENDS = {
    "completed": "The sweep came to its end without a break.",
    "diverged": "There the loss broke, and the sweep was stopped.",
    "nonfinite": "There the loss was not finite, and the sweep was stopped.",
    "data_ended": "The data ran out before the sweep had come to its end.",
    "interrupted": "The sweep was interrupted before its end.",
}


def curve_report(curve: LRCurve) -> Report:
    reached = f"{curve.lrs[-1]:.2g}" if len(curve.lrs) else ""
    what = " of no steps" if not reached else ": the loss breaks at" if curve.break_lr else ": no break up to"
    return Report(
        label=f"Range test{what}",
        number=reached,
        lead=(
            ENDS[curve.status],
            f"It made {len(curve.lrs)} of {curve.num_iter} steps from `{curve.start_lr:.2g}` to `{curve.end_lr:.2g}`.",
        ),
        picture=Picture("Loss over learning rate", curve_picture(curve, reached), lambda ax: curve.plot(ax=ax)),
        sections=(Section("What can be read off", tuple(curve_findings(curve)), first=True), settings_section(curve_settings(curve))),
    )


def curve_picture(curve: LRCurve, reached: str) -> str:
    if not reached:
        return "No points were recorded."
    broke = f"; from {reached} on, where the loss breaks, the picture is grey" if curve.break_lr else ""
    return f"The loss of each step and its smoothed line over learning rates from {curve.lrs[0]:.2g} to {reached}{broke}."


def curve_findings(curve: LRCurve) -> Iterator[Block]:
    rows = tuple((name, f"{lr:.3g}") for name, lr in curve.suggestions().items())
    yield Table("Published rules", ("Rule", "Learning rate"), rows, numbers=(1,)) if rows else Words("No rule finds a learning rate on it.")
    yield Words("Each of these rules is far off on some trainings; `find_lr` decides with more than a sweep.")
    if len(curve.metric):
        yield Words(f"{capital(metric_text(curve))}.")
    if curve.groups:
        yield Words(f"Groups alone: {groups_text(curve)}.")


def training_settings(curve: LRCurve, meaning: str | None = None) -> Iterator[tuple[str, str]]:
    """The training it holds for, and what its LR means where that is unusual."""
    yield "Model", curve.model
    yield "Optimizer", curve.optimizer
    yield "Its learning rate", meaning or ""
    yield "Batch", f"{curve.batch_size or '?'} samples" + (f" of {curve.samples:,}" if curve.samples else "")
    yield "Step", curve.recipe


def curve_settings(curve: LRCurve) -> Iterator[tuple[str, str]]:
    yield from training_settings(curve)
    yield "Scored on", "the validation data" if curve.scored_on == "val_data" else "each step's batch"
    yield "Spacing", curve.mode
    yield "Param group", "" if curve.group is None else f"{curve.group} {curve.group_name}".strip() + " alone"
    yield "Seed", str(curve.seed)
