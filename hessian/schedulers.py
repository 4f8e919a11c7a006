"""Whether the schedulers of an optimizer keep what is written into it."""

from __future__ import annotations

import gc
from typing import Any

from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from hessian.errors import BadArgument

# A step of these multiplies the LR that is there, by nothing at the start. All others compute it from a base that they keep for themselves.
MULTIPLYING = (
    lr_scheduler.StepLR,
    lr_scheduler.MultiStepLR,
    lr_scheduler.ExponentialLR,
    lr_scheduler.MultiplicativeLR,
    lr_scheduler.PolynomialLR,
    lr_scheduler.CosineAnnealingLR,
    lr_scheduler.ReduceLROnPlateau,
    lr_scheduler.ChainedScheduler,  # its parts are looked at themselves
)


def schedulers_of(optimizer: Any) -> list[LRScheduler]:
    """Nothing leads from an optimizer to them, but torch marks its ``step`` for all but one kind."""
    if not hasattr(getattr(optimizer, "step", None), "_wrapped_by_lr_sched"):
        return []
    alive = [thing for thing in gc.get_objects() if issubclass(type(thing), LRScheduler)]  # isinstance would ask proxies and run their code
    return [scheduler for scheduler in alive if getattr(scheduler, "optimizer", None) is optimizer]


def check_no_scheduler(optimizer: Any) -> None:
    """Refuse to write LRs that a scheduler would overwrite."""
    names = [type(scheduler).__name__ for scheduler in schedulers_of(optimizer) if type(scheduler) not in MULTIPLYING]
    if names:
        raise BadArgument(
            f"{names[0]} is attached to the optimizer and would undo apply() at its next step; call apply() first and make the scheduler "
            "afterwards, with the suggestion as its max_lr where it takes one."
        )
