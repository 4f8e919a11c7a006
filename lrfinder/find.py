"""``find_lr``: the one call. Sweep, curvature, suggestion, confirmation; everything put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hessian.batches import Batches
from hessian.errors import CurvatureError, NoSuggestionError
from hessian.problem import LossFn, Problem
from hessian.results import StableLR
from hessian.snapshot import Snapshot
from hessian.stable import CurvatureSettings, measure_limit
from lrfinder.budget import split_budget
from lrfinder.combine import limit_doubts, suggest_lr
from lrfinder.doubts import Doubt
from lrfinder.horizon import check_schedule, planned_steps
from lrfinder.probe import Probe
from lrfinder.progress import Progress
from lrfinder.ramp import Ramp
from lrfinder.results import Confirmation, LRCurve, Schedule, Suggestion
from lrfinder.sweep import SweepSettings, attach, sweep

RETRIES = 4  # each a third of the LR before: two decades in all
LOWER = 1 / 3
CURVATURE_TOL = 0.05  # an LR limit need not be finer, and 1 % takes half as many products again


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
) -> Suggestion:
    """The learning rate to train this model with, from two measurements, confirmed by a short training.

    A range test over real batches finds where the loss falls and where it breaks; curvature and the optimizer's own stability limit
    say what the first steps tolerate; a short training at the suggestion must lower the loss on batches it does not train on, or the
    suggestion is lowered until it does. Model, optimizer, data and random generators are untouched afterwards.

    Args:
        model: The model as it will be trained, in train or eval mode as it stands.
        optimizer: Its optimizer; param groups keep the ratio of their base LRs, and results report the largest group's.
        data: Batches that can be read more than once (a ``DataLoader``, a list), or a function that returns one.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss``.
        val_data: Batches on which the confirming training is scored; without them some of ``data`` are set aside for it.
        total_steps: Steps of the planned training; None assumes ten epochs, and says so.
        schedule: ``"constant"``, ``"onecycle"``, ``"cosine"``, ``"linear"``, or None if unknown: ``lr`` is its peak.
        budget: ``"quick"``, ``"standard"``, ``"thorough"`` (about 150, 350, 850 gradients) or a number of gradients.
        start_lr: Lowest learning rate of the sweep.
        end_lr: Highest learning rate of the sweep.
        curvature: Whether to measure the curvature limit.
        seed: Of every random generator; the same seed gives the same answer.
        progress: Show a bar on stderr; None shows one on a terminal.
        device: Where batches are moved; None leaves them.

    Returns:
        The suggestion with its interval, the evidence and the doubts.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        NoSuggestionError: If the sweep carries no suggestion; its ``curve`` holds what was recorded.
        KeyboardInterrupt: On Ctrl-C, with what was recorded as its ``curve``.
        Exception: Whatever the model, loss, data or optimizer raised, with what was recorded as its ``curve``.
    """
    problem = Problem(model, optimizer, data, criterion, loss_fn=loss_fn, device=device)
    problem.require_optimizer()
    held_out = None if val_data is None else Batches(val_data, problem.device, name="val_data")
    check_schedule(schedule)
    planned_steps(total_steps, None, None)
    spend = split_budget(budget)
    settings = SweepSettings(Ramp(start_lr, end_lr, spend.sweep), seed=seed)
    bar = Progress(progress)
    with problem.preserved(*([] if held_out is None else [held_out.data])) as snapshot:
        problem.seed(seed)
        first = problem.check_first_loss()
        probe = Probe(problem, snapshot, held_out, spend.probe, seed, schedule)  # bad val_data must not cost a sweep
        snapshot.restore()
        curve = complete(sweep(problem, settings, first, bar))
        with keeping(curve):
            limit, reason = curvature_limit(problem, snapshot, seed) if curvature else (None, None)
            found = suggest_lr(curve, limit, total_steps=total_steps, schedule=schedule, no_limit=reason)
            return confirm(found, probe, bar)


def complete(curve: LRCurve) -> LRCurve:
    """The curve, unless the user stopped it: an answer must not follow a Ctrl-C as if nothing had happened."""
    if curve.status == "interrupted":
        stop = KeyboardInterrupt()
        attach(stop, curve)
        raise stop
    return curve


@contextmanager
def keeping(curve: LRCurve) -> Iterator[None]:
    """Whatever goes wrong inside carries the curve: the sweep is not lost."""
    try:
        yield
    except BaseException as error:
        attach(error, curve)
        raise


def curvature_limit(problem: Problem, snapshot: Snapshot, seed: int) -> tuple[StableLR | None, str | None]:
    """The limit, or why there is none."""
    snapshot.restore()
    try:
        return measure_limit(problem, CurvatureSettings(tol=CURVATURE_TOL, seed=seed, first_step=False)), None
    except CurvatureError as error:
        return None, str(error)


def confirm(found: Suggestion, probe: Probe, progress: Progress) -> Suggestion:
    """The suggestion, tried out; lowered until a short training gets better, not worse.

    Raises:
        NoSuggestionError: If no LR down to a hundredth of it lowers the held-out loss.
    """
    tried = probe.confirm(found.lr, progress)
    while not tried.passed and tried.lr > found.lr * LOWER ** (RETRIES - 0.5):
        tried = probe.confirm(tried.lr * LOWER, progress)
    if not tried.passed:
        raise NoSuggestionError(
            f"trainings of {tried.steps} steps at LRs from {found.lr:.2g} down to {tried.lr:.2g} all left the held-out loss at or above "
            f"its start ({tried.before:.4g}); check the data and the loss, or pass more or other val_data.",
            curve=found.curve,
        )
    return confirmed(found, tried)


def confirmed(found: Suggestion, tried: Confirmation) -> Suggestion:
    """The suggestion at the LR that passed."""
    ratio = tried.lr / found.lr
    doubts = tuple(doubt for doubt in found.doubts if doubt is not Doubt.UNCONFIRMED)
    if ratio == 1:
        return replace(found, confirmation=tried, doubts=doubts)
    doubts = tuple(doubt for doubt in doubts if doubt not in limit_doubts(found.lr, found.curve, found.limit, found.no_limit))
    return replace(
        found,
        lr=tried.lr,
        interval=(found.interval[0] * ratio, found.interval[1] * ratio),
        factors={**found.factors, "a higher LR failed in a short training": ratio},
        confirmation=tried,
        doubts=(*doubts, *limit_doubts(tried.lr, found.curve, found.limit, found.no_limit), Doubt.LOWERED),
    )
