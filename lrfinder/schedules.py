"""Schedules as torch's own schedulers, with the right arguments: CLR, SGDR, 1cycle, linear decay, and a constant LR.

Every factory takes the peak LR of the largest param group, keeps the groups' ratio, and sets ``lr`` and ``initial_lr``. One
``scheduler.step()`` belongs after every ``optimizer.step()``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, CyclicLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from hessian.checks import one_of, positive_float, positive_int
from hessian.errors import BadArgument
from lrfinder.horizon import ONECYCLE_START, advised
from lrfinder.schedule_parts import (
    CLR_BASE,
    MOMENTUM,
    check_rise,
    check_warmup,
    checked,
    clr_step_size,
    momenta,
    place,
    sgdr_cycles,
    shares,
    warmed,
)

if TYPE_CHECKING:
    from lrfinder.results import Suggestion

CLR_GAMMA, CLR_STEPS = 0.99994, 70_000  # exp_range in the paper, and the length of its training
SGDR_CYCLES = 3

S = TypeVar("S", bound=LRScheduler)
Mode = Literal["triangular", "triangular2", "exp_range"]
Anneal = Literal["cos", "linear"]


def clr(
    optimizer: Optimizer,
    max_lr: float,
    total_steps: int,
    *,
    base_lr: float | None = None,
    step_size: int | None = None,
    epoch_steps: int | None = None,
    mode: Mode = "triangular",
    gamma: float | None = None,
    warmup_steps: int = 0,
    warmup_lr: float | None = None,
) -> CyclicLR | SequentialLR:
    """Cyclical learning rates (Smith 2017, arXiv:1506.01186): up and down in straight lines between ``base_lr`` and ``max_lr``.

    ``lr = base + (max - base) max(0, 1 - |t / S - 2 cycle + 1|)`` with ``cycle = floor(1 + t / 2S)`` and the step size ``S``. Momentum
    stays as it is.

    Args:
        optimizer: A torch optimizer; its groups keep the ratio of their LRs.
        max_lr: Top of the first cycle, for the largest group.
        total_steps: Steps of the training: what the defaults of ``step_size`` and ``gamma`` are made for.
        base_lr: Bottom of the cycles; a quarter of ``max_lr`` by default.
        step_size: Steps of half a cycle. By default the training ends with a whole cycle, up to rounding: the third, or another if half
            a cycle would not last 2 to 10 epochs.
        epoch_steps: Steps of one epoch, where they are known.
        mode: ``"triangular"``; ``"triangular2"``, which halves the height with every cycle; ``"exp_range"``, times ``gamma ** t``.
        gamma: For ``"exp_range"``; by default the height decays as far as in the paper: 0.99994 over 70,000 steps.
        warmup_steps: Steps of a straight line up to ``base_lr`` before the cycles.
        warmup_lr: Where it starts; by default one step above zero.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
    """
    ratios, max_lr, total = checked(optimizer, max_lr, total_steps)
    base = max_lr * CLR_BASE if base_lr is None else positive_float("base_lr", base_lr)
    if base > max_lr:
        raise BadArgument(f"base_lr={base:g} is above max_lr={max_lr:g}; swap them.")
    one_of("mode", mode, ("triangular", "triangular2", "exp_range"))
    rise = check_warmup(warmup_steps, total)
    half = clr_step_size(total - rise, epoch_steps) if step_size is None else positive_int("step_size", step_size)
    decay = CLR_GAMMA ** (CLR_STEPS / total) if gamma is None else positive_float("gamma", gamma)
    warm = warmed(optimizer, rise, base, warmup_lr, ratios)
    cycles = CyclicLR(optimizer, shares(base, ratios), shares(max_lr, ratios), half, mode=mode, gamma=decay, cycle_momentum=False)
    return behind(warm, cycles, optimizer, rise)


def sgdr(
    optimizer: Optimizer,
    max_lr: float,
    total_steps: int,
    *,
    T_0: int | None = None,
    T_mult: int = 2,
    cycles: int = SGDR_CYCLES,
    warmup_steps: int = 0,
    warmup_lr: float | None = None,
) -> CosineAnnealingWarmRestarts | SequentialLR:
    """Warm restarts (Loshchilov and Hutter 2017, arXiv:1608.03983): down a cosine to zero, up at once, each time ``T_mult`` times longer.

    ``lr = max (1 + cos(pi T_cur / T_i)) / 2``. Everything counts in steps, so a restart may fall within an epoch. The weights to keep
    are those at the end of a cycle: by default the last one ends with the training.

    Args:
        optimizer: A torch optimizer; its groups keep the ratio of their LRs.
        max_lr: LR after every restart, for the largest group.
        total_steps: Steps of the training.
        T_0: Steps of the first cycle. By default so long that ``cycles`` cycles end with the training; the few steps that do not divide
            are given to the warm-up.
        T_mult: How many times longer every cycle is than the one before.
        cycles: How many cycles, where ``T_0`` is not given; 1 is a cosine without restart.
        warmup_steps: Steps of a straight line up to ``max_lr`` before the first cycle.
        warmup_lr: Where it starts; by default one step above zero.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
    """
    ratios, max_lr, total = checked(optimizer, max_lr, total_steps)
    factor, rise = positive_int("T_mult", T_mult), check_warmup(warmup_steps, total)
    if T_0 is None:
        first, rest = sgdr_cycles(total - rise, factor, positive_int("cycles", cycles))
        rise += rest
    else:
        first = positive_int("T_0", T_0)
    warm = warmed(optimizer, rise, max_lr, warmup_lr, ratios)
    restarts = CosineAnnealingWarmRestarts(optimizer, first, factor)
    return behind(warm, restarts, optimizer, rise)


def linear(
    optimizer: Optimizer, max_lr: float, total_steps: int, *, warmup_steps: int = 0, warmup_lr: float | None = None
) -> LinearLR | SequentialLR:
    """A straight line from ``max_lr`` down to zero, where the training ends.

    Args:
        optimizer: A torch optimizer; its groups keep the ratio of their LRs.
        max_lr: LR where the line begins, for the largest group.
        total_steps: Steps of the training.
        warmup_steps: Steps of a straight line up to ``max_lr`` before that.
        warmup_lr: Where it starts; by default one step above zero.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
    """
    warm, rise, total = begun(optimizer, max_lr, total_steps, warmup_steps, warmup_lr)
    fall = LinearLR(optimizer, 1.0, 0.0, total - rise)
    return behind(warm, fall, optimizer, rise)


def constant(optimizer: Optimizer, max_lr: float, total_steps: int, *, warmup_steps: int = 0, warmup_lr: float | None = None) -> LinearLR:
    """A constant LR behind a warm-up.

    Args:
        optimizer: A torch optimizer; its groups keep the ratio of their LRs.
        max_lr: The LR, for the largest group.
        total_steps: Steps of the training.
        warmup_steps: Steps of a straight line up to ``max_lr``.
        warmup_lr: Where it starts; by default one step above zero.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
    """
    warm, _, _ = begun(optimizer, max_lr, total_steps, warmup_steps, warmup_lr)
    return LinearLR(optimizer, 1.0) if warm is None else warm


def behind(warm: LinearLR | None, scheduler: S, optimizer: Optimizer, rise: int) -> S | SequentialLR:
    """A scheduler, after its warm-up if it has one."""
    return scheduler if warm is None else SequentialLR(optimizer, [warm, scheduler], [rise])


def begun(
    optimizer: Optimizer, max_lr: float, total_steps: int, warmup_steps: int, warmup_lr: float | None
) -> tuple[LinearLR | None, int, int]:
    """The groups where they begin; the warm-up, its steps, and those of the training."""
    ratios, max_lr, total = checked(optimizer, max_lr, total_steps)
    rise = check_warmup(warmup_steps, total)
    return warmed(optimizer, rise, max_lr, warmup_lr, ratios), rise, total


def one_cycle(
    optimizer: Optimizer,
    max_lr: float,
    total_steps: int,
    *,
    start_lr: float | None = None,
    final_div: float = 1e4,
    three_phase: bool = False,
    anneal: Anneal = "cos",
    pct_start: float | None = None,
    momentum: tuple[float, float] | None = MOMENTUM,
) -> OneCycleLR:
    """1cycle (Smith and Topin 2017, arXiv:1708.07120; Smith 2018, arXiv:1803.09820): one rise, one fall, then far below the start.

    By default torch's form: a cosine up over 30 % of the steps and one down to the end. As in the papers, straight lines up and down and
    a last phase that annihilates the LR: ``three_phase=True, anneal="linear"``.

    Args:
        optimizer: A torch optimizer; its groups keep the ratio of their LRs.
        max_lr: The peak, for the largest group.
        total_steps: Steps of the training, after which the scheduler refuses to go on.
        start_lr: LR of the first step; a 25th of ``max_lr`` by default.
        final_div: The last LR is ``start_lr / final_div``.
        three_phase: Down to ``start_lr`` as steeply as up, then to the last LR.
        anneal: ``"cos"`` or ``"linear"``.
        pct_start: Share of the steps for the rise: 0.3 by default, 0.45 with three phases.
        momentum: Lowest and highest momentum (``beta1`` of the Adam family), which falls while the LR rises; None leaves it alone, as
            it is in groups that have none, and with Schedule-Free, where it means something else.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
    """
    ratios, max_lr, total = checked(optimizer, max_lr, total_steps)
    start = max_lr * ONECYCLE_START if start_lr is None else positive_float("start_lr", start_lr)
    if start > max_lr:
        raise BadArgument(f"start_lr={start:g} is above max_lr={max_lr:g}; swap them.")
    one_of("anneal", anneal, ("cos", "linear"))
    rise, final = check_rise(pct_start, three_phase, total), positive_float("final_div", final_div)
    lowest, highest = momenta(optimizer, momentum)
    place(optimizer, start, ratios)
    return OneCycleLR(
        optimizer,
        shares(max_lr, ratios),
        total_steps=total,
        pct_start=rise,
        anneal_strategy=anneal,
        cycle_momentum=lowest != highest,
        base_momentum=lowest,
        max_momentum=highest,
        div_factor=max_lr / start,
        final_div_factor=final,
        three_phase=three_phase,
    )


def suggested_clr(found: Suggestion, optimizer: Optimizer, total_steps: int | None, settings: dict[str, Any]) -> CyclicLR | SequentialLR:
    """``clr`` with what the suggestion knows, under what the caller sets."""
    total, peak = found.total_steps if total_steps is None else total_steps, settings.pop("max_lr", found.lr)
    curve, base = found.curve, settings.get("base_lr") or peak * CLR_BASE
    epoch = math.ceil(curve.samples / curve.batch_size) if curve.samples and curve.batch_size else None
    known = {"epoch_steps": epoch, **suggested_warmup(found, base, total)}
    return clr(optimizer, peak, total, **{**known, **settings})


def suggested(make: Callable[..., S], found: Suggestion, optimizer: Optimizer, total_steps: int | None, settings: dict[str, Any]) -> S:
    """``sgdr``, ``linear`` or ``constant`` with what the suggestion knows, under what the caller sets."""
    total, peak = found.total_steps if total_steps is None else total_steps, settings.pop("max_lr", found.lr)
    return make(optimizer, peak, total, **{**suggested_warmup(found, peak, total), **settings})


def suggested_one_cycle(found: Suggestion, optimizer: Optimizer, total_steps: int | None, settings: dict[str, Any]) -> OneCycleLR:
    """``one_cycle`` with what the suggestion knows, under what the caller sets."""
    total, peak = found.total_steps if total_steps is None else total_steps, settings.pop("max_lr", found.lr)
    known = {} if found.limit is None else {"start_lr": advised(peak, found.limit, total, "onecycle").start_lr}
    return one_cycle(optimizer, peak, total, **{**known, **settings})


def suggested_warmup(found: Suggestion, peak: float, total: int) -> dict[str, Any]:
    """The warm-up to ``peak``."""
    if found.limit is None:
        return {}
    advice = advised(positive_float("max_lr", peak), found.limit, positive_int("total_steps", total), None)
    steps = min(advice.steps, total - 1)
    return {"warmup_steps": steps, "warmup_lr": advice.start_lr} if steps else {}
