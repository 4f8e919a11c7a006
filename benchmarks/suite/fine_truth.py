"""Brute force for classification: the loss and the accuracy that every learning rate of a grid leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import nn

from suite.samples import Batch
from suite.task import Task
from suite.training import fit, make_schedule, validation
from suite.truth import Walk, rounded

GRID = 4  # learning rates a decade: number k stands for 10 ** (k / 4)
SEEDS = (1, 2, 3)
REACH = 16  # how far the walk goes at most, either way
COARSE = 2  # of the grid at a time, while the best is looked for
NEAR = 3  # about the best, all of the grid
POOR = 2  # learning rates in a row that gain next to nothing and end the walk

Truth = dict[str, Any]


class Result(NamedTuple):
    """Validation loss at the end, the best one on the way, whether the training broke, and the accuracy at the end."""

    final: float | None
    best: float | None
    diverged: bool
    accuracy: float


def make_truth(task: Task, known: Truth, save: Callable[[Truth], object], rough: bool = False) -> None:
    """Fill in what is missing of everything the scoring needs, and save it after every learning rate.

    In the form of ``suite.truth``, with the accuracy as a fourth number of every run. ``rough``: a coarse grid and fewer seeds, for what is
    only compared with.
    """
    seeds = SEEDS[:2] if rough else SEEDS
    known |= known or facts(task, seeds)
    for schedule in task.schedules:
        runs = known["schedules"].setdefault(schedule, {})
        walk: Any = Walk({int(number): [Result(*run) for run in found] for number, found in runs.items()}, mean(known["initial"]))
        for number in numbers(walk, round(task.start * GRID), rough):
            walk.found[number] = [trained(task, seed, 10 ** (number / GRID), schedule) for seed in seeds]
            known["schedules"][schedule] = {str(place): [kept(run) for run in found] for place, found in sorted(walk.found.items())}
            save(known)


def facts(task: Task, seeds: Sequence[int]) -> Truth:
    """What is known before any training."""
    setups = [task.build(seed, 1e-3) for seed in seeds]
    trained_parameters = sum(parameter.numel() for parameter in setups[0].model.parameters() if parameter.requires_grad)
    sizes = {"steps": task.steps, "batch": task.batch, "train": len(task.data().train[0]), "val": len(setups[0].val[0])}
    initial = [rounded(validation(setup)) for setup in setups]
    return {"grid": GRID, "seeds": list(seeds), **sizes, "parameters": trained_parameters, "initial": initial, "schedules": {}}


def numbers(walk: Any, start: int, rough: bool) -> Iterator[int]:
    """What to try next: up until learning rates gain next to nothing, then down until they do, then all about the best."""
    for way in (range(start, start + REACH + 1, COARSE), range(start - COARSE, start - REACH - 1, -COARSE)):
        row = 0
        for number in way:
            if number not in walk.found:
                yield number
            row = row + 1 if walk.poor(number) else 0
            if row == (POOR if way.step > 0 else 1):
                break
    while not rough and (missing := sorted(set(near(walk.best())) - walk.found.keys())):
        yield missing[0]


def near(best: int) -> range:
    return range(best - NEAR, best + NEAR + 1)


def trained(task: Task, seed: int, lr: float, schedule: str) -> Result:
    """Fine-tune with ``lr``, the peak of ``schedule``."""
    setup = task.build(seed, lr)
    outcome = fit(setup, task.steps, make_schedule(schedule, setup.optimizer, task.steps), checks=1)
    return Result(*outcome, accuracy(setup.model, setup.val))


@torch.no_grad()
def accuracy(model: nn.Module, batch: Batch) -> float:
    """Share of the samples that get their own class."""
    model.eval()
    inputs, labels = batch
    return float((model(inputs).argmax(1) == labels).float().mean())


def kept(run: Result) -> list[Any]:
    return [rounded(run.final), rounded(run.best), run.diverged, round(run.accuracy, 4)]
