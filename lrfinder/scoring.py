"""How good the weights are at present: a loss or a metric in eval mode, which leaves no trace on the training around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from hessian.batches import Batches
from hessian.errors import BadArgument
from hessian.nested import batch_size, micro_batches
from hessian.problem import Problem
from hessian.readout import Readout
from hessian.snapshot import keep_random_state, seed_everything
from hessian.step import evaluate, one_number, take_step
from lrfinder.metrics import Metric
from lrfinder.progress import Progress
from lrfinder.setaside import set_aside
from lrfinder.steps import Steps

COUNTING = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)
SETTLING = 20  # batches that running statistics are taken from: with heavy-tailed inputs ten are too few


@dataclass(frozen=True)
class Scores:
    """What is measured at every step of a sweep beside the loss of its batch."""

    problem: Problem
    seed: int  # of the random numbers of every score
    scored: Sequence[Any] | None = None  # batches; None for the step's own
    metric: Metric | None = None  # what to measure on them beside the loss

    @property
    def none(self) -> bool:
        """Whether there is nothing beside it."""
        return self.scored is None and self.metric is None

    def check(self, first: Any) -> None:
        """Score once, so that what cannot be scored is refused before anything moves."""
        if self.scored is not None:
            mean_loss(self.problem, self.scored[:1], self.seed)
        if self.metric is not None:
            self._measure([first] if self.scored is None else self.scored[:1])

    def loss(self, trained: float) -> float:
        """What the curve records of a step whose batch had the loss ``trained``: one that is not finite moved nothing, and ends all."""
        if self.scored is None or not math.isfinite(trained):
            return trained
        return mean_loss(self.problem, self.scored, self.seed)

    def value(self, trained: float, batch: Any) -> float | None:
        """The metric after a step; None where there is none to record, NaN where the step was not made."""
        if self.metric is None:
            return None
        if not math.isfinite(trained):
            return math.nan
        return self._measure([batch] if self.scored is None else self.scored)

    def _measure(self, batches: Sequence[Any]) -> float:
        """Mean of the metric over the batches, by their samples."""
        assert self.metric is not None
        total = 0.0
        with undisturbed(self.problem, self.seed), torch.no_grad(), self.problem.precision():
            for part, share in zip(*micro_batches(batches), strict=True):
                total += share * one_number(self.metric.function(self.problem.model, part), "metric returned", "metric")
        return self.problem.team.mean(total, sum(batch_size(batch) or 1 for batch in batches))


def held_out(problem: Problem, val_data: Any) -> Batches | None:
    """The batches of ``val_data``, which are scored one at a time; refused if there is no loss to score them with."""
    if val_data is None:
        return None
    if not problem.has_loss:
        raise BadArgument("val_data cannot be scored by step_fn, which trains on what it gets; pass criterion or loss_fn beside it.")
    return Batches(val_data, problem.device, name="val_data", team=problem.team)


def scores_of(problem: Problem, val_data: Batches | None, metric: Metric | None, seed: int) -> Scores:
    """The first few batches of ``val_data``, read once; inside ``preserved``."""
    scored = None if val_data is None else set_aside(problem.batches, val_data, seed).scored
    if scored is not None:
        scored = scored[: problem.team.least(len(scored))]  # every rank makes as many forward passes
    return Scores(problem, seed, scored, metric)


def readout_for(problem: Problem, scores: Scores) -> Readout:
    """Losses may be known later only where nothing else is decided at every step, as a ``GradScaler`` and what is scored do."""
    return Readout(problem.team, at_once=problem.recipe.scaler is not None or not scores.none)


def run(problem: Problem, steps: Steps, progress: Progress, scores: Scores) -> None:
    """A sweep step by step; ``steps`` has what was recorded, so that nothing is lost when it is cut short."""
    if not scores.none and problem.has_loss:
        problem.seed(scores.seed)
        settle(problem, problem.batches)
    problem.seed(steps.settings.seed)
    for batch in steps.over(problem.batches, progress):
        try:
            known = take_step(problem, batch, steps.readout)
        except Exception:
            if problem.team.alone and steps.broke():  # a step too many, from weights that are broken
                return
            raise
        if scores.none:
            steps.report(known)
        else:
            steps.report([scores.loss(known[0])], scores.value(known[0], batch))


def mean_loss(problem: Problem, batches: Sequence[Any], seed: int) -> float:
    """Mean loss on the samples of the batches, with the same random numbers each time."""
    with undisturbed(problem, seed):
        losses = [evaluate(problem, batch) for batch in batches]
    sizes = [problem.team.total(batch_size(batch)) or 1 for batch in batches]  # of all ranks, which must agree on the mean
    return sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes)


def settle(problem: Problem, batches: Iterable[Any]) -> int:
    """Let batch norm see a few batches, so that its running statistics are those of the weights as they are. Returns how many.

    Scored with untouched statistics, any training would look like a gain; those of a training lag behind its weights.
    """
    kept = dict.fromkeys(part for module in problem.modules for part in module.modules() if keeps_statistics(part))
    if not kept:
        return 0
    with fresh([part for part in kept if counts_batches(part)]):
        return len([evaluate(problem, batch) for batch in islice(batches, SETTLING)])


@contextmanager
def fresh(norms: Sequence[Any]) -> Iterator[None]:
    """Running statistics are those of what is seen inside alone, however slowly they forget: from zero, and corrected as Adam's means.

    A larger ``momentum`` would do as well, and compile the model anew.
    """
    before = [tuple(value.clone() for value in statistics_of(norm)) for norm in norms]
    for norm in norms:
        for value in statistics_of(norm):
            value.zero_()
    yield
    for norm, old in zip(norms, before, strict=True):
        count: Tensor = norm.num_batches_tracked
        weight = (count > 0).float() if norm.momentum is None else 1 - (1 - norm.momentum) ** count  # of all that was seen together
        for value, was in zip(statistics_of(norm), old, strict=True):
            seen = value if value is count else value / weight
            value.copy_(torch.where(weight > 0, seen, was))  # none: a momentum of zero, or a layer out of use


def statistics_of(norm: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance, and how many batches they are from."""
    return norm.running_mean, norm.running_var, norm.num_batches_tracked


def keeps_statistics(module: nn.Module) -> bool:
    """Whether forward passes change running statistics, which then decide in eval mode."""
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.training and bool(module.track_running_stats)


def counts_batches(norm: Any) -> bool:
    """Whether it counts what it sees: an ``InstanceNorm`` does not, and a class with a ``forward`` of its own may not."""
    return type(norm).forward in COUNTING and norm.num_batches_tracked is not None


@contextmanager
def undisturbed(problem: Problem, seed: int) -> Iterator[None]:
    """Eval mode and random numbers of the seed inside; flags and generators as before afterwards."""
    restore = keep_random_state()
    try:
        with evaluating(problem.modules):
            seed_everything(seed)
            yield
    finally:
        restore()


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Eval mode inside, every submodule's own flag back afterwards."""
    flags = [(module, module.training) for root in modules for module in root.modules()]
    for root in modules:
        root.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
