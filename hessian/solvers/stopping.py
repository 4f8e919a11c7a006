"""When a Lanczos run has seen enough: estimates, a guard against a missed top, and a certificate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv

from hessian.result_base import Floats

Stop = Literal["guarded", "bound", "gap", "residual"]
STOPS: tuple[Stop, ...] = ("guarded", "bound", "gap", "residual")
MISS = 0.01  # chance to stop below the top
GUARD = 0.2  # how far beyond the outermost Ritz value "guarded" wants the space to be swept


@dataclass
class StopRule:
    """Decides after every product.

    Attributes:
        kind: See ``stop`` of ``lanczos``, as for ``k`` and ``tol``.
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


HINT_FACTOR = 2.0  # see ``smallest_share``


def upper_bound(values: Floats, betas: Sequence[float], size: int, *, probability: float = 0.99, hinted: bool = False) -> float:
    """The value that the largest eigenvalue does not exceed, with ``probability`` over the random start vector.

    The better of two bounds, each at half the risk. The first uses what this very run saw: ``q_{k+1} = p(H) q_1`` has unit length, so
    ``p(lambda_1) <= 1 / |<q_1, u_1>|``, and the share of a random unit vector in a fixed direction is not tiny (van Dorsselaer,
    Hochstenbach and van der Vorst 2000, *Computing probabilistic bounds for extreme eigenvalues of symmetric matrices with the
    Lanczos method*). The second needs the step count only (Kuczynski and Wozniakowski 1992).

    ``values`` are all Ritz values, descending; ``betas`` the off-diagonals, the last one being the residual norm of the step that was
    not made; ``hinted`` says whether a fixed direction of the same length was added to the random start vector.
    """
    risk = (1 - probability) / 2
    return min(polynomial_bound(values, betas, size, risk, hinted), step_count_bound(values, size, risk, hinted))


def smallest_share(size: int, risk: float, hinted: bool) -> float:
    """Share ``|<q_1, u>|`` of a random unit vector in a fixed direction that is undercut with probability ``risk``.

    Its square follows Beta(1/2, (n - 1)/2). Adding a fixed vector moves the centre of a symmetric unimodal law, which makes a small
    share less likely (Anderson 1955), and at most doubles the length.
    """
    if size == 1:
        return 1.0
    share = math.sqrt(float(betaincinv(0.5, (size - 1) / 2, risk)))
    return share / HINT_FACTOR if hinted else share


def polynomial_bound(values: Floats, betas: Sequence[float], size: int, risk: float, hinted: bool) -> float:
    """Where the Lanczos polynomial ``p(x) = prod (x - theta_i) / prod beta_i`` reaches one over the smallest likely share."""
    top = float(values[0])
    if not min(betas) > 0:  # the Krylov space is exhausted: the polynomial is infinite beyond its roots
        return top
    target = float(np.sum(np.log(betas))) - math.log(smallest_share(size, risk, hinted))

    def excess(distance: float) -> float:
        return float(np.sum(np.log((top - values) + distance))) - target

    far = max(betas) * 4 + float(values[0] - values[-1])
    while excess(far) < 0:
        far *= 2
    near = far * 1e-15
    if excess(near) > 0:
        return top + near
    return top + float(brentq(excess, near, far, rtol=1e-6))


def step_count_bound(values: Floats, size: int, risk: float, hinted: bool) -> float:
    """From ``P(error > e spread) <= 1.648 sqrt(n) exp(-sqrt(e) (2k - 1))``, for both ends at once since the spread is not known."""
    factor = HINT_FACTOR if hinted else 1.0
    steps = len(values)
    error = (math.log(1.648 * factor * math.sqrt(size) * 2 / risk) / (2 * steps - 1)) ** 2
    if error >= 0.5:
        return math.inf
    spread = float(values[0] - values[-1]) / (1 - 2 * error)
    return float(values[0]) + error * spread
