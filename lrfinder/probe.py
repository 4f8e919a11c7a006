"""Short real trainings at a suggested LR: the sweep proposes, a training disposes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from hessian.batches import Batches, length_of
from hessian.groups import lr_ratios, set_lr
from hessian.problem import Problem
from hessian.snapshot import Snapshot
from lrfinder.horizon import schedule_shape
from lrfinder.progress import Progress
from lrfinder.results import Confirmation
from lrfinder.train_step import train_step

HELD_OUT = 4  # batches scored before and after


class Probe:
    """Trains for a few steps from the initial weights and scores the same batches before and after.

    Those are the first batches of ``val_data`` (scored in eval mode), else the first of the training data (scored as the model
    stands), which the probe leaves out of its first pass over the data. All of it happens inside ``problem.preserved``.
    """

    def __init__(self, problem: Problem, snapshot: Snapshot, val_data: Batches | None, steps: int, seed: int, schedule: str | None) -> None:
        self.problem = problem
        self.snapshot = snapshot
        self.val_data = val_data
        self.steps = steps
        self.seed = seed
        self.schedule = schedule
        self._restart()
        self.aside = self._held_out()
        self.before = self._score()

    def confirm(self, lr: float, progress: Progress) -> Confirmation:
        """Train at peak LR ``lr``; the weights are the initial ones again when the snapshot is next restored."""
        self._restart()
        scored_on = "data" if self.val_data is None else "val_data"
        finite = self._train(lr, progress)
        after = self._score() if finite else math.inf
        return Confirmation(
            lr=lr, steps=self.steps, before=self.before, after=after if math.isfinite(after) else math.inf, scored_on=scored_on
        )

    def _restart(self) -> None:
        self.snapshot.restore()
        self.problem.seed(self.seed)

    def _held_out(self) -> Sequence[Any]:
        if self.val_data is not None:
            return self.val_data.take(HELD_OUT)
        length = length_of(self.problem.batches.data)
        return self.problem.batches.take(HELD_OUT if length is None else max(1, min(HELD_OUT, length // 4)))

    def _train(self, lr: float, progress: Progress) -> bool:
        """Whether every loss stayed finite."""
        ratios = lr_ratios(self.problem.optimizer)
        skip = len(self.aside) if self.val_data is None else 0
        batches = islice(self.problem.batches, skip, skip + self.steps)
        for step, batch in enumerate(progress.over(batches, self.steps, f"trying {lr:.2g}")):
            set_lr(self.problem.optimizer, lr * schedule_shape(self.schedule, step, self.steps), ratios)
            if not math.isfinite(train_step(self.problem, batch)):
                return False
        return True

    @torch.no_grad()
    def _score(self) -> float:
        """Mean loss on the held-out batches, with the same random numbers each time."""
        with torch.random.fork_rng(devices=[]), evaluating(self.problem.modules, self.val_data is not None):
            torch.default_generator.manual_seed(self.seed)
            losses = [float(self.problem.loss(batch)) for batch in self.aside]
        return sum(losses) / len(losses)


@contextmanager
def evaluating(modules: Sequence[nn.Module], wanted: bool) -> Iterator[None]:
    """Eval mode inside if ``wanted``, every submodule's own flag back afterwards."""
    flags = [(module, module.training) for root in modules for module in root.modules()]
    if wanted:
        for root in modules:
            root.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
