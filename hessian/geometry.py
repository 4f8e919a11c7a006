"""The Hessian as the optimizer sees it, whose top eigenvalue sets the LR; a young one makes steps at LR zero first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from hessian.curvature_settings import CurvatureSettings
from hessian.groups import lr_ratios, set_lr
from hessian.limits import limits_of, optimizer_age
from hessian.operators.base import CurvatureOperator, watched_steps
from hessian.preconditioner import inverse
from hessian.problem import Problem
from hessian.registry import StabilityLimit
from hessian.sharded import local
from hessian.step import train_step
from hessian.vectors import flatten, real


class OptimizerGeometry:
    """Scales and shifts around the Hessian that turn its top eigenvalue into a limit: ``M`` of docs/formulas.md#param-groups.

    Everything is given relative to the largest group, so that with one group the eigenvalue is the plain (preconditioned) sharpness.

    Attributes:
        numerator: ``c`` of the largest group: ``lr = c / (eigenvalue + shift)``.
        shift: Decoupled weight decay that all groups share.
        scale: Diagonal of ``(G R / P)^1/2``, shape ``(n,)``.
    """

    def __init__(self, problem: Problem, limits: list[StabilityLimit], ratios: list[float]) -> None:
        groups = problem.optimizer.param_groups
        self.limit = limits[ratios.index(1.0)]
        self.numerator = self.limit.numerator
        places = {id(parameter): index for index, group in enumerate(groups) for parameter in group["params"]}
        scales, inners, outers = [], [], []
        for parameter in problem.parameters.values():
            index = places[id(parameter)]
            limit, ratio = limits[index], ratios[index]
            here = local(parameter.detach())
            weight = torch.full_like(real(here), ratio * self.numerator / limit.numerator)
            if limit.preconditioner is not None:
                state = {name: local(value) for name, value in problem.optimizer.state[parameter].items()}
                weight *= inverse(limit.preconditioner, groups[index], state, here)
            scales.append(weight.sqrt())
            inners.append(torch.full_like(weight, limit.l2))
            outers.append(torch.full_like(weight, ratio * limit.decoupled * self.numerator / 2))
        self.scale, self.inner, outer = flatten(scales), flatten(inners), flatten(outers)
        self.team = problem.team
        # A common shift is added to the eigenvalue instead: the sharpness stays without it.
        self.shift = self.team.lowest(float(outer.min()) if len(outer) else math.inf)
        self.outer = outer - self.shift

    def around(self, hessian: CurvatureOperator) -> CurvatureOperator:
        """``M`` around a Hessian; the Hessian itself where nothing scales or shifts it."""
        inner = None if self.team.every(not self.inner.any()) else self.inner
        outer = None if self.team.every(not self.outer.any()) else self.outer
        if inner is None and outer is None and self.team.every(bool((self.scale == 1).all())):
            return hessian
        return PreconditionedOperator(hessian, self.scale, inner, outer)

    def max_lr(self, eigenvalue: float) -> float:
        return self.numerator / (eigenvalue + self.shift)

    @property
    def formula(self) -> str:
        return f"{self.numerator:.3g} / sharpness" if self.shift == 0 else f"{self.numerator:.3g} / (sharpness + {self.shift:.2g})"

    @property
    def derivation(self) -> str:
        """The numerator in symbols, with their values; empty where the optimizer's limit does not say."""
        if not self.limit.formula:
            return ""
        values = ", ".join(f"{name} = {value:.4g}" for name, value in self.limit.symbols.items())
        return f"{self.limit.formula}{values and f' with {values}'}"


class PreconditionedOperator(CurvatureOperator):
    """``S (H + inner) S + outer`` with diagonal ``S``, ``inner`` and ``outer``.

    With ``S = P^-1/2`` it is similar to ``P^-1 (H + inner)`` and, unlike that, symmetric: the same eigenvalues, a real Lanczos.

    Args:
        operator: ``H``.
        scale: Diagonal of ``S``, shape ``(n,)``. Zero takes a coordinate out.
        inner: Diagonal added to ``H`` (weight decay that is part of the gradient), shape ``(n,)``, or None.
        outer: Diagonal added outside (weight decay that is not), shape ``(n,)``, or None.
    """

    def __init__(self, operator: CurvatureOperator, scale: Tensor, inner: Tensor | None = None, outer: Tensor | None = None) -> None:
        super().__init__(operator.size, operator.like, operator.space)
        self.operator = operator
        self.scale = scale
        self.inner = inner
        self.outer = outer

    def _product(self, vector: Tensor) -> Tensor:
        scaled = self.scale * vector  # the only new vector: what the operator returns may be its own
        result = self.operator @ scaled
        if self.inner is not None:
            result = torch.addcmul(result, self.inner, scaled, out=scaled)
        torch.mul(result, self.scale, out=scaled)
        return scaled if self.outer is None else scaled.addcmul_(self.outer, vector)

    def start_hint(self) -> Tensor | None:
        hint = self.operator.start_hint()
        return None if hint is None else self.scale * hint


PRE_ROLL = 16  # squared gradients averaged before P is read; fewer leave chance zeros in it that look like sharp directions


def prepare_geometry(problem: Problem, settings: CurvatureSettings) -> tuple[OptimizerGeometry | None, OptimizerGeometry, int]:
    """The geometry after one step, if the optimizer has made none yet; the steady one; the steps made for them at LR zero."""
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
