"""Several results on one picture: all that belongs to one has its colour and its line style, and every mark its shape.

The colours are those of the Okabe-Ito set that are dark enough on white.
"""

from __future__ import annotations

import os
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from hessian.layout import shortened
from hessian.plotting import SHOWN, drawable, finished, in_sight, new_axes, shown
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.comparison import Compared, Comparison
from lrfinder.curve import LRCurve
from lrfinder.plotting import curve_of, extent, loss_range, make_lr_axis, parts_of, set_loss_range, set_lr_range
from lrfinder.results import Probes, Suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":")  # seven colours and four styles: 28 runs before a pair is repeated
FEW = 3  # runs up to which the losses of single batches are shown too
LETTERS = 40  # of a name in the legend
ROOM = 1.6  # at both ends of the LR axis


def plot_comparison(compared: Comparison, path: str | os.PathLike[str] | None, ax: Axes | None) -> Figure:
    """The runs over the learning rate; a diamond is the suggestion, a thick line its good range, a cross the break."""
    figure, ax = new_axes(ax)
    results = [result for _, result in compared.items()]
    prepare(ax, results)
    for name, result, colour, style in zip(compared.names, results, cycle(COLOURS), cycle(STYLES)):
        draw_run(ax, name, result, colour, style, scatter=len(results) <= FEW)
    draw_key(ax, results)
    return finished(figure, ax, path)


def prepare(ax: Axes, results: list[Compared]) -> None:
    """Scales and ranges."""
    parts = [part for result in results for part in parts_of(result) if not isinstance(part, Probes)]
    curves = [part for part in parts if isinstance(part, LRCurve)]
    make_lr_axis(ax, parts, curves)
    set_lr_range(ax, [in_sight(lr) for part in parts for lr in extent(part, ROOM)], ROOM)
    if curves:
        set_loss_range(ax, loss_range(curves))
    else:
        ax.yaxis.set_visible(False)


def draw_run(ax: Axes, name: str, result: Compared, colour: str, style: str, scatter: bool) -> None:
    label = label_of(name, result)
    if isinstance(result, StableLR):
        draw_limit(ax, result, colour, style, label)
        return
    draw_curve(ax, curve_of(result), colour, style, label, scatter)
    if isinstance(result, Suggestion):
        draw_suggestion(ax, result, colour)
        if result.limit is not None:
            draw_limit(ax, result.limit, colour, style, "_limit")


def label_of(name: str, result: Result) -> str:
    number = f", lr {result.lr:.2g}" if isinstance(result, Suggestion) else ""
    return f"{shown(shortened(name, LETTERS))}{number}".lstrip("_") or "run"


def draw_curve(ax: Axes, curve: LRCurve, colour: str, style: str, label: str, scatter: bool) -> None:
    """The smoothed losses, faint points for those of single batches, and a cross where it broke."""
    lrs = np.clip(curve.lrs, *SHOWN)
    if scatter:
        ax.plot(lrs, drawable(curve.corrected), ".", color=colour, alpha=0.25, markersize=4, markeredgewidth=0, label="_raw")
    ax.plot(lrs, curve.smooth, style, color=colour, linewidth=1.8, label=label)
    if curve.break_lr is not None and curve.clean:
        last = min(float(curve.smooth[curve.clean - 1]), ax.get_ylim()[1])
        ax.plot([in_sight(curve.break_lr)], [last], "X", color=colour, markersize=9, clip_on=False, label="_break")


def draw_suggestion(ax: Axes, found: Suggestion, colour: str) -> None:
    """A diamond on the curve, and a thick line along it over the good range."""
    count = found.curve.clean
    if not count:
        return
    lr, low, high = map(in_sight, (found.lr, *found.interval))
    x, y = np.clip(found.curve.lrs[:count], *SHOWN), found.curve.smooth[:count]
    inside = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    losses = np.interp(np.log([*inside, lr]), np.log(x), y)  # between the points on a log scale
    ax.plot(inside, losses[:-1], "-", color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt", label="_range")
    ax.plot([lr], losses[-1:], "D", color=colour, markersize=8, markeredgecolor="white", zorder=4, label="_lr")


def draw_limit(ax: Axes, limit: StableLR, colour: str, style: str, label: str) -> None:
    """A thin line up to which the first steps are stable, with a triangle at its foot."""
    lr = in_sight(limit.lr)
    ax.axvline(lr, color=colour, linestyle=style if label != "_limit" else (0, (5, 2)), linewidth=1.1, label=label)
    ax.plot([lr], [0.015], "^", color=colour, markersize=7, transform=ax.get_xaxis_transform(), label="_foot")


def draw_key(ax: Axes, results: list[Compared]) -> None:
    """What the marks mean, in black."""
    parts = [part for result in results for part in parts_of(result)]
    found = any(isinstance(part, Suggestion) for part in parts)
    marks = [("D", "suggested lr")] if found else []
    marks += [("X", "loss broke")] if any(isinstance(part, LRCurve) and part.break_lr is not None for part in parts) else []
    marks += [("^", "limit, at step 0")] if any(isinstance(part, StableLR) for part in parts) else []
    if found:
        ax.plot([], [], "-", color="#666666", linewidth=7, alpha=0.4, label="good range")
    for marker, text in marks:
        ax.plot([], [], marker, color="#444444", markersize=7, label=text)
