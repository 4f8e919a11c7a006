"""A recorded sweep as text, for the terminal; and what it did and how it is read, in words, with the numbers of the run."""

from __future__ import annotations

from collections.abc import Iterator

from hessian.errors import NoSuggestionError
from hessian.layout import formula, headline, paragraph, row, wrapped
from lrfinder.curve import LRCurve
from lrfinder.explain import sweep_story
from lrfinder.rules import RULES
from lrfinder.smoothing import clean_length, initial_count


def describe_curve(curve: LRCurve) -> str:
    where = f" at {curve.break_lr:.2g}" if curve.break_lr else ""
    of = "" if curve.group is None else f" of group {curve.group}{curve.group_name and f' ({curve.group_name})'} alone"
    scored = "; loss on val_data" if curve.scored_on == "val_data" else ""
    steps = f"{len(curve.lrs)} of {curve.num_iter} steps from {curve.start_lr:.2g} to {curve.end_lr:.2g}"
    lines = headline(f"range test{of} {curve.status}{where}: {steps}{scored}")
    return "\n".join([*lines, *(line for finding in findings(curve) for line in wrapped(finding, "  ", "    "))])


def findings(curve: LRCurve) -> Iterator[str]:
    yield curve.setting
    yield f"rules: {rules_text(curve)}"
    if len(curve.metric):
        yield metric_text(curve)
    if curve.groups:
        yield f"groups alone: {groups_text(curve)}"


def rules_text(curve: LRCurve) -> str:
    return ", ".join(f"{name} {lr:.2g}" for name, lr in curve.suggestions().items()) or "none finds a learning rate"


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
    breaks = curve.group_breaks
    known = {found.group for found in breaks}
    parts = [f"{breaks[0]} breaks first, at {breaks[0].lr:.2g}"] if breaks else []
    parts += [f"{found} at {found.lr:.2g}" for found in breaks[1:]]
    parts += [f"{alone.group} {unbroken(alone)}" for alone in curve.groups if alone.group not in known]
    parts += [f"{index} left out (frozen)" for index in curve.left_out]
    return "; ".join(parts)


def unbroken(alone: LRCurve) -> str:
    """How a sweep ended that did not break."""
    return f"never broke up to {alone.lrs[-1] / alone.ratio:.2g}" if alone.status == "completed" and len(alone.lrs) else alone.status


RULE_WORDS = {
    "steepest": "where the smoothed loss falls fastest per factor of LR",
    "minimum": "a tenth of the LR with the lowest smoothed loss (fastai)",
    "valley": "about the middle of the longest falling stretch (fastai's default)",
    "slide": "the left end of a window of 15 points, slid from the right until its slopes are alike (fastai)",
}
ENDS = {
    "completed": "It went through to the end of the range.",
    "diverged": "It stopped there because the median of three losses exceeded both {stop:g} times the best and 1.2 times the initial one.",
    "nonfinite": "It stopped there because a loss was not finite, or beyond 1e300.",
    "data_ended": "It stopped because the data ran out.",
    "interrupted": "It was interrupted.",
}


def explain_curve(curve: LRCurve) -> str:
    """The whole story; fits 80 columns."""
    of = "" if curve.group is None else f" of group {curve.group} alone"
    lines = headline(f"range test{of}: {curve.setting}.")
    lines += plan_story(curve)
    if len(curve.lrs):
        lines += sweep_story(curve)
        lines += paragraph(ENDS[curve.status].format(stop=curve.stop_factor))
        lines += rules_story(curve)
    if len(curve.metric):
        lines += paragraph(f"{metric_text(curve)}.") + metric_words(curve)
    if curve.groups:
        lines += paragraph(f"Groups alone: {groups_text(curve)}.")
    return "\n".join(lines)


def plan_story(curve: LRCurve) -> list[str]:
    scored = "of val_data after each step" if curve.scored_on == "val_data" else "of each step's batch before its update"
    text = (
        f"Planned were {curve.num_iter} steps from {curve.start_lr:.2g} to {curve.end_lr:.2g}, {curve.mode}; {len(curve.lrs)} were made. "
        f"Recorded is the loss {scored}. "
    )
    text += f"It is smoothed by a centred triangle of {curve.window} points to each side. " if curve.window else "It is not smoothed. "
    if curve.steadied:
        text += "What each batch cost at the initial weights was taken out of it first; its mean is the initial loss."
    else:
        text += f"The initial loss is the median of the first {initial_count(curve.num_iter)}."
    return paragraph(text)


def rules_story(curve: LRCurve) -> list[str]:
    lines = paragraph("The published rules say")
    for name in RULES:
        try:
            said = f"{curve.suggest(name):.2g}"
            why = RULE_WORDS.get(name, "a rule of your own")
        except NoSuggestionError as error:
            said, why = "-", str(error)
        lines += row(f"{name} {said}", why, 18)
    return lines


def metric_words(curve: LRCurve) -> list[str]:
    try:
        base, top = curve.clr_range()
    except NoSuggestionError as error:
        return wrapped(f"No cyclical range: {error}")
    words = "from where it has last gained a tenth of its rise to where it has first gained nine tenths, or fell (Smith 2017):"
    return wrapped(f"Cyclical range, {words}") + formula(f"{base:.2g} to {top:.2g}")
