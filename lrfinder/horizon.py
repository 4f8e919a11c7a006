"""What the planned training does to the best LR: its length, its schedule, how often it sees the data; and the warm-up it needs.

The warm-up comes from the curvature limit at step 0 (Kalra and Barkeshli 2024, arXiv:2406.09405).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hessian.checks import LONG, positive_int
from hessian.errors import BadArgument
from hessian.results import StableLR
from lrfinder.constants import CONSTANTS

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


ASSUMED_EPOCHS = 10  # where total_steps is not given
ASSUMED_STEPS = 1000  # and the length of an epoch is not known either
SCHEDULE_NAMES = {"constant": "constant LR", "onecycle": "1cycle peak", "cosine": "cosine peak", "linear": "linear-decay peak"}


def check_schedule(schedule: str | None) -> None:
    if schedule not in (None, *SCHEDULE_NAMES):
        raise BadArgument(f"schedule={schedule!r} is unknown; choose {', '.join(map(repr, SCHEDULE_NAMES))}, or None if it is not decided.")


def planned_steps(total_steps: int | None, samples: int | None, batch_size: int | None) -> int:
    if total_steps is not None:
        return positive_int("total_steps", total_steps)
    if samples and batch_size:
        return min(ASSUMED_EPOCHS * math.ceil(samples / batch_size), LONG - 1)
    return ASSUMED_STEPS


def horizon_factors(
    steps: int, schedule: str | None, samples: int | None, batch_size: int | None, trained: int | None = None, escaped: bool = False
) -> dict[str, float]:
    """What the measured LR is multiplied by, in words, for the peak of such a training.

    ``trained``: steps of the short trainings that the LR is from; None if it is the middle of a sweep's basin. ``escaped``: whether they
    show how soon a plateau is left, which draws their soft minimum up and not down.
    """
    c = CONSTANTS
    reference = trained or c.reference_steps
    if trained is None:
        factors = {"sweep to training": 10**c.from_sweep}
    elif escaped:
        factors = {}
    else:
        factors = {"soft minimum to best": 10 ** (c.from_trainings + c.from_longer * math.log10(trained / c.usual_training))}
    if schedule in ("onecycle", "cosine", "linear"):
        factors[SCHEDULE_NAMES[schedule]] = 10**c.decaying
    factors[f"{steps:,} steps, not {reference}"] = (min(steps, max(c.largest_steps, reference)) / reference) ** -c.steps
    if samples and batch_size:
        passes = min(steps * min(batch_size, c.batch_cap) / samples, c.largest_passes)
        factors[f"data seen {passes:.3g} times"] = (1 + passes / c.passes) ** -c.epochs
    return factors


def schedule_shape(schedule: str | None, step: int, steps: int) -> float:
    """Multiplier of the peak LR at ``step`` of ``steps``; 1cycle is that of ``torch.optim.lr_scheduler.OneCycleLR``'s defaults."""
    if schedule == "linear":
        return 1 - step / steps
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    if schedule != "onecycle":
        return 1.0
    peak = ONECYCLE_SHARE * steps - 1  # below zero for fewer than four steps, as in torch: such a training only decays
    low, progress = (ONECYCLE_START, step / peak) if step <= peak else (4e-6, 1 - (step - peak) / (steps - 1 - peak))
    return low + (1 - low) * (1 - math.cos(math.pi * progress)) / 2
