"""What the planned training does to the best LR: its length, its schedule, how often it sees the data.

The constants were fitted on small trainings (horizons of 100 to 100,000 steps); docs/accuracy.md says how well they hold.
"""

from __future__ import annotations

import math

from hessian.checks import LONG, positive_int
from hessian.errors import BadArgument
from lrfinder.constants import CONSTANTS
from lrfinder.warmup import ONECYCLE_SHARE, ONECYCLE_START

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
