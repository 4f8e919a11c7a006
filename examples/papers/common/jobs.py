"""Trainings side by side in processes, and learning rates found: by brute force for the baselines, by ``find_lr`` for our schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from common.data import DATA
from common.training import Curve, Order, Training, make_net, sgd, train

T = TypeVar("T")
Schedule = Literal["onecycle", "cosine"]  # of ``find_lr``
TUNING = (1, 2, 3)  # learning rates are chosen with these seeds
COMPARED = tuple(range(11, 19))  # and judged with those: with fewer than six no test of pairs can be sure
WORKERS = 2


@dataclass(frozen=True)
class Jobs:
    """Runs functions without arguments, in processes of one thread each or right here."""

    pool: ProcessPoolExecutor | None

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        return [job() for job in jobs] if self.pool is None else list(self.pool.map(call, jobs))

    # Each of these takes all of a script's trainings at once, so that no worker waits for the longest of a few.

    def train(self, plans: dict[str, dict[str, Training]]) -> dict[str, dict[str, Curve]]:
        """The curve of every plan of every task."""
        curves = iter(self.run([partial(train, plan) for mine in plans.values() for plan in mine.values()]))
        return {task: {name: next(curves) for name in mine} for task, mine in plans.items()}

    def tuned(self, plans: dict[str, Training], grids: dict[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
        """For every plan the learning rate of its grid that ends most accurate, in the mean over seeds, and what all of them gave."""
        tried = {task: {str(lr): replace(plan, lr=lr, checks=()) for lr in grids[task]} for task, plan in plans.items()}
        finals = {task: [curve.final for curve in curves.values()] for task, curves in self.train(tried).items()}
        return {task: best(grids[task], found) for task, found in finals.items()}

    def tuned_side_by_side(self, plans: dict[str, Training], grids: dict[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
        """The same with all learning rates of a grid in one stack of nets, which takes little more than half the time of small nets."""
        finals = self.train({task: {"": over(plan, grids[task])} for task, plan in plans.items()})
        return {task: best(grids[task], np.reshape(curves[""].final, (len(grids[task]), -1)).tolist()) for task, curves in finals.items()}

    def suggested(self, plans: dict[str, Training], schedule: Schedule, budget: str = "standard") -> dict[str, dict[str, Any]]:
        """For every plan what ``find_lr`` suggests as the peak, as a median over the plan's seeds, and each of its answers."""
        found = iter(self.run([partial(suggestion, plan, seed, schedule, budget) for plan in plans.values() for seed in plan.seeds]))
        each = {task: [next(found) for _ in plan.seeds] for task, plan in plans.items()}
        return {task: {"lr": float(np.median(lrs)), "each": lrs} for task, lrs in each.items()}


def best(grid: Sequence[float], accuracy: list[list[float]]) -> dict[str, Any]:
    return {"lr": grid[int(np.argmax(np.mean(accuracy, axis=1)))], "grid": list(grid), "accuracy": accuracy}


def over(plan: Training, grid: Sequence[float]) -> Training:
    """All learning rates of a grid, with all seeds each."""
    shares = tuple(lr / max(grid) for lr in grid for _ in plan.seeds)
    return replace(plan, lr=max(grid), seeds=plan.seeds * len(grid), shares=shares, checks=())


def call(job: Callable[[], T]) -> T:
    return job()


@contextmanager
def jobs(short: bool) -> Iterator[Jobs]:
    """Processes, unless it is not worth starting them."""
    if short:
        yield Jobs(None)
        return
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield Jobs(pool)


def suggestion(plan: Training, seed: int, schedule: Schedule, budget: str) -> float:
    """``find_lr`` for one net of this training, before its first step."""
    data, net = DATA[plan.data](), make_net(plan.net, seed, plan.dropout)
    chosen = Order(len(data.inputs), plan.labels, plan.batch, seed).chosen
    samples = TensorDataset(data.inputs[chosen], data.targets[chosen])
    loader = DataLoader(samples, plan.batch, shuffle=True, generator=torch.Generator().manual_seed(seed))
    found = lrfinder.find_lr(
        net,
        sgd(net.parameters(), plan),
        loader,
        nn.CrossEntropyLoss(),
        total_steps=plan.steps,
        schedule=schedule,
        budget=budget,
        seed=seed,
        progress=False,
    )
    return found.lr
