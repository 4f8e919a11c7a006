"""One real update of the user's model."""

from __future__ import annotations

import math
from typing import Any

from hessian.problem import Problem


def train_step(problem: Problem, batch: Any) -> float:
    """Forward, backward, step; returns the loss before the step. A loss that is not finite moves nothing."""
    problem.optimizer.zero_grad()
    loss = problem.loss(batch)
    value = float(loss.item())
    if math.isfinite(value):
        loss.backward()  # type: ignore[no-untyped-call]
        problem.optimizer.step()
    return value
