"""Sums over the whole spectrum: trace, Frobenius norm, effective rank."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hessian.checks import positive_int
from hessian.operators.base import CurvatureOperator, full_precision
from hessian.results import Estimate
from hessian.vectors import Space, probe_seed

SAME = 10 * float(np.finfo(np.float32).eps)  # of the longest column: one that adds less is a sum of the others


def trace(op: CurvatureOperator, *, num_products: int = 30, seed: int = 0) -> Estimate:
    """The trace by Hutch++ (Meyer, Musco, Musco and Woodruff 2021, arXiv:2010.09649).

    A third of the products finds a subspace that holds most of the operator, a third takes its trace there exactly, a third
    estimates the rest with random signs. For a spectrum that decays, the error falls with the number of products, not its root.

    Args:
        op: The operator, shape ``(n, n)``.
        num_products: Products to make, at least 6; rounded down to a multiple of three.
        seed: Of the random signs.

    Returns:
        The estimate with its standard error (that of the random part); the exact trace, with the error zero, of an operator that has
        no more than ``num_products`` dimensions.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
    """
    third = positive_int("num_products", num_products, least=6) // 3
    before = op.products
    if op.size <= num_products:
        every = identity(op)
        return Estimate(value=float(op.space.dots(every, op @ every).sum()), error=0.0, hvps=op.products - before)
    basis = orthonormal(op.space, op @ op.space.random_signs(third, op.like, probe_seed(seed, 0)))
    inside = float(op.space.dots(basis, op @ basis).sum())
    probes = op.space.random_signs(third, op.like, probe_seed(seed, 1))
    with full_precision():
        probes.addmm_(basis, op.space.project(basis.T, probes), alpha=-1)
    samples = op.space.dots(probes, op @ probes).cpu().numpy()
    error = float(samples.std(ddof=1) / math.sqrt(third))
    return Estimate(value=inside + float(samples.mean()), error=error, hvps=op.products - before)


def frobenius_norm(op: CurvatureOperator, *, num_products: int = 10, seed: int = 0) -> Estimate:
    """``|H|_F``, from ``E |H z|^2 = |H|_F^2`` for random signs ``z`` (Hutchinson 1990).

    Args:
        op: The operator, shape ``(n, n)``.
        num_products: Products to make, at least 2.
        seed: Of the random signs.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
    """
    positive_int("num_products", num_products, least=2)
    before = op.products
    if op.size <= num_products:
        return Estimate(value=math.sqrt(float(squares_of(op, identity(op)).sum())), error=0.0, hvps=op.products - before)
    squares = squares_of(op, op.space.random_signs(num_products, op.like, seed)).cpu().numpy()
    mean, error = float(squares.mean()), float(squares.std(ddof=1) / math.sqrt(num_products))
    norm = math.sqrt(mean)
    return Estimate(value=norm, error=error / (2 * norm) if norm > 0 else 0.0, hvps=op.products - before)


def effective_rank(op: CurvatureOperator, *, num_products: int = 60, seed: int = 0) -> Estimate:
    """``(trace)^2 / |H|_F^2``: how many equal eigenvalues would give this trace and norm; for positive semi-definite operators (GGN).

    Args:
        op: The operator, shape ``(n, n)``.
        num_products: Products to make, half for each of the two.
        seed: Of the random signs.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
    """
    positive_int("num_products", num_products, least=12)
    top = trace(op, num_products=num_products // 2, seed=seed)
    size = frobenius_norm(op, num_products=num_products // 2, seed=seed)
    if size.value == 0:
        return Estimate(value=0.0, error=0.0, hvps=top.hvps + size.hvps)
    rank = (top.value / size.value) ** 2
    spread = math.hypot(2 * top.error / abs(top.value) if top.value else 0.0, 2 * size.error / size.value)
    return Estimate(value=rank, error=rank * spread, hvps=top.hvps + size.hvps)


def identity(op: CurvatureOperator) -> Tensor:
    """All coordinate directions: as many exact products as an estimate would take tell a small operator entirely."""
    return op.space.own(torch.eye(op.size, dtype=op.like.dtype, device=op.like.device))


def squares_of(op: CurvatureOperator, matrix: Tensor) -> Tensor:
    """Squared length of the product with every column, one column at a time."""
    products = (op @ column for column in matrix.unbind(1))
    return torch.stack([op.space.dots(product, product) for product in products])


def orthonormal(space: Space, matrix: Tensor) -> Tensor:
    """An orthonormal basis of the columns, by Gram-Schmidt done twice; columns that add nothing are left out."""
    rows = matrix.T.contiguous()
    least = math.sqrt(float(space.dots(matrix, matrix).max())) * SAME
    kept = 0
    with full_precision():
        for row in rows:
            for _ in range(2 if kept else 0):
                space.take_off([rows[:kept]], row)
            length = space.norm(row)
            if length > least:
                rows[kept] = row / length
                kept += 1
    return rows[:kept].T
