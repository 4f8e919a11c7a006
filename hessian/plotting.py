"""The curvature limit on an Axes. No pyplot and no global settings: it works headless and inside anyone's figure."""

from __future__ import annotations

import os
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessian.results import StableLR, save_figure

LIMIT_COLOUR = "#D55E00"  # vermillion of the Okabe-Ito set, told apart from its neighbours by colour-blind eyes


def draw_limit(limit: StableLR, ax: Axes) -> Axes:
    """A dashed line at the limit and a hatched band above it; the x axis must be the learning rate."""
    left, right = ax.get_xlim()
    right = max(right, limit.lr * 1.01)
    ax.axvspan(limit.lr, right, facecolor="none", edgecolor=LIMIT_COLOUR, alpha=0.35, hatch="///", linewidth=0, zorder=0.6)
    ax.axvline(limit.lr, color=LIMIT_COLOUR, linestyle=(0, (5, 2)), linewidth=1.6, label=f"curvature limit {limit.lr:.2g}")
    ax.set_xlim(left, right)
    return ax


def new_axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The figure and axes to draw on: the caller's, or new ones."""
    if ax is not None:
        return cast(Figure, ax.get_figure(root=True)), ax
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    return figure, figure.add_subplot()


def plot_limit(limit: StableLR, path: str | os.PathLike[str] | None, ax: Axes | None) -> Figure:
    """The limit alone, on a logarithmic LR axis three decades wide."""
    figure, ax = new_axes(ax)
    if ax.get_xscale() != "log":
        ax.set_xscale("log")
        ax.set_xlim(limit.lr / 100, limit.lr * 10)
        ax.set_yticks([])
        ax.set_xlabel("learning rate")
    draw_limit(limit, ax)
    ax.set_title(f"{limit.optimizer}: stable up to {limit.lr:.3g} ({limit.formula}, sharpness {limit.sharpness:.3g})", fontsize=10)
    ax.legend(loc="upper left")
    if path is not None:
        save_figure(figure, path)
    return figure
