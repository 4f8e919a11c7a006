"""The optimizer's geometry: a young adaptive optimizer makes steps at LR zero first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from hessian.curvature_settings import CurvatureSettings
from hessian.geometry import OptimizerGeometry
from hessian.groups import lr_ratios, set_lr
from hessian.limits import limits_of, optimizer_age
from hessian.problem import Problem
from hessian.step import train_step
from hessian.watched import watched_steps

PRE_ROLL = 16  # squared gradients averaged before Adam's P is read; fewer leave chance zeros in it that look like sharp directions


def prepare_geometry(problem: Problem, settings: CurvatureSettings) -> tuple[OptimizerGeometry | None, OptimizerGeometry, int]:
    """The optimizer's geometry after one step, if it has made none yet; the steady one; and the steps made for them at LR zero."""
    limits, ratios = limits_of(problem.optimizer), lr_ratios(problem.optimizer)
    if all(limit.preconditioner is None for limit in limits):
        return None, OptimizerGeometry(problem, limits, ratios), 0
    age = optimizer_age(problem.optimizer)
    first, steps = None, max(PRE_ROLL - age, 0)
    problem.seed(settings.seed)
    stream = watched_steps(islice(problem.batches, steps), settings.told)  # one for both: anew, it would give the first batch twice
    if age == 0 and settings.first_step_for > 0:
        pre_roll(problem, islice(stream, 1))
        first = OptimizerGeometry(problem, limits_of(problem.optimizer), ratios)
    pre_roll(problem, stream)
    return first, OptimizerGeometry(problem, limits_of(problem.optimizer), ratios), steps


def pre_roll(problem: Problem, batches: Iterable[Any]) -> None:
    """Real steps at LR zero, so that a young adaptive optimizer knows the size of its gradients."""
    set_lr(problem.optimizer, 0.0, [0.0] * len(problem.optimizer.param_groups))
    for batch in batches:
        train_step(problem, batch)
    problem.optimizer.zero_grad()
