"""One training of a task, as the brute force and every finder's suggestion are judged by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from suite.samples import Batch
from suite.task import LossFn, Setup, Task

CHECKS = 10  # validations in the course of a training, the last one at its end
BLOWN = 1e4  # times the first loss: no training comes back from there
RECENT = 20  # steps whose mean loss says where a training stands


class Outcome(NamedTuple):
    """Validation loss at the end, the best one on the way, and whether the training broke. Losses that are not finite are None."""

    final: float | None
    best: float | None
    diverged: bool


def train(task: Task, seed: int, lr: float, schedule: str) -> Outcome:
    """Train from scratch with ``lr``, the peak of ``schedule``."""
    setup = task.build(seed, lr)
    return fit(setup, task.steps, make_schedule(schedule, setup.optimizer, task.steps))


def fit(setup: Setup, steps: int, scheduler: LRScheduler | None, checks: int = CHECKS) -> Outcome:
    """Train; the scheduler, if any, steps after every update; validate so many times."""
    start = validation(setup)
    losses: list[float] = []
    found: list[float] = []
    due = {steps * number // checks for number in range(1, checks + 1)}
    for step, batch in enumerate(take(setup.loader, steps), start=1):
        losses.append(update(setup, batch))
        if scheduler and step < steps:
            scheduler.step()
        if not math.isfinite(losses[-1]) or abs(losses[-1]) > BLOWN * max(abs(start), abs(losses[0]), 1):
            return Outcome(None, finite_minimum(found), True)
        if step in due:
            found.append(validation(setup))
    return outcome(found, losses, start)


def outcome(checks: list[float], losses: list[float], start: float) -> Outcome:
    recent = sum(losses[-RECENT:]) / len(losses[-RECENT:])
    diverged = not math.isfinite(checks[-1]) or recent > max(start, losses[0])
    return Outcome(checks[-1] if math.isfinite(checks[-1]) else None, finite_minimum(checks), diverged)


def finite_minimum(values: list[float]) -> float | None:
    return min((value for value in values if math.isfinite(value)), default=None)


def update(setup: Setup, batch: Batch) -> float:
    """One step; returns the loss before it."""
    setup.optimizer.zero_grad()
    loss = setup.loss_fn(setup.model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    setup.optimizer.step()
    return loss.item()


def validation(setup: Setup) -> float:
    return validation_loss(setup.model, setup.loss_fn, setup.val)


def validation_loss(model: nn.Module, loss_fn: LossFn, batch: Batch) -> float:
    """The loss in evaluation mode; losses that draw noise draw the same each time, and training draws go on as if nothing had been."""
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        loss = loss_fn(model, batch).item()
    model.train()
    return loss


def take(loader: Iterable[Any], steps: int) -> Iterator[Batch]:
    """``steps`` batches, over and over the loader."""
    taken = 0
    while taken < steps:
        for batch in loader:
            yield batch
            taken += 1
            if taken == steps:
                return


def make_schedule(name: str, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler | None:
    """The learning rate's course; every one begins with, or rises to, the LR that the optimizer has now."""
    if name == "constant":
        return None
    if name == "onecycle":
        return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps, cycle_momentum=False)
    if name == "cosine":
        return LambdaLR(optimizer, lambda step: warm_cosine(step, steps))
    if name == "linear":
        return LambdaLR(optimizer, lambda step: 1 - step / steps)
    if name == "warm_linear":
        return LambdaLR(optimizer, lambda step: warm_linear(step, steps))
    raise ValueError(f"schedule {name!r} is unknown")


def warm_cosine(step: int, steps: int) -> float:
    """A twentieth of the steps up, in a straight line, then half a cosine down to 0."""
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def warm_linear(step: int, steps: int) -> float:
    """A tenth of the steps up, then down to 0, both in a straight line: the usual course of fine-tuning."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (steps - step) / (steps - warm)
