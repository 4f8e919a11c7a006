"""Where a scheduler leads, found out on a stand-in: neither the scheduler nor its optimizer is touched."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from hessian.errors import BadType
from hessian.result_base import Floats
from lrfinder.schedule_parts import own_momentum

Schedule = LRScheduler | Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True)
class SchedulePath:
    """LR and momentum of every param group, one row a step.

    Attributes:
        name: Class of the scheduler; of several in a row, that of the last.
        first: Step of the first row.
        lrs: Shape ``(steps, groups)``.
        momenta: The same; 0 where a group has none.
    """

    name: str
    first: int
    lrs: Floats
    momenta: Floats


def follow(schedule: Schedule, steps: int) -> SchedulePath:
    """The next ``steps`` steps of a scheduler, or of the one that a function makes for an optimizer; fewer where 1cycle ends.

    Raises:
        BadType: If it is neither, or follows the loss.
    """
    scheduler = stand_in_for(schedule)
    first, rows = scheduler.last_epoch, list[tuple[list[float], list[float]]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that optimizer.step() was not called: there is nothing to train
        for index in range(min(steps, steps_left(scheduler))):
            if index:
                scheduler.step()
            groups = scheduler.optimizer.param_groups
            rows.append(([float(group["lr"]) for group in groups], [own_momentum(group) for group in groups]))
    return SchedulePath(name_of(scheduler), first, np.array([lrs for lrs, _ in rows]), np.array([momenta for _, momenta in rows]))


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
    copied.param_groups = [{key: own(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return copied


def own(value: Any) -> Any:
    """A copy of a setting."""
    return value.detach().clone() if isinstance(value, Tensor) else copy.copy(value)


def steps_left(scheduler: LRScheduler) -> int:
    """How far it goes: 1cycle refuses to go beyond its end."""
    return scheduler.total_steps - scheduler.last_epoch if isinstance(scheduler, OneCycleLR) else 2**63


def name_of(scheduler: Any) -> str:
    """Class of the scheduler; of several in a row, that of the last."""
    inner = getattr(scheduler, "_schedulers", None)
    return name_of(inner[-1]) if inner else type(scheduler).__name__
