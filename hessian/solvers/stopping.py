"""When a Lanczos run has seen enough: estimates, a guard against a missed top, and a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hessian.result_base import Floats
from hessian.solvers.bounds import polynomial_bound

Stop = Literal["guarded", "bound", "gap", "residual"]
STOPS: tuple[Stop, ...] = ("guarded", "bound", "gap", "residual")
MISS = 0.01  # chance to stop below the top
GUARD = 0.2  # how far beyond the outermost Ritz value "guarded" wants the space to be swept


@dataclass
class StopRule:
    """Decides after every product.

    Attributes:
        kind: Which rule; see ``lanczos``.
        k: Values wanted.
        tol: Relative accuracy.
        size: Dimension of the operator.
        hinted: Whether the start vector is half a hint; None if it was given, so that nothing about it is random.
        following: The value after the wanted ones, as an earlier run at nearby weights has seen it; None if none has.
    """

    kind: Stop
    k: int
    tol: float
    size: int
    hinted: bool | None
    following: float | None = None
    previous: Floats | None = None

    def settled(self, values: Floats, residuals: Floats, betas: Sequence[float]) -> bool:
        """Whether the values are known as well as was asked for. Called once for every product, in order."""
        enough = len(values) > self.k or (self.following is not None and len(values) == self.k)
        done = enough and bool(np.all(self.errors(values, residuals) <= self.tol * np.abs(values[: self.k])))
        self.previous = values
        return done and self.is_outermost(values, betas)

    def errors(self, values: Floats, residuals: Floats) -> Floats:
        """Estimated error of every wanted value."""
        if self.kind == "bound":
            return np.array([0.0, *residuals[1 : self.k]])  # the outermost is judged by its bound
        if self.kind == "residual":
            return residuals[: self.k]  # a bound by itself, for which nothing has to have settled
        return np.array([max(self.by_residual(i, values, residuals), self.change(i, values)) for i in range(self.k)])

    def by_residual(self, index: int, values: Floats, residuals: Floats) -> float:
        """The residual ``r``, or ``r^2 / gap`` to the next value if that is less."""
        residual = float(residuals[index])
        below = float(values[index + 1]) if index + 1 < len(values) else -np.inf
        if self.following is not None and index == self.k - 1:
            below = max(below, self.following)
        gap = float(values[index]) - below - residual
        return min(residual, residual**2 / gap) if gap > 0 else residual

    def change(self, index: int, values: Floats) -> float:
        """How much the value has moved with the last product; a run that knows the next value needs no such proof."""
        if self.previous is None:
            return 0.0 if self.following is not None else np.inf
        return abs(float(values[index] - self.previous[index])) if index < len(self.previous) else np.inf

    def is_outermost(self, values: Floats, betas: Sequence[float]) -> bool:
        """Whether no eigenvalue lies beyond a margin over the first Ritz value, but for a chance of ``MISS`` over random starts."""
        if self.kind in ("gap", "residual") or (self.kind == "guarded" and self.hinted is None):
            return True
        margin = (self.tol if self.kind == "bound" else max(self.tol, GUARD)) * abs(float(values[0]))
        return margin > 0 and polynomial_bound(values, betas, self.size, MISS, bool(self.hinted)) <= values[0] + margin
