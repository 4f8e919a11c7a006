"""``stable_lr``: operator, Lanczos, and the optimizer's own limit turn curvature into the largest stable LR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from hessian.batches import batch_size
from hessian.checks import positive_float, positive_int, whole_number
from hessian.describe import describe_optimizer
from hessian.errors import CurvatureError
from hessian.groups import lr_ratios, set_lr
from hessian.limits import StabilityLimit, limits_of
from hessian.operators.base import CurvatureOperator
from hessian.operators.hessian import HessianOperator
from hessian.operators.preconditioned import PreconditionedOperator
from hessian.preconditioner import inverse
from hessian.problem import LossFn, Problem
from hessian.results import StableLR
from hessian.solvers.lanczos import lanczos
from hessian.vectors import flatten

PRE_ROLL = 16  # squared gradients averaged before Adam's P is read; fewer leave chance zeros in it that look like sharp directions


def stable_lr(
    model: nn.Module,
    optimizer: Any,
    data: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    num_batches: int = 4,
    tol: float = 0.01,
    seed: int = 0,
    max_hvps: int = 60,
    device: torch.device | str | None = None,
) -> StableLR:
    """Largest LR at which the optimizer does not diverge on the quadratic that the loss is at the current weights.

    ``c / sharpness``, where ``c`` is the optimizer's (2 for gradient descent, 3.8 for momentum 0.9, 38 for Adam on its preconditioned
    Hessian) and sharpness the most positive eigenvalue of the Hessian over ``num_batches`` batches. It says when the *first* steps
    break, without warm-up; it is not the best LR. An adaptive optimizer without history is first run for 16 steps at LR zero, so that
    its preconditioner is not that of a single batch. Nothing is left changed (see ``preserve``).

    Args:
        model: The model as it will be trained, in train or eval mode as it stands.
        optimizer: SGD, Adam, AdamW, RMSprop, or one registered with ``stability_limit``. Its param groups keep their LR ratio.
        data: Batches that can be read more than once, or a function that returns one.
        criterion: ``criterion(model(inputs), target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place.
        num_batches: Batches to average the Hessian over; memory holds one graph for each.
        tol: Relative accuracy of the sharpness.
        seed: Of the data order and the start vector.
        max_hvps: Most Hessian-vector products to make.
        device: Where batches are moved; None leaves them.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        CurvatureError: If the optimizer has no known limit, the model no second derivative, or the loss no upward curvature.
    """
    problem = Problem(model, optimizer, data, criterion, loss_fn=loss_fn, device=device)
    problem.require_optimizer()
    settings = CurvatureSettings(
        num_batches=positive_int("num_batches", num_batches),
        tol=positive_float("tol", tol),
        seed=whole_number("seed", seed),
        max_hvps=positive_int("max_hvps", max_hvps, least=2),
    )
    with problem.preserved():
        problem.seed(settings.seed)
        problem.check_first_loss()
        return measure_limit(problem, settings)


@dataclass(frozen=True)
class CurvatureSettings:
    """How to measure: see ``stable_lr``."""

    num_batches: int = 4
    tol: float = 0.01
    seed: int = 0
    max_hvps: int = 60


def measure_limit(problem: Problem, settings: CurvatureSettings) -> StableLR:
    """The measurement itself, inside ``preserved``: the optimizer's state moves here."""
    limits = limits_of(problem.optimizer)
    ratios = lr_ratios(problem.optimizer)
    problem.seed(settings.seed)
    steps = pre_roll(problem, limits)
    problem.seed(settings.seed)
    batches = problem.batches.take(settings.num_batches)
    operator = HessianOperator(problem, batches)
    view = OptimizerView(problem, limits, ratios)
    top = lanczos(view.operator(operator), tol=settings.tol, max_iter=settings.max_hvps, seed=settings.seed)
    sharpness = float(top.values[0])
    if not sharpness > 0:
        raise CurvatureError(
            f"the loss curves upward in no direction here (most positive eigenvalue {sharpness:.3g}), so curvature sets no limit; "
            "use lrfinder.range_test."
        )
    return StableLR(
        lr=view.numerator / (sharpness + view.shift),
        sharpness=sharpness,
        residual=float(top.residuals[0]),
        converged=top.converged,
        hvps=top.hvps,
        gradients=steps + len(batches),
        formula=view.formula,
        preconditioned=any(limit.preconditioner is not None for limit in limits),
        mode="train" if problem.model.training else "eval",
        num_batches=len(batches),
        batch_size=batch_size(batches[0]),
        tol=settings.tol,
        seed=settings.seed,
        model=type(problem.model).__name__,
        optimizer=describe_optimizer(problem.optimizer),
    )


def pre_roll(problem: Problem, limits: list[StabilityLimit]) -> int:
    """Real steps at LR zero, so that a young adaptive optimizer knows the size of its gradients. Returns how many."""
    if all(limit.preconditioner is None for limit in limits):
        return 0
    missing = PRE_ROLL - optimizer_age(problem.optimizer)
    set_lr(problem.optimizer, 0.0, lr_ratios(problem.optimizer))
    for batch in islice(problem.batches, max(0, missing)):
        problem.optimizer.zero_grad()
        problem.loss(batch).backward()  # type: ignore[no-untyped-call]
        problem.optimizer.step()
    problem.optimizer.zero_grad()
    return max(0, missing)


def optimizer_age(optimizer: Any) -> int:
    """Steps the optimizer has made."""
    return max((int(state.get("step", 0)) for state in optimizer.state.values()), default=0)


class OptimizerView:
    """The Hessian in the optimizer's geometry, all param groups in one matrix whose top eigenvalue sets the LR.

    An oscillation of period two stops shrinking when ``lr * lambda_max(M) = 2`` with
    ``M = (G R / P)^1/2 (H + L2) (G R / P)^1/2 + R D``: per parameter ``G`` is the optimizer's gain, ``R`` the LR ratio, ``P`` the
    preconditioner, ``L2`` and ``D`` the two kinds of weight decay (docs/formulas.md#param-groups). Everything is given relative to
    the largest group, so that with one group the eigenvalue is the plain (preconditioned) sharpness.
    """

    def __init__(self, problem: Problem, limits: list[StabilityLimit], ratios: list[float]) -> None:
        groups = problem.optimizer.param_groups
        self.numerator = limits[ratios.index(1.0)].numerator
        places = {id(parameter): index for index, group in enumerate(groups) for parameter in group["params"]}
        scales, inners, outers = [], [], []
        for parameter in problem.parameters.values():
            index = places[id(parameter)]
            limit, ratio = limits[index], ratios[index]
            weight = torch.full_like(parameter, ratio * self.numerator / limit.numerator, requires_grad=False)
            if limit.preconditioner is not None:
                weight *= inverse(limit.preconditioner, groups[index], problem.optimizer.state[parameter], weight)
            scales.append(weight.sqrt())
            inners.append(torch.full_like(weight, limit.l2))
            outers.append(torch.full_like(weight, ratio * limit.decoupled * self.numerator / 2))
        self.scale, self.inner, outer = flatten(scales), flatten(inners), flatten(outers)
        self.shift = float(outer.min())  # a common shift is added to the eigenvalue instead: the sharpness stays without it
        self.outer = outer - self.shift
        self.formula = formula(self.numerator, self.shift)

    def operator(self, hessian: CurvatureOperator) -> CurvatureOperator:
        """``M`` around a Hessian; the Hessian itself where nothing scales or shifts it."""
        inner = self.inner if bool(self.inner.any()) else None
        outer = self.outer if bool(self.outer.any()) else None
        if inner is None and outer is None and bool((self.scale == 1).all()):
            return hessian
        return PreconditionedOperator(hessian, self.scale, inner, outer)


def formula(numerator: float, shift: float) -> str:
    """The limit in words, with its numbers."""
    return f"{numerator:.3g} / sharpness" if shift == 0 else f"{numerator:.3g} / (sharpness + {shift:.2g})"
