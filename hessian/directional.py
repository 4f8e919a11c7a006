"""Limits along one direction, such as the optimizer's next update, by forward passes or one product."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hessian.errors import CurvatureError
from hessian.groups import lr_ratios, set_lr
from hessian.nested import batch_shares, batch_size
from hessian.operators.base import CurvatureOperator
from hessian.operators.finite_difference import moved
from hessian.problem import Problem
from hessian.results import CriticalLR
from hessian.snapshot import Layout, keep_random_state, keep_tensors
from hessian.step import train_step
from hessian.vectors import flatten, norm, random_unit, unflatten

DOUBLINGS = 60
RESOLUTION = 1 / 16  # of the bisection, as in Kalra et al. 2026


def update_direction(problem: Problem, batch: Any) -> Tensor:
    """The optimizer's next update per unit of LR, ``(w' - w) / lr``, flat, from one real step; inside ``problem.preserved``.

    Weights come back; the optimizer's state has moved on. The step is made at LR one: a step is linear in its LR, and at a small LR
    float32 weights would round the update away. Three optimizers with history are not linear: Adafactor caps its LR at ``1 / sqrt(t)``,
    ASGD steps by the LR in its state, Schedule-Free averages beside the step. Ask these before their first step.

    Args:
        problem: Model, loss and optimizer; the coordinates are its ``parameters``, in order.
        batch: The batch that makes the gradient.
    """
    parameters = list(problem.parameters.values())
    restore = keep_tensors(Layout(parameters))
    before = [parameter.detach().clone() for parameter in parameters]
    set_lr(problem.optimizer, 1.0, lr_ratios(problem.optimizer))
    train_step(problem, batch)
    update = flatten(parameter.detach() - old for parameter, old in zip(parameters, before, strict=True))
    restore()
    problem.optimizer.zero_grad()
    return update


def descent_limit(op: CurvatureOperator, gradient: Tensor, update: Tensor) -> float:
    """LR beyond which a step along ``update`` raises the quadratic model of the loss: ``-2 g'u / u'Hu``.

    For optimizers whose step does not shrink with the gradient (sign methods, orthogonalised ones) there is no other linear limit;
    for gradient descent it is an upper bound on the stability limit (Roulet et al. 2024, arXiv:2407.06183, with ``sigma = 2``).

    Args:
        op: The Hessian.
        gradient: ``g``, shape ``(n,)``.
        update: ``u``, the update per unit of LR, shape ``(n,)``.

    Raises:
        CurvatureError: If the update does not point downhill, or the loss curves down along it.
    """
    slope, curvature = op.space.dot(gradient, update), op.space.dot(op @ update, update)
    if not slope < 0:
        raise CurvatureError("the optimizer's next update does not point downhill on these batches, so it has no descent limit.")
    if not curvature > 0:
        raise CurvatureError("the loss curves downward along the optimizer's next update, so curvature sets no descent limit.")
    return -2 * slope / curvature


def critical_lr(
    problem: Problem, batches: Sequence[Any], update: Tensor, *, start: float = 1e-3, resolution: float = RESOLUTION
) -> CriticalLR:
    """The smallest LR at which one step along ``update`` raises the loss of ``batches``, by forward passes alone.

    Doubling from a small LR until the loss exceeds its present value, then bisection (Kalra et al. 2026, arXiv:2601.16979). On the batch
    that made the update it is optimistic; on held-aside batches it means what training will see. Dropout masks are the same each time.

    Args:
        problem: Model and loss; weights and buffers are back afterwards.
        batches: Where the loss is evaluated.
        update: The update per unit of LR, shape ``(n,)``.
        start: First LR to try.
        resolution: Relative width of the final interval.

    Raises:
        CurvatureError: If no LR lowers the loss, or none raises it.
    """
    search = LineSearch(problem, batches, update)
    low, high = bracket(search, start)
    while high / low > 1 + resolution:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if search.lowers(middle) else (low, middle)
    return CriticalLR(lr=(low + high) / 2, low=low, high=high, forwards=search.forwards)


def bracket(search: LineSearch, start: float) -> tuple[float, float]:
    """An LR that lowers the loss and its double, which does not."""
    lr = start
    for _ in range(DOUBLINGS):
        if search.lowers(lr):
            break
        lr /= 2
    else:
        raise CurvatureError("no learning rate lowers the loss along this update; is it an update of these batches?")
    for _ in range(DOUBLINGS):
        if not search.lowers(2 * lr):
            return lr, 2 * lr
        lr *= 2
    raise CurvatureError(f"the loss still falls at a learning rate of {lr:.2g} along this update, so there is no critical one.")


class LineSearch:
    """The loss along one direction, with everything else held still."""

    def __init__(self, problem: Problem, batches: Sequence[Any], update: Tensor) -> None:
        self.problem = problem.bare()
        self.batches = batches
        self._samples = sum(batch_size(batch) or 1 for batch in batches)
        self.parameters = list(problem.parameters.values())
        self.parts = unflatten(update, self.parameters)
        self.forwards = 0
        self._random = keep_random_state()
        self.present = self.loss(0.0)

    def lowers(self, lr: float) -> bool:
        return self.loss(lr) < self.present

    @torch.no_grad()
    def loss(self, lr: float) -> float:
        """At ``w + lr u``; NaN counts as infinite."""
        with moved(self.problem, self.parameters, self.parts, lr, self._random):
            shares = batch_shares(self.batches)
            own = sum(share * float(self.problem.loss(batch)) for batch, share in zip(self.batches, shares, strict=True))
        loss = self.problem.team.mean(own, self._samples)
        self.forwards += len(self.batches)
        return loss if math.isfinite(loss) else math.inf


def secant_lr(gradient: Tensor, ahead: Tensor, step: float) -> float:
    """``step |g|_1 / |g(w - step g) - g|_1``: a Newton step along the gradient, from two gradients of the *same* batch.

    ``1 / sharpness`` in an l1 sense, half a stability limit. The form of Smith and Topin 2017 (arXiv:1708.07120, section 4; see
    ``smith_topin_lr``) with the batch held fixed, so that batch noise cannot stand in for curvature.

    Args:
        gradient: ``g`` at the weights, shape ``(n,)``.
        ahead: The same batch's gradient at ``w - step g``.
        step: The step.

    Raises:
        CurvatureError: If the two gradients are the same.
    """
    change = float((ahead - gradient).abs().sum(dtype=torch.float64))
    if change == 0:
        raise CurvatureError("the gradient does not change along itself, so there is no curvature to divide by.")
    return step * float(gradient.abs().sum(dtype=torch.float64)) / change


def smith_topin_lr(iterates: Sequence[Tensor], lr: float) -> float:
    """Smith and Topin's Hessian-free estimate from consecutive SGD iterates: ``lr sum |w1 - w0| / sum |2 w1 - w0 - w2|``.

    Sums over all weights and iterates, as in arXiv:1708.07120, section 4. **It echoes ``lr``** where batches differ: the denominator is
    then the difference of two batches' noise, and the result stays near 0.7 times the LR trained with. Use ``secant_lr``.

    Args:
        iterates: At least three consecutive weight vectors of plain SGD, shape ``(n,)`` each.
        lr: The LR that made them.

    Raises:
        CurvatureError: If there are fewer than three iterates, or they lie on a line at equal distances.
    """
    if len(iterates) < 3:
        raise CurvatureError(f"smith_topin_lr needs 3 consecutive iterates, but got {len(iterates)}.")
    steps = [after - before for before, after in pairwise(iterates)]
    moved = sum(float(step.abs().sum(dtype=torch.float64)) for step in steps[:-1])
    bent = sum(float((step - following).abs().sum(dtype=torch.float64)) for step, following in pairwise(steps))
    if bent == 0:
        raise CurvatureError("the iterates lie on a line at equal distances, so there is no curvature to divide by.")
    return lr * moved / bent


def online_sharpness(gradient_at: Callable[[Tensor], Tensor], size: int, like: Tensor, *, steps: int = 200, seed: int = 0) -> float:
    """The largest eigenvalue by LeCun, Simard and Pearlmutter 1993: a running mean of gradient differences, one batch a step.

    ``psi <- (1 - gamma) psi + gamma (g(w + alpha psi / |psi|) - g(w)) / alpha``; ``|psi|`` tends to the largest eigenvalue in
    magnitude. ``gamma`` falls from 0.1 to 0.003 along the way.

    Args:
        gradient_at: ``offset -> gradient`` of the next batch at ``w + offset``; called twice a step, which must use the same batch.
        size: ``n``.
        like: A tensor with the dtype and device of the weights.
        steps: Batches to see.
        seed: Of the start vector.

    Returns:
        ``|psi|``; LeCun's LR is one over it.
    """
    psi = random_unit(size, like, seed)
    zero = torch.zeros_like(psi)
    for step in range(steps):
        gamma = 0.1 * (0.03 ** (step / max(steps - 1, 1)))
        alpha = 0.01
        direction = psi / max(norm(psi), 1e-30)
        psi = (1 - gamma) * psi + gamma * (gradient_at(alpha * direction) - gradient_at(zero)) / alpha
    return norm(psi)
