"""Where a monitor looks first for the sharpest direction."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from hessian.operators.base import CurvatureOperator
from hessian.results import EigenResult
from hessian.solvers.lanczos import lanczos

MOST_HVPS = 12
LEAN = 0.3  # at least so much of the gradient, which a direction that has become unstable fills: one that overtakes is not missed
KEPT = 0.1  # and so much of the direction before
MEMORY = 0.5  # of the shares, from reading to reading
PARALLEL = 1e-3  # squared sine between both below which nothing can be told about their shares


class Follower:
    """The most positive eigenvalue from reading to reading.

    On one batch the direction before is worth most, on a new one each time its gradient often more. How much of either a reading found
    is remembered, and the next one starts with as much.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._before: Tensor | None = None
        self._shares = (1.0, LEAN)

    def top(self, operator: CurvatureOperator, tol: float, every: Callable[[bool], bool]) -> EigenResult:
        """It, to ``tol`` of its residual; from where it was, or from nothing at first and where weights have come or gone.

        ``every``: whether something is true on every rank, each of which holds a part of the weights.
        """
        before = self._before
        if before is None or not every(before.shape[0] == operator.space.length):
            found = lanczos(operator, seed=self._seed)
        else:
            gradient = towards(operator, before)
            start = before if gradient is None else self._shares[0] * before + self._shares[1] * gradient
            found = lanczos(operator, tol=tol, stop="residual", max_iter=MOST_HVPS, start=start)
            if gradient is not None:
                self._learn(operator, found.vectors[:, 0], before, gradient)
        self._before = found.vectors[:, 0] if float(found.values[0]) > 0 else None
        return found

    def _learn(self, operator: CurvatureOperator, found: Tensor, before: Tensor, gradient: Tensor) -> None:
        """The mix of both that comes nearest to what was found, averaged over the readings."""
        space = operator.space
        between, of_before, of_gradient = space.dot(before, gradient), space.dot(found, before), space.dot(found, gradient)
        best = abs(of_before - between * of_gradient), abs(of_gradient - between * of_before)
        length = math.hypot(*best)
        if 1 - between**2 < PARALLEL or length == 0:
            return
        one, other = (MEMORY * old + (1 - MEMORY) * new / length for old, new in zip(self._shares, best, strict=True))
        self._shares = max(one, KEPT * other), max(other, LEAN * one)


def towards(operator: CurvatureOperator, direction: Tensor) -> Tensor | None:
    """The gradient as a unit vector, turned such that it does not point away from the direction; None where there is none."""
    gradient = operator.start_hint()
    length = 0.0 if gradient is None else operator.space.norm(gradient)
    if gradient is None or not 0 < length < math.inf:
        return None
    sign = 1.0 if operator.space.dot(direction, gradient) >= 0 else -1.0
    return gradient.to(direction) * (sign / length)
