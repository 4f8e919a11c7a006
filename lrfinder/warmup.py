"""Whether the first steps need a warm-up, and how long: from the curvature limit at step 0 (Kalra and Barkeshli 2024, arXiv:2406.09405)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hessian.results import StableLR

SHARE = 0.1  # of the planned steps: what a warm-up from zero is usually given
ONECYCLE_START, ONECYCLE_SHARE = 1 / 25, 0.3  # the defaults of torch.optim.lr_scheduler.OneCycleLR


@dataclass(frozen=True)
class WarmUp:
    """How the learning rate should rise at the start.

    Attributes:
        steps: Length of a linear warm-up; 0 if none is needed.
        start_lr: Where it starts, for the largest param group; the suggestion itself if none is needed, zero if nothing better is known.
        own: Whether the planned schedule has it already (1cycle), so that only ``start_lr`` is advice.
    """

    steps: int
    start_lr: float
    own: bool = False


def warm_up(lr: float, limit_lr: float, total_steps: int, schedule: str | None, first_lr: float | None = None) -> WarmUp:
    """The warm-up that leads from the largest LR that is stable at step 0 to ``lr``.

    One from zero is safe below that LR anyway, so its first ``first_lr / lr`` is left out; below the limit none is needed. What it is
    worth was measured (docs/accuracy.md#warm-up, docs/papers.md#warm-up). 1cycle has one of its own.

    ``limit_lr``: the limit at the initial weights, above 0. ``first_lr``: that of the very first step, where it is another one; 0 if it is
    unknown, which makes it a warm-up from zero.
    """
    start = limit_lr if first_lr is None else min(first_lr, limit_lr)
    if schedule == "onecycle":
        return WarmUp(round(ONECYCLE_SHARE * total_steps), min(lr * ONECYCLE_START, start or limit_lr), own=True)
    if lr <= limit_lr:
        return WarmUp(0, lr)
    return WarmUp(math.ceil(SHARE * total_steps * (1 - start / lr)), start)


def advised(lr: float, limit: StableLR, total_steps: int, schedule: str | None) -> WarmUp:
    """``warm_up`` with what is known of the limit.

    An adaptive optimizer makes its first step with the preconditioner of a single batch, nearly a sign step, whose limit is mostly a
    tenth of the steady one or less. Begun at the steady limit, a warm-up with Adam gained nothing (docs/papers.md#warm-up).
    """
    first = 0.0 if limit.preconditioned and limit.first_step_lr is None else limit.first_step_lr
    return warm_up(lr, limit.curvature_lr, total_steps, schedule, first)
