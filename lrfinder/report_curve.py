"""What a page about a range test says."""

from __future__ import annotations

from collections.abc import Iterator

from hessian.layout import capital
from hessian.reports.parts import Block, Picture, Report, Section, Table, Words, settings_section
from lrfinder.curve import LRCurve
from lrfinder.describe_curve import groups_text, metric_text

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
        picture=Picture("Loss over learning rate", description(curve, reached), lambda ax: curve.plot(ax=ax)),
        sections=(Section("What can be read off", tuple(findings(curve)), first=True), settings_section(settings(curve))),
    )


def description(curve: LRCurve, reached: str) -> str:
    if not reached:
        return "No points were recorded."
    broke = f"; from {reached} on, where the loss breaks, the picture is grey" if curve.break_lr else ""
    return f"The loss of each step and its smoothed line over learning rates from {curve.lrs[0]:.2g} to {reached}{broke}."


def findings(curve: LRCurve) -> Iterator[Block]:
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


def settings(curve: LRCurve) -> Iterator[tuple[str, str]]:
    yield from training_settings(curve)
    yield "Scored on", "the validation data" if curve.scored_on == "val_data" else "each step's batch"
    yield "Spacing", curve.mode
    yield "Param group", "" if curve.group is None else f"{curve.group} {curve.group_name}".strip() + " alone"
    yield "Seed", str(curve.seed)
