"""``find_lr``: the one call. Sweeps, short trainings, curvature, suggestion, confirmation; everything put back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hessian.batches import Batches
from hessian.checks import whole_number
from hessian.curvature_settings import CurvatureSettings
from hessian.errors import CurvatureError, NoSuggestionError
from hessian.losses import LossFn
from hessian.problem import Problem
from hessian.recipe import Autocast, StepFn
from hessian.results import StableLR
from hessian.snapshot import Place, Snapshot
from hessian.stable import measure_limit
from lrfinder.basin import escaped, small_rise
from lrfinder.budget import CHECK, CURVATURE, PRODUCT, SWEEP, TRAININGS, Budget, Spent, expected_gradients, split_budget
from lrfinder.combine import LOWERED, limit_doubts, suggest_lr
from lrfinder.describe import factors_text
from lrfinder.doubts import Doubt
from lrfinder.horizon import check_schedule, planned_steps
from lrfinder.probe import Prober, short_trainings
from lrfinder.progress import Progress
from lrfinder.ramp import Ramp
from lrfinder.results import Confirmation, Schedule, Suggestion
from lrfinder.search import two_speed_sweep
from lrfinder.setaside import set_aside
from lrfinder.steps import Recorded

PATIENCE = 4  # times the length of the training at the answer, before a lower one is tried
RETRIES = 4  # each a third of the LR before: two decades in all
LOWER = 1 / 3
LOGGER = logging.getLogger("lrfinder")
CURVATURE_TOL = 0.1  # an LR limit need not be finer, and 1 % takes half as many products again


def find_lr(
    model: nn.Module,
    optimizer: Any,
    data: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    val_data: Any = None,
    total_steps: int | None = None,
    schedule: Schedule | None = "onecycle",
    budget: str | int = "standard",
    start_lr: float = 1e-7,
    end_lr: float = 100.0,
    curvature: bool = True,
    seed: int = 0,
    progress: bool | None = None,
    device: torch.device | str | None = None,
    accumulate: int = 1,
    autocast: Autocast | None = None,
    scaler: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    step_fn: StepFn | None = None,
    keep: Sequence[Any] = (),
    snapshot: Place = "device",
) -> Suggestion:
    """The learning rate to train this model with, measured, and confirmed by a short training.

    A range test over real batches finds where the loss falls and where it breaks; short trainings around the place say which LR lowers
    the loss on samples that they do not train on; what is planned (length, schedule, passes over the data) is allowed for
    (docs/choosing.md); curvature and the optimizer's own stability limit say what the first steps tolerate. A training at the answer
    must lower the loss, or the answer is lowered until it does. Model, optimizer, data and random generators are untouched afterwards.

    Args:
        model: The model as it will be trained, in train or eval mode as it stands.
        optimizer: Its optimizer; param groups keep the ratio of their base LRs, and results report the largest group's.
        data: Batches that can be read more than once (a ``DataLoader``, a list), or a function that returns one.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)`` or ``(input, another, ..., target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss``. Beside a ``step_fn`` they score
            and give curvature; without them your steps at LR zero score, and there is no curvature.
        val_data: Batches on which the short trainings are scored; without them a fifth of ``data``, at most eight batches, is set aside.
        total_steps: Steps of the planned training; None assumes ten epochs, and says so.
        schedule: ``"constant"``, ``"onecycle"``, ``"cosine"``, ``"linear"``, or None if unknown: ``lr`` is its peak.
        budget: ``"quick"`` (about 150 gradients), ``"standard"`` (350), ``"thorough"`` (850) or a number of gradients; about three times as
            many where short trainings gain so little that they may have ended on a plateau, since longer ones are then made.
        start_lr: Lowest learning rate of the sweep.
        end_lr: Highest learning rate of the sweep.
        curvature: Whether to measure the curvature limit.
        seed: Of every random generator; the same seed gives the same answer.
        progress: Show a bar on stderr; None shows one on a terminal and in a notebook.
        device: Where batches are moved; None leaves them.
        accumulate: Micro-batches of one optimizer step, so of one step here. Each gradient is divided by this number, as usual; the last
            step of a pass may have fewer.
        autocast: A lower precision of the forward passes: a dtype such as ``torch.bfloat16``, or a function that returns a context manager.
        scaler: The ``torch.amp.GradScaler`` of the training; a step that it skips is made again at the same LR.
        clip_norm: Largest norm of the gradient before a step, as in ``torch.nn.utils.clip_grad_norm_``.
        clip_value: Largest magnitude of its entries, as in ``torch.nn.utils.clip_grad_value_``; applied first.
        step_fn: ``step_fn(batch) -> loss``, your whole training step in place of all that, backward pass and ``optimizer.step()`` included;
            ``model`` and ``optimizer`` may then be lists of several. With ``accumulate`` it gets a tuple of micro-batches.
        keep: Whatever else your loss, hooks or optimizer change and must come back: EMA copies, schedulers, a ``GradScaler``, generators.
        snapshot: Where the copy of what must come back lies: ``"device"`` beside the original, or ``"cpu"`` in the host's memory.

    Returns:
        The suggestion with its interval, the evidence and the doubts.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        NoSuggestionError: If the sweep carries no suggestion; its ``curve`` holds what was recorded.
        KeyboardInterrupt: On Ctrl-C, with what was recorded as its ``curve``.
        Exception: Whatever the model, loss, data or optimizer raised, with what was recorded as its ``curve``.
    """
    problem = Problem(
        model,
        optimizer,
        data,
        criterion,
        loss_fn=loss_fn,
        device=device,
        accumulate=accumulate,
        autocast=autocast,
        scaler=scaler,
        clip_norm=clip_norm,
        clip_value=clip_value,
        step_fn=step_fn,
    )
    problem.require_optimizer()
    held_out = None if val_data is None else Batches(val_data, problem.device, name="val_data", team=problem.team)
    check_schedule(schedule)
    planned_steps(total_steps, None, None)
    spend = split_budget(budget).held_to(total_steps)
    Ramp(start_lr, end_lr, 2)
    whole_number("seed", seed)
    spent, bar = Spent(), Progress(progress)
    spent.looked(problem.has_loss)  # the first loss
    recorded, extra = Recorded(), [] if held_out is None else [held_out.data]
    phases = expected_gradients(spend, start_lr, end_lr, curvature)
    LOGGER.debug("budget %s: %s", budget, ", ".join(f"{name} about {cost:.0f} gradients" for name, cost in phases.items()))
    with recorded.carried(), problem.preserved(*extra, keep=keep, snapshot=snapshot) as start, bar.whole(phases, spent):
        problem.seed(seed)
        first = problem.check_first_loss()
        aside = set_aside(problem.batches, held_out, seed)
        prober = Prober(problem, start, aside, seed, bar, spent)  # bad val_data must not cost a sweep
        curve = two_speed_sweep(problem, start, (start_lr, end_lr), spend, seed, bar, first, spent, recorded)
        finish(bar, SWEEP, curve)
        probes = short_trainings(curve, prober, spend)
        finish(bar, TRAININGS, probes)
        suggested = partial(suggest_lr, curve, probes=probes, total_steps=total_steps, schedule=schedule)
        limit, reason = curvature_limit(problem, start, spend, seed, spent, bar, suggested().lr) if curvature else (None, None)
        finish(bar, CURVATURE, limit or reason)
        found = suggested(limit, no_limit=reason)
        LOGGER.debug("lr %.3g: %s", found.lr, factors_text(found))
        with bar.named(CHECK):
            found = replace(confirm(found, prober, spend), gradients=round(spent.gradients, 1))
        finish(bar, CHECK, found.confirmation)
        return found


def finish(bar: Progress, phase: str, result: object) -> None:
    bar.done(phase)
    LOGGER.debug("%s: %s", phase, "none" if result is None else result)


def curvature_limit(
    problem: Problem, snapshot: Snapshot, spend: Budget, seed: int, spent: Spent, bar: Progress, lr: float
) -> tuple[StableLR | None, str | None]:
    """The limit, or why there is none; that of the first step too, if ``lr`` needs a warm-up."""
    if not problem.has_loss:
        return None, "step_fn gives no loss to differentiate; pass criterion or loss_fn beside it"
    if len(problem.optimizers) > 1:
        return None, "several optimizers have no stability limit in common; call hessian.stable_lr for each"
    snapshot.restore()
    costs = {"step": 1.0, "product": PRODUCT * spend.batches}
    settings = CurvatureSettings(
        spend.batches, CURVATURE_TOL, seed, spend.products, first_step_for=lr, stop="gap", told=lambda what: bar.advance(costs[what])
    )
    try:
        limit = measure_limit(problem, settings)
    except CurvatureError as error:
        return None, str(error)
    spent.steps += limit.gradients
    spent.products += limit.hvps * limit.num_batches
    return limit, None


def confirm(found: Suggestion, prober: Prober, spend: Budget) -> Suggestion:
    """The suggestion, tried out; lowered until a short training gets better, not worse, down to a hundredth of it.

    A training at a constant LR at or above it, made before, will do: a schedule is below its peak most of the time.
    """
    plateau = Doubt.PLATEAU in found.doubts
    if not plateau and (above := passed_above(found)):
        return confirmed(found, above, 1.0)
    tried = prober.confirm(found.lr, spend.trial, found.schedule)
    longer = min(PATIENCE * spend.trial, found.total_steps)
    if not tried.passed:  # a plateau at the start is no failure
        tried = prober.confirm(found.lr, longer, found.schedule)
        if is_flat(tried, found, plateau):
            found = confirmed(found, tried, 1.0)
            return found if plateau else replace(found, doubts=(*found.doubts, Doubt.PLATEAU))
    while not tried.passed and tried.lr > found.lr * LOWER ** (RETRIES - 0.5):
        tried = prober.confirm(tried.lr * LOWER, longer, found.schedule)
    if not tried.passed:
        raise NoSuggestionError(
            f"trainings of {tried.steps} steps at LRs from {found.lr:.2g} down to {tried.lr:.2g} all left the held-out loss at or above "
            f"its start ({tried.before:.4g}); check the data and the loss, or pass more or other val_data.",
            curve=found.curve,
        )
    return confirmed(found, tried, tried.lr / found.lr)


def is_flat(tried: Confirmation, found: Suggestion, plateau: bool) -> bool:
    """Whether the training did not lower the loss, but hardly raised it; beside a plateau that others left later, a little is nothing."""
    left = found.probes is not None and escaped(found.curve, found.probes)
    return not tried.passed and tried.after - tried.before < small_rise(found.curve, plateau or left)


def passed_above(found: Suggestion) -> Confirmation | None:
    """The short training nearest above the suggestion, if it got better."""
    probes = found.probes
    if probes is None:
        return None
    above = min((run for run in probes.runs if run.lr >= found.lr), key=lambda run: run.lr, default=None)
    if above is None or not above.after < probes.before:
        return None
    return Confirmation(lr=above.lr, steps=above.steps, before=probes.before, after=above.after, scored_on=probes.scored_on)


def confirmed(found: Suggestion, tried: Confirmation, ratio: float) -> Suggestion:
    """The suggestion times the ratio that passed."""
    doubts = tuple(doubt for doubt in found.doubts if doubt is not Doubt.UNCONFIRMED)
    if ratio == 1:
        return replace(found, confirmation=tried, doubts=doubts)
    doubts = tuple(doubt for doubt in doubts if doubt not in limit_doubts(found.lr, found.curve, found.limit, found.no_limit))
    return replace(
        found,
        lr=found.lr * ratio,
        interval=(found.interval[0] * ratio, found.interval[1] * ratio),
        factors={**found.factors, LOWERED: ratio},
        confirmation=tried,
        doubts=(*doubts, *limit_doubts(found.lr * ratio, found.curve, found.limit, found.no_limit), Doubt.LOWERED),
    )
