"""Lanczos: extreme eigenvalues from a handful of products."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from hessian.errors import BadArgument, CurvatureError
from hessian.operators.base import CurvatureOperator
from hessian.results import EigenResult, Floats
from hessian.solvers.bounds import upper_bound
from hessian.vectors import dot, norm, random_unit

BREAKDOWN = 1e-7  # off-diagonal over the largest Ritz value below which the Krylov space is exhausted, in float32 as well


def lanczos(
    op: CurvatureOperator,
    k: int = 1,
    *,
    which: Literal["largest", "smallest"] = "largest",
    tol: float = 0.01,
    stop: Literal["gap", "residual"] = "gap",
    max_iter: int = 60,
    seed: int = 0,
    start: Tensor | None = None,
    memory: Literal["full", "low"] = "full",
    probability: float = 0.99,
) -> EigenResult:
    """The ``k`` most positive (or most negative) eigenvalues of a symmetric operator.

    Krylov spaces do not change under a shift, so a larger negative eigenvalue beside does not win. It stops when the estimated error
    of every wanted Ritz value is at most ``tol`` times that value. The estimate is the residual ``r``, or with ``stop="gap"`` the
    smaller of ``r`` and ``r^2 / gap`` to the next Ritz value (Parlett, *The Symmetric Eigenvalue Problem*, section 11.7); the value
    must also have settled.

    Args:
        op: The operator, shape ``(n, n)``.
        k: How many eigenvalues.
        which: ``"largest"``: most positive first; ``"smallest"``: most negative first.
        tol: Relative accuracy at which to stop.
        stop: ``"residual"`` is certain and takes about twice the products of ``"gap"``.
        max_iter: Most products to make.
        seed: Of the random start direction.
        start: Shape ``(n,)``, any length: the eigenvector of nearby weights, say. By default half ``op.start_hint()``, half random.
        memory: ``"full"`` keeps every vector and re-orthogonalises, ``"low"`` keeps three and gives no eigenvectors.
        probability: Of the upper bound.

    Returns:
        Values with their residuals ``|H v - value v|`` (for each, some eigenvalue lies this close), and the bound that the largest
        eigenvalue does not exceed with ``probability`` (for ``"smallest"``: that the smallest does not undercut).

    Raises:
        CurvatureError: If a product is not finite.

    Example:
        >>> import torch
        >>> from hessian import lanczos
        >>> from hessian.operators.dense import DenseOperator
        >>> lanczos(DenseOperator(torch.diag(torch.tensor([-9.0, 1.0, 4.0])))).values.round(3)
        array([4.])
    """
    check_choices(which, stop, memory)
    sign = 1.0 if which == "largest" else -1.0
    k = min(k, op.size)
    before = op.products
    first, hinted = start_vector(op, seed, start)
    krylov = Krylov(op, first, sign, keep_all=memory == "full")
    history: list[Floats] = []
    while True:
        krylov.extend()
        values, vectors = krylov.ritz_pairs()
        residuals = np.abs(krylov.betas[-1] * vectors[-1])
        exhausted = krylov.exhausted(values)
        errors = error_estimates(values, residuals, history, k, stop)
        converged = len(values) >= k and bool(np.all(errors <= tol * np.abs(values[:k])))
        if exhausted or krylov.steps >= max_iter or (converged and krylov.steps > k):
            break
        history.append(values)
    bounded = start is None and not exhausted
    bound = upper_bound(values, krylov.betas, op.size, probability=probability, hinted=hinted) if bounded else np.nan
    return EigenResult(
        values=sign * values[:k],
        residuals=residuals[:k],
        converged=converged or exhausted,
        hvps=op.products - before,
        bound=sign * bound,
        probability=probability,
        vectors=krylov.combine(vectors[:, :k]) if memory == "full" else None,
    )


def check_choices(which: str, stop: str, memory: str) -> None:
    """Refuse unknown words."""
    for name, value, known in (
        ("which", which, ("largest", "smallest")),
        ("stop", stop, ("gap", "residual")),
        ("memory", memory, ("full", "low")),
    ):
        if value not in known:
            raise BadArgument(f"{name}={value!r} is unknown; choose {known[0]!r} or {known[1]!r}.")


def start_vector(op: CurvatureOperator, seed: int, start: Tensor | None) -> tuple[Tensor, bool]:
    """Unit start vector, and whether a hint is in it. The random half keeps a hint that misses the sharpest direction from hiding it."""
    if start is not None:
        if start.shape != (op.size,):
            raise BadArgument(f"start has shape {tuple(start.shape)}, not ({op.size},); pass one flat vector.")
        return start.to(op.like) / norm(start), False
    random = random_unit(op.size, op.like, seed)
    hint = op.start_hint()
    length = 0.0 if hint is None else norm(hint)
    if hint is None or not 0 < length < float("inf"):
        return random, False
    mixed = hint / length + random
    return mixed / norm(mixed), True


@dataclass
class Krylov:
    """An orthonormal basis that grows by one product a step, and the tridiagonal matrix of ``sign * op`` in it."""

    op: CurvatureOperator
    current: Tensor
    sign: float
    keep_all: bool
    alphas: list[float] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)
    basis: list[Tensor] = field(default_factory=list)
    following: Tensor | None = None

    @property
    def steps(self) -> int:
        """Products made."""
        return len(self.alphas)

    def extend(self) -> None:
        """One product. Full memory orthogonalises twice against everything ("twice is enough"), low memory against two vectors."""
        if self.following is not None:
            self.basis = [*self.basis, self.current] if self.keep_all else [self.current]
            self.current = self.following / self.betas[-1]
        product = self.op @ self.current
        if self.sign < 0:
            product.neg_()
        alpha = dot(product, self.current)
        if not np.isfinite(alpha):
            raise CurvatureError(
                f"Hessian-vector product {self.op.products} is not finite; look for infinite gradients (sqrt or norm at 0), or "
                "measure in float32."
            )
        for _ in range(2):
            for vector in (*self.basis, self.current):
                product -= dot(product, vector) * vector
        self.alphas.append(alpha)
        self.betas.append(norm(product))
        self.following = product

    def ritz_pairs(self) -> tuple[Floats, Floats]:
        """Eigenvalues of the tridiagonal matrix in descending order, eigenvectors as columns."""
        pairs = eigh_tridiagonal(np.array(self.alphas), np.array(self.betas[:-1]))
        values, vectors = (np.asarray(part, dtype=np.float64) for part in pairs)
        return values[::-1].copy(), vectors[:, ::-1].copy()  # torch takes no negative strides

    def exhausted(self, values: Floats) -> bool:
        """Whether the space cannot grow: the Ritz values are exact."""
        return self.steps == self.op.size or self.betas[-1] <= BREAKDOWN * max(float(abs(values).max()), 1e-30)

    def combine(self, weights: Floats) -> Tensor:
        """Ritz vectors, shape ``(n, k)``, from their coordinates in the basis."""
        columns = torch.as_tensor(weights, dtype=self.op.like.dtype, device=self.op.like.device)
        total = torch.zeros(self.op.size, weights.shape[1], dtype=self.op.like.dtype, device=self.op.like.device)
        for vector, row in zip((*self.basis, self.current), columns, strict=True):
            total += vector[:, None] * row  # one vector at a time: stacking the basis would double the memory
        return total


def error_estimates(values: Floats, residuals: Floats, history: list[Floats], k: int, stop: str) -> Floats:
    """Estimated error of the top ``k`` Ritz values: residual, or its square over the gap if less, and at least the last change."""
    errors = np.full(k, np.inf)
    if not history:
        return errors
    for i in range(min(k, len(values), len(history[-1]))):
        gap = values[i] - values[i + 1] - residuals[i] if i + 1 < len(values) else 0.0
        by_gap = residuals[i] ** 2 / gap if gap > 0 and stop == "gap" else np.inf
        errors[i] = max(min(residuals[i], by_gap), abs(values[i] - history[-1][i]))
    return errors
