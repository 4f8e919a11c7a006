"""A recorded sweep as text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from hessian.errors import NoSuggestionError
from hessian.layout import headline, wrapped
from lrfinder.curve import LRCurve
from lrfinder.smoothing import clean_length


def describe_curve(curve: LRCurve) -> str:
    """What was swept and how it ended, then what can be read off."""
    where = f" at {curve.break_lr:.2g}" if curve.break_lr else ""
    of = "" if curve.group is None else f" of group {curve.group}{curve.group_name and f' ({curve.group_name})'} alone"
    scored = "; loss on val_data" if curve.scored_on == "val_data" else ""
    steps = f"{len(curve.lrs)} of {curve.num_iter} steps from {curve.start_lr:.2g} to {curve.end_lr:.2g}"
    lines = headline(f"range test{of} {curve.status}{where}: {steps}{scored}")
    return "\n".join([*lines, *(line for finding in findings(curve) for line in wrapped(finding, "  ", "    "))])


def findings(curve: LRCurve) -> Iterator[str]:
    """One line each."""
    yield curve.setting
    rules = ", ".join(f"{name} {lr:.2g}" for name, lr in curve.suggestions().items())
    yield f"rules: {rules or 'none finds a learning rate'}"
    if len(curve.metric):
        yield metric_text(curve)
    if curve.groups:
        yield f"groups alone: {groups_text(curve)}"


def metric_text(curve: LRCurve) -> str:
    """How good it got, and between which LRs to cycle."""
    clean, name = clean_length(curve.metric), curve.metric_name or "metric"
    if not clean:
        return f"{name}: not a number"
    best = int(curve.smooth_metric[:clean].argmax())
    text = f"{name}: from {curve.smooth_metric[0]:.3g} to {curve.smooth_metric[best]:.3g} at {curve.lrs[best]:.2g}"
    try:
        base, top = curve.clr_range()
    except NoSuggestionError:
        return f"{text}; no cyclical range"
    return f"{text}; cyclical range {base:.2g} to {top:.2g}"


def groups_text(curve: LRCurve) -> str:
    """Which group breaks first and where, then the others."""
    breaks = curve.group_breaks
    known = {found.group for found in breaks}
    parts = [f"{breaks[0]} breaks first, at {breaks[0].lr:.2g}"] if breaks else []
    parts += [f"{found} at {found.lr:.2g}" for found in breaks[1:]]
    parts += [f"{alone.group} {unbroken(alone)}" for alone in curve.groups if alone.group not in known]
    parts += [f"{index} left out (frozen)" for index in curve.left_out]
    return "; ".join(parts)


def unbroken(alone: LRCurve) -> str:
    """How a sweep ended that did not break."""
    return f"never broke up to {alone.lrs[-1] / alone.ratio:.2g}" if alone.status == "completed" and len(alone.lrs) else f"{alone.status}"
