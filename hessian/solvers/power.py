"""Power iteration with the best shift at every step, so that the negative end cannot win: four vectors of memory."""

from __future__ import annotations

import numpy as np
import torch

from hessian.checks import positive_float, positive_int
from hessian.operators.base import CurvatureOperator, check_finite
from hessian.results import EigenResult


def power_iteration(op: CurvatureOperator, *, tol: float = 0.01, max_iter: int = 1000, seed: int = 0) -> EigenResult:
    """The most positive eigenvalue of a symmetric operator.

    Plain power iteration finds the eigenvalue of largest magnitude, which may be the negative end. Here every step goes to the best
    vector in the plane of ``v`` and ``H v``, which is the one that some shift of ``H`` would give: the value rises at every step.

    Args:
        op: The operator, shape ``(n, n)``.
        tol: Stop when the residual ``|H v - value v|`` is at most ``tol`` times the value's magnitude.
        max_iter: Most products to make.
        seed: Of the random start direction.

    Returns:
        One value, its residual (some eigenvalue lies this close) and its eigenvector.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
        CurvatureError: If a product is not finite.
    """
    tol, max_iter = positive_float("tol", tol), positive_int("max_iter", max_iter)
    vector = op.space.random_unit(op.like, seed)
    product = op @ vector
    for hvps in range(1, max_iter + 1):
        value = op.space.dot(vector, product)
        check_finite(op, value)
        across = torch.add(product, vector, alpha=-value)
        residual = op.space.norm(across)
        converged = residual <= tol * abs(value)
        if converged or hvps == max_iter:
            break
        across.div_(residual)
        product_across = op @ across
        beyond = op.space.dot(across, product_across)
        check_finite(op, beyond)
        a, b = np.linalg.eigh([[value, residual], [residual, beyond]])[1][:, 1].tolist()
        vector.mul_(a).add_(across, alpha=b)
        product = (a * product).add_(product_across, alpha=b)  # a new tensor: what the operator returned may be its own
        length = op.space.norm(vector)  # 1 but for rounding, which adds up
        vector.div_(length)
        product.div_(length)
    return EigenResult(values=np.array([value]), residuals=np.array([residual]), converged=converged, hvps=hvps, vectors=vector[:, None])
