"""The shared picture: sweep, break, curvature limit and suggestion on one Axes. No pyplot, no global settings, works headless.

Colours are from the Okabe-Ito set; every element also differs in line style, hatch or marker, so black and white will do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from hessian.errors import BadArgument, BadType
from hessian.plotting import draw_limit, new_axes
from hessian.results import Result, StableLR, save_figure
from lrfinder.combine import agreement
from lrfinder.describe import plan
from lrfinder.results import LRCurve, Suggestion

CURVES = (("#0072B2", "-"), ("#CC79A7", "--"), ("#009E73", "-."), ("#E69F00", ":"))
BROKEN = "#888888"
CHOSEN = "#000000"
GOOD = "#009E73"
MARKERS = {"steepest": "v", "valley": "s", "slide": "D", "minimum": "o"}
LOG_FROM = 30.0  # ratio of highest to lowest loss shown from which a linear axis would flatten the valley


def plot(*results: Result, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
    """Draw results on one picture with the learning rate as x axis.

    Args:
        results: ``Suggestion``, ``LRCurve`` and ``StableLR`` in any number; a suggestion brings its curve and limit along.
        path: Where to write it: ``.png``, ``.svg`` or ``.pdf``.
        ax: Axes to draw on; None makes a new figure.

    Returns:
        The figure. It belongs to no pyplot state: nothing pops up and nothing needs closing.

    Raises:
        ValueError, TypeError: If there is nothing to draw, or something that cannot be drawn.
    """
    check_results(results)
    figure, ax = new_axes(ax)
    curves = [item.curve if isinstance(item, Suggestion) else item for item in results if isinstance(item, (Suggestion, LRCurve))]
    limits = [item.limit if isinstance(item, Suggestion) else item for item in results if isinstance(item, (Suggestion, StableLR))]
    suggestions = [item for item in results if isinstance(item, Suggestion)]
    prepare(ax, curves, [limit for limit in limits if limit])
    for curve, (colour, style) in zip(curves, cycled(len(curves)), strict=True):
        draw_curve(curve, ax, colour=colour, style=style, name=curve.optimizer if len(curves) > 1 else "")
    for limit in limits:
        if limit is not None:
            draw_limit(limit, ax)
    for found in suggestions:
        draw_suggestion(found, ax)
    if len(curves) == 1:
        draw_rules(curves[0], ax)
    write_titles(ax, results)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8, frameon=False)
    if path is not None:
        save_figure(figure, path)
    return figure


def check_results(results: Sequence[object]) -> None:
    """Refuse what has no place on a learning-rate axis."""
    if not results:
        raise BadArgument("plot got no result; pass a Suggestion, an LRCurve or a StableLR.")
    for item in results:
        if not isinstance(item, (Suggestion, LRCurve, StableLR)):
            raise BadType(f"plot cannot draw a {type(item).__name__}; pass a Suggestion, an LRCurve or a StableLR.")


def cycled(count: int) -> list[tuple[str, str]]:
    """A colour and a line style for each of ``count`` curves."""
    return [CURVES[i % len(CURVES)] for i in range(count)]


def prepare(ax: Axes, curves: Sequence[LRCurve], limits: Sequence[StableLR]) -> None:
    """Axis scales and ranges that show the valley rather than the explosion."""
    linear = bool(curves) and all(curve.mode == "linear" for curve in curves)
    ax.set_xscale("linear" if linear else "log")
    edges = [lr for curve in curves if len(curve.lrs) for lr in (curve.lrs[0], curve.lrs[-1] * (1.05 if linear else 1.6))]
    edges += [lr for limit in limits for lr in (limit.lr / 3, limit.lr * 3)]
    if edges:
        ax.set_xlim(min(edges), max(edges))
    low, high = loss_range(curves)
    if low > 0 and high / low > LOG_FROM:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.3, high * 1.3)
    elif high > low:
        ax.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.spines[["top", "right"]].set_visible(False)


def loss_range(curves: Sequence[LRCurve]) -> tuple[float, float]:
    """Lowest and highest loss worth showing: batch scatter yes, blow-ups no."""
    shown = []
    for curve in curves:
        if curve.clean:
            smooth, raw = curve.smooth[: curve.clean], curve.losses[: curve.clean]
            typical = raw[raw <= np.quantile(raw, 0.9)]
            shown += [smooth.min(), smooth.max(), typical.min(), min(typical.max(), 2 * smooth.max() - smooth.min())]
    return (float(min(shown)), float(max(shown))) if shown else (0.0, 1.0)


def draw_curve(curve: LRCurve, ax: Axes, *, colour: str = CURVES[0][0], style: str = "-", name: str = "") -> Axes:
    """Raw losses faint, the smooth line, and a shade where the loss breaks."""
    label = f"{name}: " if name else ""
    ax.plot(curve.lrs, curve.losses, ".", color=colour, alpha=0.45, markersize=5, markeredgewidth=0, label=f"{label}loss of one batch")
    ax.plot(curve.lrs, curve.smooth, style, color=colour, linewidth=2, label=f"{label}smoothed")
    if curve.break_lr is not None:
        right = max(ax.get_xlim()[1], curve.break_lr * 1.01)
        ax.axvspan(curve.break_lr, right, color=BROKEN, alpha=0.45, linewidth=0, label=f"{label}loss breaks at {curve.break_lr:.2g}")
        ax.set_xlim(ax.get_xlim()[0], right)
    return ax


def draw_suggestion(found: Suggestion, ax: Axes) -> Axes:
    """The suggested LR as a line with its value written out, its good range as a light band."""
    low, high = found.interval
    ax.axvspan(low, high, facecolor=GOOD, alpha=0.22, linewidth=0, zorder=0.5, label=f"good range {low:.2g} to {high:.2g}")
    for edge in (low, high):
        ax.axvline(edge, color=CHOSEN, linewidth=0.8, linestyle=":")
    ax.axvline(found.lr, color=CHOSEN, linewidth=2.2)
    ax.annotate(
        f"lr {found.lr:.2g}",
        xy=(found.lr, 0.97),
        xycoords=blended_transform_factory(ax.transData, ax.transAxes),
        xytext=(-8, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=15,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
    return ax


def draw_rules(curve: LRCurve, ax: Axes) -> Axes:
    """Thin ticks at the foot of the picture: what the published rules would say."""
    foot = blended_transform_factory(ax.transData, ax.transAxes)
    for name, lr in curve.suggestions().items():
        ax.plot([lr, lr], [0, 0.035], transform=foot, color="#444444", linewidth=1)
        marker = MARKERS.get(name, "x")
        (tick,) = ax.plot([lr], [0.045], marker, color="#444444", markersize=4.5, transform=foot, label=f"{name} {lr:.2g}")
        tick.set_markerfacecolor("white")
    return ax


def write_titles(ax: Axes, results: Sequence[Result]) -> None:
    """What was measured, in two lines above the picture."""
    first = results[0]
    curve = first.curve if isinstance(first, Suggestion) else first
    if isinstance(first, Suggestion):
        agree = agreement(first.curve, first.limit)
        heading = f"suggested lr {first.lr:.2g} ({plan(first)})" + (f"; {agree}" if agree else "")
    else:
        heading = "range test" if isinstance(first, LRCurve) else f"stable up to {getattr(first, 'lr', 0):.2g}"
    if isinstance(curve, (LRCurve, StableLR)):
        what = f"{curve.model}, {curve.optimizer}, batch {curve.batch_size or '?'}, seed {curve.seed}"
        ax.set_title(f"{heading}\n{what}", fontsize=10, loc="left")
