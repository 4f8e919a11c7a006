"""What the planned training does to the best LR: its length, its schedule, how often it sees the data.

The constants were fitted on small trainings (horizons of 100 to 100,000 steps); docs/choosing.md says how well they hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from hessian.checks import positive_int
from hessian.errors import BadArgument
from lrfinder.results import Schedule


@dataclass(frozen=True)
class HorizonConstants:
    """Exponents and offsets in log10 of the LR.

    Attributes:
        base: From the basin's midpoint to the best constant LR of a 200-step training.
        decaying: Extra for the peak of a schedule that decays to zero: it may be twice a constant LR.
        steps: Fresh data: the best LR falls with the number of steps to this power.
        epochs: Data seen again and again: it falls faster, with the number of effective passes to this power.
        passes: Effective passes from which that sets in.
        reference_steps: Where the ``steps`` term is zero.
        largest_steps: Beyond it the ``steps`` term is held.
        batch_cap: Samples of a batch that count towards passes; larger batches were not seen to over-fit faster.
    """

    base: float = -0.6
    decaying: float = 0.30
    steps: float = 0.30
    epochs: float = 0.75
    passes: float = 8.0
    reference_steps: int = 200
    largest_steps: int = 100_000
    batch_cap: int = 64
    largest_passes: float = 1000.0


CONSTANTS = HorizonConstants()
ASSUMED_EPOCHS = 10  # where total_steps is not given
ASSUMED_STEPS = 1000  # and the length of an epoch is not known either
SCHEDULE_NAMES = {"constant": "constant LR", "onecycle": "1cycle peak", "cosine": "cosine peak", "linear": "linear-decay peak"}


def check_schedule(schedule: str | None) -> None:
    """Refuse unknown schedules."""
    if schedule is not None and schedule not in get_args(Schedule):
        known = ", ".join(repr(name) for name in get_args(Schedule))
        raise BadArgument(f"schedule={schedule!r} is unknown; choose {known}, or None if it is not decided.")


def planned_steps(total_steps: int | None, samples: int | None, batch_size: int | None) -> int:
    """The training's length: as given, else ten epochs, else a thousand steps."""
    if total_steps is not None:
        return positive_int("total_steps", total_steps)
    if samples and batch_size:
        return ASSUMED_EPOCHS * math.ceil(samples / batch_size)
    return ASSUMED_STEPS


def horizon_factors(steps: int, schedule: str | None, samples: int | None, batch_size: int | None) -> dict[str, float]:
    """What the midpoint of the basin is multiplied by, in words, for the peak LR of such a training."""
    c = CONSTANTS
    factors = {"sweep to training": 10**c.base}
    if schedule in ("onecycle", "cosine", "linear"):
        factors[SCHEDULE_NAMES[schedule]] = 10**c.decaying
    factors[f"{steps:,} steps"] = (min(steps, c.largest_steps) / c.reference_steps) ** -c.steps
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
    if schedule == "onecycle":
        return onecycle_shape(step, steps)
    return 1.0


def onecycle_shape(step: int, steps: int, warmup: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> float:
    """Cosine up from ``start`` over the ``warmup`` share of the steps, cosine down to ``end``."""
    peak = warmup * steps - 1  # below zero for fewer than four steps, as in torch: such a training only decays
    low, progress = (start, step / peak) if step <= peak else (end, 1 - (step - peak) / (steps - 1 - peak))
    return low + (1 - low) * (1 - math.cos(math.pi * progress)) / 2
