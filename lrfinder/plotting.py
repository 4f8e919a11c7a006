"""The shared picture: sweep, break, curvature limit and suggestion on one Axes, as headless as ``hessian.plotting``.

Colours are from the Okabe-Ito set; every element also differs in line style, hatch or marker, so black and white will do.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from hessian.errors import BadArgument, BadType
from hessian.plotting import SHOWN, draw_limit, drawable, finished, in_sight, new_axes, shade_above, shown
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.combine import agreement
from lrfinder.curve import LRCurve
from lrfinder.describe import plan
from lrfinder.plotting_metric import draw_metrics
from lrfinder.results import Probes, Suggestion

CURVES = (("#0072B2", "-"), ("#CC79A7", "--"), ("#009E73", "-."), ("#E69F00", ":"))
BROKEN = "#888888"
CHOSEN = "#000000"
GOOD = "#009E73"
TRAINED = "#882255"
MARKERS = {"steepest": "v", "valley": "s", "slide": "D", "minimum": "o"}
LOG_FROM = 30.0  # highest over lowest loss shown, from which a linear axis would flatten the valley
FOOT, HEAD = 0.15, 0.2  # shares of the losses' range left free for the rules below and the label above
MOST_DECADES = 100  # of losses on one axis: with more matplotlib's ticks overflow
LETTERS_PER_INCH = 15  # of a title


def plot(*results: Result, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
    """Draw results on one picture with the learning rate as x axis.

    Args:
        results: ``Suggestion``, ``LRCurve`` and ``StableLR`` in any number; a suggestion brings its curve and limit along.
        path: Where to write it: ``.png``, ``.svg`` or ``.pdf``.
        ax: Axes to draw on, with what may be on them already; None makes a new figure.

    Returns:
        The figure. It belongs to no pyplot state, so nothing pops up and nothing needs closing.

    Raises:
        ValueError, TypeError: If there is nothing to draw, or something that cannot be drawn.
    """
    check_results(results)
    figure, ax = new_axes(ax)
    parts = [part for item in results for part in parts_of(item)]
    prepare(ax, results, parts)
    sweeps = [item for item in results if isinstance(item, (Suggestion, LRCurve))]
    curves, colours = list(map(curve_of, sweeps)), [colour for colour, _ in CURVES * len(sweeps)]
    for curve, name, (colour, style) in zip(curves, names(curves), cycle(CURVES)):
        draw_curve(curve, ax, colour, style, name)
    draw_metrics(curves, colours, ax)
    for part in parts:
        if isinstance(part, StableLR):
            draw_limit(part, ax)
        elif isinstance(part, Probes):
            draw_probes(part, ax)
    for row, item in enumerate(sweeps):
        if isinstance(item, Suggestion):
            draw_suggestion(item, ax, row=row, colour=CHOSEN if len(sweeps) == 1 else colours[row])
    if len(curves) == 1:
        draw_rules(curves[0], ax)
    return finished(figure, ax, path)


def check_results(results: Sequence[object]) -> None:
    """Refuse what has no place on a learning-rate axis."""
    if not results:
        raise BadArgument("plot got no result; pass a Suggestion, an LRCurve or a StableLR.")
    for item in results:
        if not isinstance(item, (Suggestion, LRCurve, StableLR)):
            raise BadType(f"plot cannot draw a {type(item).__name__}; pass a Suggestion, an LRCurve or a StableLR.")


def parts_of(item: Result) -> list[Result]:
    """The result and what it brings along."""
    more = [item.curve, item.probes, item.limit] if isinstance(item, Suggestion) else []
    return [part for part in (item, *more) if part is not None]


def curve_of(item: Suggestion | LRCurve) -> LRCurve:
    return item.curve if isinstance(item, Suggestion) else item


def prepare(ax: Axes, results: Sequence[Result], parts: Sequence[Result]) -> None:
    """Titles, axis scales and ranges that show the valley rather than the explosion; what was drawn before stays in sight."""
    curves = [part for part in parts if isinstance(part, LRCurve)]
    old = (ax.get_xlim(), ax.get_ylim()) if ax.has_data() else ((), ())
    if not ax.has_data():
        make_lr_axis(ax, parts, curves)
        write_titles(ax, results)
    room = 1.05 if ax.get_xscale() == "linear" else 1.6 if curves else 5.0
    edges = [*old[0], *(in_sight(lr) for part in parts for lr in extent(part, room))]
    set_lr_range(ax, edges, room)
    if curves:
        reached = [run.after for part in parts if isinstance(part, Probes) for run in part.runs if run.after < part.before]
        set_loss_range(ax, [*loss_range(curves), *reached, *(old[1] if ax.yaxis.get_visible() else ())])
    elif not ax.has_data():
        ax.yaxis.set_visible(False)  # a limit alone has no losses


def make_lr_axis(ax: Axes, parts: Sequence[Result], curves: Sequence[LRCurve]) -> None:
    """On empty axes; linear for linear sweeps, unless something lies so far beyond that they would shrink to a corner."""
    edges = [0.0, *(lr for part in parts for lr in extent(part, 1.0))]
    linear = {curve.mode for curve in curves} == {"linear"} and max(edges) < 3 * max(curve.end_lr for curve in curves)
    ax.set_xscale("linear" if linear else "log")
    ax.set_xlabel("learning rate")
    ax.spines[["top", "right"]].set_visible(False)


def set_lr_range(ax: Axes, edges: Sequence[float], room: float) -> None:
    """From the lowest to the highest; with room where they are one, as of what lies wholly out of sight."""
    if edges and min(edges) < max(edges):
        ax.set_xlim(min(edges), max(edges))
    elif edges and edges[0] > 0:
        ax.set_xlim(edges[0] / room, edges[0] * room)


def extent(part: Result, room: float) -> tuple[float, ...]:
    """Lowest and highest LR that must be in sight, with room around them."""
    if isinstance(part, LRCurve) and len(part.lrs):
        return part.lrs[0] / room, part.lrs[-1] * room
    if isinstance(part, StableLR):
        return part.lr / room**2, part.lr * room**2
    if isinstance(part, Probes):
        return min(run.lr for run in part.runs) / room, max(run.lr for run in part.runs)
    if isinstance(part, Suggestion):
        return min(part.lr, part.interval[0]) / room, max(part.lr, part.interval[1]) * room
    return ()


def set_loss_range(ax: Axes, losses: Sequence[float]) -> None:
    """The loss axis around these, logarithmic where they span decades."""
    low, high = min(losses), max(losses)
    if low > 0 and high / low > LOG_FROM:
        ax.set_yscale("log")
        top = math.log10(high)
        decades = min(top - math.log10(low), MOST_DECADES)
        ax.set_ylim(10.0 ** max(top - (1 + FOOT) * decades, -300), 10.0 ** min(top + HEAD * decades, 290))
    elif high > low:
        ax.set_ylim(low - FOOT * (high - low), high + HEAD * (high - low))
    ax.yaxis.set_visible(True)
    ax.set_ylabel("loss")


def loss_range(curves: Sequence[LRCurve]) -> tuple[float, float]:
    """Lowest and highest loss worth showing: batch scatter yes, blow-ups no."""
    shown = []
    for curve in curves:
        if curve.clean:
            smooth, raw = curve.smooth[: curve.clean], curve.corrected[: curve.clean]
            typical = raw[raw <= np.quantile(raw, 0.9)]
            shown += [smooth.min(), smooth.max(), typical.min(), min(typical.max(), 2 * smooth.max() - smooth.min())]
    return (float(min(shown)), float(max(shown))) if shown else (0.0, 1.0)


def names(curves: Sequence[LRCurve]) -> list[str]:
    """Names of several curves in the legend: their optimizers, numbered where these are the same."""
    known = [shown(textwrap.shorten(curve.optimizer, 30, placeholder="...")) for curve in curves]
    if len(curves) == 1:
        return [""]
    return known if len(set(known)) == len(known) else [f"{number} {name}" for number, name in enumerate(known, 1)]


def draw_curve(curve: LRCurve, ax: Axes, colour: str, style: str, name: str) -> None:
    """Raw losses faint, the smooth line, and a shade where the loss breaks; with a ``name``, one line of the legend stands for all."""
    broke = "" if curve.break_lr is None else f"breaks at {curve.break_lr:.2g}"
    raw, smooth, band = "loss on val_data" if curve.scored_on == "val_data" else "loss of one batch", "smoothed", f"loss {broke}"
    if name:
        raw, smooth, band = "_raw", f"{name}, {broke}" if broke else name, "_band"
    lrs = np.clip(curve.lrs, *SHOWN)
    ax.plot(lrs, drawable(curve.corrected), ".", color=colour, alpha=0.45, markersize=5, markeredgewidth=0, label=raw)
    ax.plot(lrs, curve.smooth, style, color=colour, linewidth=2, label=smooth)
    if curve.break_lr is not None:
        shade_above(curve.break_lr, ax, color=BROKEN, alpha=0.3 if name else 0.55, label=band)


def draw_probes(probes: Probes, ax: Axes) -> None:
    """The loss that each short training reached on samples it had not seen; without those that blew up."""
    runs = [run for run in sorted(probes.runs, key=lambda run: run.lr) if math.isfinite(run.after)]
    if runs:
        label = f"after {runs[0].steps} steps, held out"
        lrs, losses = [in_sight(run.lr) for run in runs], [run.after for run in runs]
        ax.plot(lrs, losses, "--D", color=TRAINED, linewidth=1, markersize=5, label=label)


def draw_suggestion(found: Suggestion, ax: Axes, *, row: int, colour: str) -> None:
    """The LR as a line with its value, the good range as a light band. ``row`` keeps several labels apart."""
    lr, low, high = map(in_sight, (found.lr, *found.interval))
    ax.axvspan(low, high, facecolor=GOOD, alpha=0.22, linewidth=0, zorder=0.5, label=f"good range {low:.2g} to {high:.2g}")
    for edge in (low, high):
        ax.axvline(edge, color=colour, linewidth=0.8, linestyle=":")
    ax.axvline(lr, color=colour, linewidth=2.2)
    share = ax.transAxes.inverted().transform(ax.transData.transform((lr, ax.get_ylim()[0])))[0]  # of the axis: 0 at its left end
    left = share > 0.25  # where the loss is still flat; near the left edge there is no room
    ax.annotate(
        f"lr {found.lr:.2g}",
        xy=(lr, 0.97 - 0.1 * row),
        xycoords=blended_transform_factory(ax.transData, ax.transAxes),
        xytext=(-8 if left else 8, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=colour,
        fontsize=15,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def draw_rules(curve: LRCurve, ax: Axes) -> None:
    """What the published rules would say: thin ticks at the foot."""
    foot = blended_transform_factory(ax.transData, ax.transAxes)
    for row, (name, lr) in enumerate(curve.suggestions().items()):
        top = 0.03 + 0.025 * row  # rules often agree, and one marker would hide the other
        ax.plot([lr, lr], [0, top], transform=foot, color="#444444", linewidth=1, zorder=3)
        label, marker = f"{name} {lr:.2g}", MARKERS.get(name, "x")
        ax.plot([lr], [top], marker, color="#444444", mfc="white", markersize=4.5, transform=foot, zorder=3, label=label)


def write_titles(ax: Axes, results: Sequence[Result]) -> None:
    """What was measured."""
    first = results[0]
    source = first.curve if isinstance(first, Suggestion) else first
    if isinstance(source, (LRCurve, StableLR)):
        what = f"{shown(source.model)}, {shown(source.optimizer)}, batch {source.batch_size or '?'}, seed {source.seed}"
        letters = max(20, round(LETTERS_PER_INCH * ax.bbox.width / ax.figure.dpi))
        lines = textwrap.wrap(heading(first), letters) + textwrap.wrap(what, letters)
        ax.set_title("\n".join(lines), fontsize=10, loc="left")


def heading(result: Result) -> str:
    """The answer in one line."""
    if isinstance(result, Suggestion):
        agree = agreement(result.curve, result.limit)
        return f"suggested lr {result.lr:.2g} ({plan(result)})" + (f"; {agree}" if agree else "")
    return f"stable up to {result.lr:.2g}: {shown(result.formula)}" if isinstance(result, StableLR) else "range test"
