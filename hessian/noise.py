"""How batches disagree about the curvature, and what that allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hessian.errors import BadArgument, BadType
from hessian.operators.hessian import HessianOperator, detached
from hessian.results import Estimate


def batch_sharpness(op: HessianOperator) -> Estimate:
    """``E_B[g_B' H_B g_B / |g_B|^2]``: the curvature of each batch along its own gradient, averaged over batches.

    For SGD without momentum it settles at ``2 / lr`` (Andreyev and Beneventano 2024, arXiv:2412.20553). Before training it is a
    number about the gradient's direction, not a safe limit.

    Args:
        op: The Hessian over at least two batches.

    Returns:
        The mean with its standard error over the batches.

    Raises:
        BadArgument: If there is one batch only.
        BadType: If the operator is no ``HessianOperator``: differences give no products of single batches.
    """
    need_batches(op)
    op.products += 1
    places = itertools.count()

    def along_itself(gradient: list[Tensor]) -> float | None:
        place = next(places)
        flat = op.pooled_part(detached(gradient), place)
        length = op.space.dot(flat, flat)
        return op.space.dot(op.pooled_part(op.differentiate(gradient, flat), place), flat) / length if length > 0 else None

    values = [value for value, _ in op.through(along_itself) if value is not None]
    return mean_estimate(values)


def mean_estimate(values: Sequence[float]) -> Estimate:
    count = len(values)
    mean = sum(values) / count if count else math.nan
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count) if count > 1 else math.nan
    return Estimate(value=mean, error=error, hvps=1)


def curvature_variance(op: HessianOperator, direction: Tensor, scale: Tensor | None = None) -> tuple[float, float, float]:
    """Curvature along a unit direction ``v``, shape ``(n,)``, the variance of one batch's product about it, and the relative error of that.

    ``v' H v`` and ``E |H_B v - H v|^2`` (unbiased over the batches at hand); of ``S H S`` where ``scale`` is the diagonal of ``S``.
    """
    need_batches(op)
    moved = direction if scale is None else scale * direction
    products = [product if scale is None else product.mul_(scale) for product in op.batch_products(moved)]
    mean = torch.zeros_like(direction)
    for product in products:
        mean.add_(product, alpha=1 / len(products))
    squares = [op.space.norm(product.sub_(mean)) ** 2 for product in products]
    return op.space.dot(mean, direction), sum(squares) / (len(products) - 1), relative_error(squares)


def relative_error(squares: Sequence[float]) -> float:
    """Standard error of a variance over the variance, by leaving out each batch in turn (jackknife, Quenouille 1956): 1 where it comes
    from one batch alone. NaN for two batches, which say nothing of it.

    Args:
        squares: Squared distance of every batch's product from their mean.
    """
    count, total = len(squares), sum(squares)
    if count < 3 or not total:
        return math.nan
    spread = math.sqrt(sum((square - total / count) ** 2 for square in squares))
    return math.sqrt(count * (count - 1)) / (count - 2) * spread / total


def noise_limit(curvature: float, variance: float, *, momentum: float = 0.0, averaged: bool = False) -> float:
    """Largest LR at which SGD stays stable in mean square along a direction whose curvature differs from batch to batch.

    ``1 / lr = a / (2 (1 + mu)) + v / (2 (1 - mu) a)``. Without momentum this is the linear stability of Wu, Ma and E 2018 (section 3);
    for heavy ball it is derived in docs/formulas.md#batch-noise.

    Args:
        curvature: ``a``, > 0.
        variance: ``v`` of a single batch's curvature about ``a``.
        momentum: ``mu``, in [0, 1).
        averaged: Whether the momentum averages (Adam's, or ``dampening`` equal to ``momentum``): the LR is then ``1 / (1 - mu)`` larger.

    Raises:
        ValueError: If the curvature is not positive.

    Example:
        >>> round(noise_limit(10.0, 0.0, momentum=0.9), 3), round(noise_limit(10.0, 100.0), 3)
        (0.38, 0.1)
    """
    if not curvature > 0:
        raise ValueError(f"curvature={curvature:g} is not positive, so there is no limit.")
    inverse = curvature / (2 * (1 + momentum)) + variance / (2 * (1 - momentum) * curvature)
    return 1 / inverse / ((1 - momentum) if averaged else 1.0)


def need_batches(op: HessianOperator) -> None:
    if not isinstance(op, HessianOperator):
        raise BadType(f"batch noise needs a HessianOperator, but got a {type(op).__name__}; pass HessianOperator(problem, batches).")
    if len(op.graphs.batches) < 2:
        raise BadArgument("batch noise needs an operator over at least 2 batches, but this one has 1; pass more batches.")
