"""Lanczos with full re-orthogonalisation: the most positive eigenvalues from a handful of products."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from hessian.checks import positive_float, positive_int
from hessian.operators.base import CurvatureOperator, check_finite
from hessian.results import EigenResult, Floats
from hessian.vectors import dot, norm, random_unit

MISS = 0.01  # chance to stop below the top; a tenth of it would cost two more products


def lanczos(
    op: CurvatureOperator, k: int = 1, *, tol: float = 0.01, max_iter: int = 60, seed: int = 0, start: Tensor | None = None
) -> EigenResult:
    """The ``k`` most positive eigenvalues of a symmetric operator.

    Krylov spaces do not change under a shift, so a larger negative eigenvalue beside does not win. It stops when an eigenvalue more
    than ``tol`` above the top Ritz value could only have been missed by a start that is one in a hundred (see ``is_highest``); for
    ``k > 1`` the residuals of the others must be at most ``tol`` times their values too.

    Args:
        op: The operator, shape ``(n, n)``.
        k: How many eigenvalues.
        tol: Relative accuracy.
        max_iter: Most products to make.
        seed: Of the random start direction.
        start: Shape ``(n,)``, any length. The default is half ``op.start_hint()``, half random.

    Returns:
        Values in descending order with their residuals ``|H v - value v|``: for each, some eigenvalue lies this close. An eigenvalue
        that repeats is found once, so an operator with few distinct ones gives fewer than ``k``.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
        CurvatureError: If a product is not finite.

    Example:
        >>> import torch
        >>> from hessian import lanczos
        >>> from hessian.operators.dense import DenseOperator
        >>> lanczos(DenseOperator(torch.diag(torch.tensor([-9.0, 1.0, 4.0])))).values.round(3)
        array([4.])
    """
    k = min(positive_int("k", k), op.size)
    tol, max_iter = positive_float("tol", tol), positive_int("max_iter", max_iter)
    before = op.products
    basis, alphas, betas = [start_vector(op, seed, start)], [], []
    while True:
        alpha, beta, following = expand(op, basis)
        alphas.append(alpha)
        betas.append(beta)
        values, vectors = ritz_pairs(alphas, betas)
        residuals = np.abs(beta * vectors[-1])
        exhausted = len(basis) == op.size or beta <= 1e-7 * float(max(abs(values).max(), 1e-30))
        others = len(basis) > k and bool(np.all(residuals[1:k] <= tol * np.abs(values[1:k])))
        converged = exhausted or (others and is_highest(values, betas, op.size, tol))
        if converged or len(basis) >= max_iter:
            break
        basis.append(following / beta)
    rounding = 10 * torch.finfo(op.like.dtype).eps * abs(values).max()
    values[abs(values) < rounding] = 0.0  # a loss that curves downward only must not get a sharpness from rounding errors
    weights = torch.as_tensor(vectors[:, :k], dtype=op.like.dtype, device=op.like.device)
    return EigenResult(
        values=values[:k],
        residuals=residuals[:k],
        converged=converged,
        hvps=op.products - before,
        vectors=torch.stack(basis, dim=1) @ weights,
    )


def start_vector(op: CurvatureOperator, seed: int, start: Tensor | None) -> Tensor:
    """Unit start vector. The random half keeps a hint that misses the sharpest direction from hiding it."""
    random = random_unit(op.size, op.like, seed)
    if start is not None:
        return start.to(op.like) / norm(start)
    hint = op.start_hint()
    length = 0.0 if hint is None else norm(hint)
    if hint is None or length == 0:
        return random
    mixed = hint / length + random
    return mixed / norm(mixed)


def expand(op: CurvatureOperator, basis: list[Tensor]) -> tuple[float, float, Tensor]:
    """One product, orthogonalised twice against the basis ("twice is enough"): diagonal, off-diagonal, next direction."""
    product = op @ basis[-1]
    alpha = dot(product, basis[-1])
    check_finite(op, alpha)
    product = product - alpha * basis[-1]  # not in place: the operator may have returned its argument
    for _ in range(2):
        for vector in basis:
            product -= dot(product, vector) * vector
    return alpha, norm(product), product


def ritz_pairs(alphas: list[float], betas: list[float]) -> tuple[Floats, Floats]:
    """Eigenvalues of the tridiagonal matrix in descending order, eigenvectors as columns."""
    values, vectors = (np.asarray(part, dtype=np.float64) for part in eigh_tridiagonal(np.array(alphas), np.array(betas[:-1])))
    return values[::-1].copy(), vectors[:, ::-1].copy()  # torch takes no negative strides


def is_highest(values: Floats, betas: list[float], size: int, tol: float) -> bool:
    """Whether no eigenvalue lies more than ``tol`` above the top Ritz value, but for a chance of ``MISS`` over random starts.

    The next basis vector has length 1 and is ``p(H)`` times the start, with ``p(x) = prod(x - value) / prod(beta)``. So the start's
    share ``c`` in the eigenvector of an eigenvalue ``h`` obeys ``|c p(h)| <= 1``, and ``p`` grows beyond the Ritz values. Half of the
    start is random: ``|c| < MISS / (1.13 sqrt(n))`` has at most the chance ``MISS`` (van Dorsselaer, Hochstenbach, van der Vorst 2000).
    """
    margin = tol * abs(values[0])
    if margin == 0:
        return False
    growth = np.log(values[0] + margin - values).sum() - np.log(betas).sum()
    return bool(growth >= math.log(1.13 * math.sqrt(size) / MISS))
