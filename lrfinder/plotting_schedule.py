"""The picture of a schedule, followed on a stand-in: neither it nor its optimizer is touched."""

from __future__ import annotations

import copy
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from hessian.checks import positive_int
from hessian.errors import BadArgument, BadType
from hessian.plotting import finished, new_axes
from hessian.result_base import Floats
from lrfinder.plotting import CURVES, TRAINED
from lrfinder.schedule_parts import own_momentum

Schedule = LRScheduler | Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True)
class SchedulePath:
    """LR and momentum of every param group, one row a step."""

    name: str
    steps: range
    lrs: Floats  # shape (steps, groups)
    momenta: Floats  # the same; 0 where a group has none


def follow(schedule: Schedule, steps: int) -> SchedulePath:
    """The next ``steps`` steps of a scheduler, or of the one that a function makes for an optimizer; fewer where 1cycle ends."""
    scheduler = stand_in_for(schedule)
    first, lrs, momenta = scheduler.last_epoch, list[list[float]](), list[list[float]]()
    left = scheduler.total_steps - first if isinstance(scheduler, OneCycleLR) else steps  # it refuses to go beyond its end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that optimizer.step() was not called: there is nothing to train
        for index in range(min(steps, left)):
            if index:
                scheduler.step()
            groups = scheduler.optimizer.param_groups
            lrs.append([float(group["lr"]) for group in groups])
            momenta.append([own_momentum(group) for group in groups])
    return SchedulePath(name_of(scheduler), range(first, first + len(lrs)), np.array(lrs), np.array(momenta))


def stand_in_for(schedule: Any) -> LRScheduler:
    """A copy whose optimizer has no parameters."""
    if not isinstance(schedule, LRScheduler):
        if not callable(schedule):
            raise BadType(
                f"plot_schedule cannot follow a {type(schedule).__name__}; pass a torch scheduler, or a function of an optimizer."
            )
        schedule = schedule(torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9))
    if isinstance(schedule, ReduceLROnPlateau) or not isinstance(schedule, LRScheduler):
        raise BadType(f"plot_schedule cannot follow a {type(schedule).__name__}, which needs a training; pass a scheduler of steps alone.")
    optimizer = schedule.optimizer
    return copy.deepcopy(schedule, {id(optimizer): empty_copy(optimizer)})


def empty_copy(optimizer: Any) -> Optimizer:
    """An optimizer with the same settings and without parameters or state: copying those could take gigabytes."""
    copied = Optimizer.__new__(Optimizer)
    copied.defaults, copied.state = dict(optimizer.defaults), defaultdict(dict)
    copied.param_groups = [
        {key: value.detach().clone() if isinstance(value, Tensor) else copy.copy(value) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return copied


def name_of(scheduler: Any) -> str:
    """Class of the scheduler; of several in a row, that of the last."""
    inner = getattr(scheduler, "_schedulers", None)
    return name_of(inner[-1]) if inner else type(scheduler).__name__


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
    return finished(figure, ax, path)


def draw_path(path: SchedulePath, ax: Axes, *, colour: str, style: str, every: bool) -> None:
    """The LR of the largest group as a line; with ``every``, those of the others fainter."""
    order = np.argsort(-path.lrs.max(axis=0), kind="stable")
    shown_lrs = list(dict.fromkeys(tuple(path.lrs[:, index].tolist()) for index in order))[: None if every else 1]
    for rank, lrs in enumerate(shown_lrs):
        label = f"{path.name}, peak {max(lrs):.2g}" if rank == 0 else "other param groups" if rank == 1 else f"_group {rank}"
        ax.plot(path.steps, lrs, style, color=colour, linewidth=1.8 if rank == 0 else 1, alpha=1 if rank == 0 else 0.6, label=label)


def draw_momenta(paths: Sequence[SchedulePath], ax: Axes) -> None:
    """Momentum, where it moves, on an axis of its own."""
    moving = [path for path in paths if np.ptp(path.momenta, axis=0).any()]
    if not moving:
        ax.spines[["top", "right"]].set_visible(False)
        return
    right = ax.twinx()
    right.set_ylabel("momentum")
    for path in moving:
        right.plot(path.steps, path.momenta[:, np.ptp(path.momenta, axis=0).argmax()], ":", color=TRAINED, linewidth=1.4)
    ax.plot([], [], ":", color=TRAINED, label="momentum (right)")
    right.spines["top"].set_visible(False)
    ax.spines["top"].set_visible(False)
