"""Power iteration, shifted so that the negative end cannot win: two vectors of memory."""

from __future__ import annotations

import numpy as np

from hessian.checks import positive_float, positive_int
from hessian.operators.base import CurvatureOperator, check_finite
from hessian.results import EigenResult
from hessian.vectors import dot, norm, random_unit


def power_iteration(op: CurvatureOperator, *, tol: float = 0.01, max_iter: int = 1000, seed: int = 0) -> EigenResult:
    """The most positive eigenvalue of a symmetric operator.

    Plain power iteration finds the eigenvalue of largest magnitude, which may be the negative end. Half the largest ``|H v|`` seen is
    added as a shift, and all of it where the iterate curves downward: it pulls the negative end towards zero and keeps growing while
    the iterate leans to that end.

    Args:
        op: The operator, shape ``(n, n)``.
        tol: Stop when the residual ``|H v - value v|`` is at most ``tol`` times the value.
        max_iter: Most products to make.
        seed: Of the random start direction.

    Returns:
        One value, its residual (some eigenvalue lies this close) and its eigenvector.

    Raises:
        CurvatureError: If a product is not finite.
    """
    tol, max_iter = positive_float("tol", tol), positive_int("max_iter", max_iter)
    vector = random_unit(op.size, op.like, seed)
    shift = 0.0
    for iteration in range(1, max_iter + 1):
        product = op @ vector
        value, length = dot(vector, product), norm(product)
        check_finite(op, length)
        residual = norm(product - value * vector)
        converged = value > 0 and residual <= tol * value
        if converged or iteration == max_iter or length == 0:
            break
        shift = max(shift, length / 2 if value > 0 else 1.1 * length)  # not 1.0: that takes an eigenvector to zero
        vector = product + shift * vector
        vector = vector / norm(vector)
    return EigenResult(
        values=np.array([value]),
        residuals=np.array([residual]),
        converged=converged or residual <= tol * abs(value),
        hvps=iteration,
        vectors=vector[:, None],
    )
