"""What the factories of schedules share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR

from hessian.checks import positive_float, positive_int, whole_number
from hessian.errors import BadArgument, BadType
from hessian.groups import Group, lr_ratios, write_lr
from lrfinder.horizon import ONECYCLE_SHARE

CLR_BASE = 1 / 4  # base over max: Smith 2017 (arXiv:1506.01186) takes a third or a quarter
CLR_EPOCHS = 2, 10  # epochs of half a cycle in that paper
CLR_CYCLES = 3  # the least for a good result there
THREE_PHASE_SHARE = 0.45  # of the steps for the rise and as much for the fall; the last tenth is the annihilation
MOMENTUM = 0.85, 0.95  # at the peak and at the ends (Smith 2018, arXiv:1803.09820)


def checked(optimizer: Any, max_lr: Any, total_steps: Any) -> tuple[list[float], float, int]:
    """The groups' ratios, the peak and the length, if they can be right."""
    if not isinstance(optimizer, Optimizer):
        raise BadType(
            f"optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer; pass the object whose step() trains the model."
        )
    return lr_ratios(optimizer), positive_float("max_lr", max_lr), positive_int("total_steps", total_steps)


def check_warmup(steps: Any, total: int) -> int:
    """The steps of a warm-up, if a training is left behind it."""
    rise = whole_number("warmup_steps", steps)
    if rise >= total:
        raise BadArgument(f"warmup_steps={rise} leaves nothing of total_steps={total}; pass fewer.")
    return rise


def check_rise(share: float | None, three_phase: bool, total: int) -> float:
    """The share of the steps for 1cycle's rise, if torch's scheduler can make it."""
    rise = positive_float("pct_start", (THREE_PHASE_SHARE if three_phase else ONECYCLE_SHARE) if share is None else share)
    if rise > (0.5 if three_phase else 1.0):
        raise BadArgument(f"pct_start={rise:g} is more than {'half of' if three_phase else 'all'} the steps; pass one such as 0.3.")
    if rise * total == 1:
        raise BadArgument(f"pct_start={rise:g} of total_steps={total} is one step, with which OneCycleLR divides by zero; pass another.")
    return rise


def clr_step_size(total: int, epoch: int | None) -> int:
    """Steps of half a cycle: whole cycles fill ``total``, three of them where that gives 2 to 10 epochs."""
    cycles = CLR_CYCLES
    if epoch is not None:
        least, most = (edge * positive_int("epoch_steps", epoch) for edge in CLR_EPOCHS)
        cycles = min(max(cycles, math.ceil(total / (2 * most))), max(1, total // (2 * least)))
    return max(1, total // (2 * cycles))


def sgdr_cycles(total: int, factor: int, cycles: int) -> tuple[int, int]:
    """Steps of the first of ``cycles`` cycles, fewer where there are not as many steps, and the steps that are over."""
    lengths, longest = [1], min(cycles, total)
    while len(lengths) < longest and sum(lengths) + lengths[-1] * factor <= total:
        lengths.append(lengths[-1] * factor)
    return total // sum(lengths), total % sum(lengths)


def shares(lr: float, ratios: Sequence[float]) -> list[float]:
    return [lr * ratio for ratio in ratios]


def place(optimizer: Any, lr: float, ratios: Sequence[float]) -> None:
    """Put every group where the schedule begins, and ``initial_lr``, which torch's schedulers take for their base."""
    for group, share in zip(optimizer.param_groups, shares(lr, ratios), strict=True):
        group["initial_lr"] = share
    write_lr(optimizer, lr, ratios)


def warmed(optimizer: Optimizer, steps: int, peak: float, start: float | None, ratios: Sequence[float]) -> LinearLR | None:
    """Every group at ``peak``, and a straight line up to it, None without steps; from zero, the first of them is one above it."""
    share = 1 / (steps + 1) if start is None or start == 0 else positive_float("warmup_lr", start) / peak
    if share > 1:
        raise BadArgument(f"warmup_lr={start:g} is above the {peak:g} that the warm-up leads to; pass less.")
    place(optimizer, peak, ratios)
    return LinearLR(optimizer, start_factor=share, total_iters=steps) if steps else None


def momenta(optimizer: Any, momentum: tuple[float, float] | None) -> tuple[list[float], list[float]]:
    """The lowest and highest momentum of every group; the same where it is not to move."""
    if momentum is not None and not (len(momentum) == 2 and 0 <= momentum[0] <= momentum[1] < 1):
        raise BadArgument(f"momentum={momentum!r} is no pair of a lowest and a highest one below 1; pass one such as {MOMENTUM}, or None.")
    present = [own_momentum(group) for group in optimizer.param_groups]
    if momentum is None or not can_cycle(optimizer):
        return present, present
    pairs = [momentum if value > 0 else (value, value) for value in present]
    return [low for low, _ in pairs], [high for _, high in pairs]


def can_cycle(optimizer: Any) -> bool:
    """Whether momentum is a number that may change between steps: Schedule-Free reads its weights by it, in ``train()`` and ``eval()``."""
    betas = [group["betas"][0] for group in optimizer.param_groups if "betas" in group]
    return not (callable(getattr(optimizer, "train", None)) or any(isinstance(beta, Tensor) for beta in betas))


def own_momentum(group: Group) -> float:
    """Momentum or ``beta1`` of a group; 0 where it has none."""
    return float(group["betas"][0]) if "betas" in group else float(group.get("momentum", 0.0))
