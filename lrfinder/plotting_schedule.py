"""The picture of a schedule."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessian.checks import positive_int
from hessian.errors import BadArgument
from hessian.plotting import draw_legend, new_axes
from hessian.result_base import save_figure
from lrfinder.plotting import CURVES, TRAINED

if TYPE_CHECKING:
    from lrfinder.schedule_path import Schedule, SchedulePath


def plot_schedule(*schedules: Schedule, steps: int, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
    """Draw the LR that schedulers will set over the next steps, and momentum where they move it. They are followed on a stand-in.

    Args:
        schedules: Torch schedulers, or functions that make one for an optimizer, such as ``found.one_cycle``; such a function gets a
            stand-in of one group.
        steps: How many steps to draw.
        path: Where to write it: ``.png``, ``.svg`` or ``.pdf``.
        ax: Axes to draw on; None makes a new figure.

    Returns:
        The figure. Of several param groups it has the largest LR, or, for a single schedule, every LR that differs.

    Raises:
        BadArgument, BadType: If there is nothing to follow.
    """
    from lrfinder.schedule_path import follow

    if not schedules:
        raise BadArgument("plot_schedule got no schedule; pass a torch scheduler, or a function of an optimizer that makes one.")
    positive_int("steps", steps)
    paths = [follow(schedule, steps) for schedule in schedules]
    figure, ax = new_axes(ax)
    for found, (colour, style) in zip(paths, CURVES * len(paths), strict=False):
        draw_path(found, ax, colour=colour, style=style, every=len(paths) == 1)
    draw_momenta(paths, ax)
    ax.set_xlabel("step")
    ax.set_ylabel("learning rate")
    draw_legend(ax)
    if path is not None:
        save_figure(figure, path)
    return figure


def draw_path(path: SchedulePath, ax: Axes, *, colour: str, style: str, every: bool) -> Axes:
    """The LR of the largest group as a line; with ``every``, those of the others fainter."""
    order = np.argsort(-path.lrs.max(axis=0), kind="stable")
    shown_lrs = list(dict.fromkeys(tuple(path.lrs[:, index].tolist()) for index in order))[: None if every else 1]
    steps = path.first + np.arange(len(path.lrs))
    for rank, lrs in enumerate(shown_lrs):
        label = f"{path.name}, peak {max(lrs):.2g}" if rank == 0 else "other param groups" if rank == 1 else f"_group {rank}"
        ax.plot(steps, lrs, style, color=colour, linewidth=1.8 if rank == 0 else 1, alpha=1 if rank == 0 else 0.6, label=label)
    return ax


def draw_momenta(paths: Sequence[SchedulePath], ax: Axes) -> None:
    """Momentum on an axis of its own at the right, where it moves."""
    moving = [path for path in paths if np.ptp(path.momenta, axis=0).any()]
    if not moving:
        ax.spines[["top", "right"]].set_visible(False)
        return
    right = ax.twinx()
    right.set_ylabel("momentum")
    for path in moving:
        group = int(np.ptp(path.momenta, axis=0).argmax())
        steps = path.first + np.arange(len(path.momenta))
        right.plot(steps, path.momenta[:, group], ":", color=TRAINED, linewidth=1.4)
    ax.plot([], [], ":", color=TRAINED, label="momentum (right)")
    right.spines["top"].set_visible(False)
    ax.spines["top"].set_visible(False)
