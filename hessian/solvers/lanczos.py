"""Lanczos: extreme eigenvalues from a handful of products."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hessian.checks import one_of, positive_float, positive_int
from hessian.errors import BadArgument
from hessian.operators.base import CurvatureOperator
from hessian.results import EigenResult
from hessian.solvers.krylov import MEMORIES, Krylov, Memory
from hessian.solvers.stopping import STOPS, Stop, StopRule, upper_bound


def lanczos(
    op: CurvatureOperator,
    k: int = 1,
    *,
    which: Literal["largest", "smallest"] = "largest",
    tol: float = 0.01,
    stop: Stop = "guarded",
    max_iter: int = 60,
    seed: int = 0,
    start: Tensor | EigenResult | None = None,
    memory: Memory = "full",
    probability: float = 0.99,
) -> EigenResult:
    """The ``k`` most positive (or most negative) eigenvalues of a symmetric operator.

    Krylov spaces do not change under a shift, so a larger negative eigenvalue beside does not win. When it stops is a choice:

    - ``"gap"``: when the estimated error of every wanted value is at most ``tol`` times the value and the value has settled; the
      estimate is the residual ``r`` or ``r^2 / gap`` to the next Ritz value, whichever is less (Parlett, *The Symmetric Eigenvalue
      Problem*, section 11.7). It cannot know of a direction that the start has hardly any share in;
    - ``"guarded"``: the same, and not before an eigenvalue 20 % beyond could only have been missed by a start that is one in a
      hundred (see ``upper_bound``);
    - ``"bound"``: when that is so for an eigenvalue ``tol`` beyond, and the residuals of the others are at most ``tol`` times their
      values;
    - ``"residual"``: when ``r`` itself is at most ``tol`` times the value: some eigenvalue lies that close, which need not be the
      outermost.

    More than 1 % low were 4.6 %, 0.6 % and none of 900 runs with the first three; what they cost is in docs/cost.md.

    Args:
        op: The operator, shape ``(n, n)``.
        k: How many eigenvalues.
        which: ``"largest"``: most positive first; ``"smallest"``: most negative first.
        tol: Relative accuracy at which to stop.
        stop: When to stop, as above.
        max_iter: Most products to make.
        seed: Of the random start direction.
        start: The result of this function at nearby weights: it gives the direction and knows how far the other eigenvalues are, so
            that one product may do (it follows that direction; another that has overtaken it can go unseen). Or a vector, shape
            ``(n,)``, of any length. By default half ``op.start_hint()``, half random. With a given start nothing is random:
            ``"guarded"`` is ``"gap"`` then, and there is no bound.
        memory: ``"full"`` keeps every vector and re-orthogonalises; ``"offload"`` does so with the vectors in the host's memory;
            ``"low"`` keeps three and gives no eigenvectors.
        probability: Of the upper bound.

    Returns:
        Values with their residuals ``|H v - value v|`` (for each, some eigenvalue lies this close), and the bound that the largest
        eigenvalue does not exceed with ``probability`` (for ``"smallest"``: that the smallest does not undercut).

    Raises:
        ValueError, TypeError: If an argument cannot be right.
        CurvatureError: If a product is not finite.

    Example:
        >>> import torch
        >>> from hessian import lanczos
        >>> from hessian.operators.base import DenseOperator
        >>> lanczos(DenseOperator(torch.diag(torch.tensor([-9.0, 1.0, 4.0])))).values.round(3)
        array([4.])
    """
    one_of("which", which, ("largest", "smallest"))
    one_of("stop", stop, STOPS)
    one_of("memory", memory, MEMORIES)
    sign = 1.0 if which == "largest" else -1.0
    k = min(positive_int("k", k), op.size)
    tol, max_iter = positive_float("tol", tol), positive_int("max_iter", max_iter)
    before = op.products
    first, hinted = start_vector(op, seed, start)
    rule = StopRule(stop, k, tol, op.size, hinted, following_value(start, k, sign))
    krylov = Krylov(op, first, sign, memory)
    while True:
        krylov.extend()
        values, vectors = krylov.ritz_pairs()
        residuals = np.abs(krylov.betas[-1] * vectors[-1])
        exhausted = krylov.exhausted(values)
        settled = rule.settled(values, residuals, krylov.betas)
        if exhausted or settled or krylov.steps >= max_iter:
            break
    rounding = 10 * torch.finfo(op.like.dtype).eps * abs(values).max()
    values[abs(values) < rounding] = 0.0  # a loss that curves downward only must not get a sharpness from rounding errors
    if hinted is None:
        bound = np.nan  # nothing is random about the start
    elif exhausted:
        bound = float(values[0])
    else:
        bound = upper_bound(values, krylov.betas, op.size, probability=probability, hinted=hinted)
    return EigenResult(
        values=sign * values[:k],
        residuals=residuals[:k],
        converged=bool(exhausted or settled),
        hvps=op.products - before,
        bound=sign * bound,
        probability=probability,
        following=sign * float(values[k]) if len(values) > k else following_of(start),
        vectors=krylov.combine(vectors[:, :k]) if memory != "low" else None,
    )


def start_vector(op: CurvatureOperator, seed: int, start: Tensor | EigenResult | None) -> tuple[Tensor, bool | None]:
    """Unit start vector, and whether a hint is in it; None if it was given.

    The random half keeps a hint that misses the sharpest direction from hiding it.
    """
    if start is not None:
        return given_vector(op, start), None
    random = op.space.random_unit(op.like, seed)
    hint = op.start_hint()
    length = 0.0 if hint is None else op.space.norm(hint)
    if hint is None or not 0 < length < np.inf:
        return random, False
    mixed = random.add_(hint, alpha=1 / length)
    return mixed.div_(op.space.norm(mixed)), True


def given_vector(op: CurvatureOperator, start: Tensor | EigenResult) -> Tensor:
    """The start that the caller gave, of unit length; of an earlier result, a direction that leans towards all its eigenvectors."""
    if not isinstance(start, EigenResult):
        vector = start
    elif start.vectors is None:
        raise BadArgument("start has no eigenvectors (low memory, or read from a file); pass a result that has them, or a vector.")
    else:
        vector = start.vectors.sum(dim=1)
    if vector.shape != (op.space.length,):
        raise BadArgument(f"start has shape {tuple(vector.shape)}, not ({op.space.length},); pass one flat vector.")
    vector = vector.detach().to(op.like)
    return vector / op.space.norm(vector)


def following_of(start: Tensor | EigenResult | None) -> float:
    """The value after those of an earlier result; NaN if there is none."""
    return start.following if isinstance(start, EigenResult) else np.nan


def following_value(start: Tensor | EigenResult | None, k: int, sign: float) -> float | None:
    """The same for the operator with its sign, where one value is wanted and was measured; else None."""
    known = k == 1 and isinstance(start, EigenResult) and len(start.values) == 1 and np.isfinite(start.following)
    return sign * following_of(start) if known else None
