"""Whether the first steps need a warm-up, and how long: from the curvature limit at step 0 (Kalra and Barkeshli 2024, arXiv:2406.09405)."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE = 0.1  # of the planned steps: what a warm-up from zero is usually given
ONECYCLE_START, ONECYCLE_SHARE = 1 / 25, 0.3  # the defaults of torch.optim.lr_scheduler.OneCycleLR


@dataclass(frozen=True)
class WarmUp:
    """How the learning rate should rise at the start.

    Attributes:
        steps: Length of a linear warm-up; 0 if none is needed.
        start_lr: Where it starts, for the largest param group; the suggestion itself if none is needed.
        own: Whether the planned schedule has it already (1cycle), so that only ``start_lr`` is advice.
    """

    steps: int
    start_lr: float
    own: bool = False


def warm_up(lr: float, limit_lr: float, total_steps: int, schedule: str | None) -> WarmUp:
    """The warm-up that leads from the largest LR that is stable at step 0 to ``lr``.

    One from zero is safe below the limit anyway, so its first ``limit / lr`` is left out; below the limit none is needed. What it is
    worth was measured (docs/accuracy.md#warm-up).

    Args:
        lr: Peak of the planned training.
        limit_lr: The largest LR that is stable at the initial weights, above 0.
        total_steps: Planned steps.
        schedule: Planned schedule; 1cycle warms up by itself, from a 25th of its peak over 30 % of the steps.
    """
    if schedule == "onecycle":
        return WarmUp(round(ONECYCLE_SHARE * total_steps), min(lr * ONECYCLE_START, limit_lr), own=True)
    if lr <= limit_lr:
        return WarmUp(0, lr)
    return WarmUp(math.ceil(SHARE * total_steps * (1 - limit_lr / lr)), limit_lr)
