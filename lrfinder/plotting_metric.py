"""The metric of a sweep, on a second axis to the right of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hessian.errors import NoSuggestionError
from hessian.plotting import SHOWN, drawable, shown
from lrfinder.curve import LRCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOUR = "#E69F00"
AXIS = "metric"  # label by which a second call finds the axis of the first


def draw_metric(curve: LRCurve, ax: Axes, *, colour: str, legend: bool) -> None:
    """Raw values hardly visible, a thin smooth line, and triangles at base and max LR of the cyclical range."""
    right, name = right_axis(ax), shown(curve.metric_name or "metric")
    lrs = np.clip(curve.lrs, *SHOWN)
    right.plot(lrs, drawable(curve.metric), ".", color=colour, alpha=0.2, markersize=4, markeredgewidth=0)
    right.plot(lrs, drawable(curve.smooth_metric), "-", color=colour, linewidth=1)
    right.set_ylabel(name)
    if legend:
        ax.plot([], [], "-", color=colour, linewidth=1, label=f"{name} (right)")  # the legend is that of the left axis
    try:
        base, top = curve.clr_range()
    except NoSuggestionError:
        return
    heights = [float(curve.smooth_metric[np.searchsorted(curve.lrs, lr)]) for lr in (base, top)]
    right.plot([base, top], heights, "^", color=colour, markersize=6)
    if legend:
        ax.plot([], [], "^", color=colour, markersize=6, label=f"cyclical range {base:.2g} to {top:.2g}")


def draw_metrics(curves: Sequence[LRCurve], colours: Sequence[str], ax: Axes) -> None:
    """Those of several sweeps have the colours of their losses."""
    alone = len(curves) == 1
    for curve, colour in zip(curves, colours, strict=False):
        if len(curve.metric):
            draw_metric(curve, ax, colour=COLOUR if alone else colour, legend=alone)


def right_axis(ax: Axes) -> Axes:
    """Made once."""
    for other in ax.figure.axes:
        if other.get_label() == AXIS and ax.get_shared_x_axes().joined(ax, other):
            return other
    right = ax.twinx()
    right.set_label(AXIS)
    right.spines["top"].set_visible(False)
    return right
