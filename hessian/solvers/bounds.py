"""What a Lanczos run says about the eigenvalue it may have missed: upper bounds that hold with a stated probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv

from hessian.result_base import Floats

HINT_FACTOR = 2.0  # a start that is half a fixed direction has at least half the random part's share in any direction


def upper_bound(values: Floats, betas: Sequence[float], size: int, *, probability: float = 0.99, hinted: bool = False) -> float:
    """The value that the largest eigenvalue does not exceed, with ``probability`` over the random start vector.

    The better of two bounds, each at half the risk. The first uses what this very run saw: ``q_{k+1} = p(H) q_1`` has unit length, so
    ``p(lambda_1) <= 1 / |<q_1, u_1>|``, and the share of a random unit vector in a fixed direction is not tiny (van Dorsselaer,
    Hochstenbach and van der Vorst 2000, *Computing probabilistic bounds for extreme eigenvalues of symmetric matrices with the
    Lanczos method*). The second needs the step count only (Kuczynski and Wozniakowski 1992).

    Args:
        values: All Ritz values, descending.
        betas: Off-diagonals, the last one being the residual norm of the step that was not made.
        size: Dimension ``n``.
        probability: In (0, 1).
        hinted: Whether a fixed direction of the same length was added to the random start vector.
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


def steps_needed(size: int, accuracy: float, *, probability: float = 0.99) -> int:
    """Lanczos steps after which the relative error is at most ``accuracy`` with ``probability``, whatever the spectrum.

    Kuczynski and Wozniakowski 1992, for a random start vector and a positive semi-definite operator.

    Example:
        >>> steps_needed(10**6, 0.1)
        20
    """
    return math.ceil(0.5 + math.log(1.648 * math.sqrt(size) / (1 - probability)) / (2 * math.sqrt(accuracy)))
