"""Stochastic Lanczos quadrature: the whole spectrum as a density, from a few random probes."""

from __future__ import annotations

import math

import numpy as np

from hessian.checks import one_of, positive_float, positive_int
from hessian.operators.base import CurvatureOperator
from hessian.result_base import Floats
from hessian.results import SpectralDensity
from hessian.solvers.krylov import KEPT, Kept, Krylov
from hessian.vectors import probe_seed

GRID = 512


def spectral_density(
    op: CurvatureOperator,
    *,
    num_probes: int = 8,
    steps: int = 60,
    width: float = 0.02,
    seed: int = 0,
    grid: int = GRID,
    memory: Kept = "full",
) -> SpectralDensity:
    """Density of the eigenvalues of a symmetric operator, with error bars.

    Each probe is a Lanczos run from a random direction; its Ritz values, weighted by the squared first components of their vectors,
    are a quadrature of the density (Ubaru, Chen and Saad 2017; Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159). The nodes are
    widened to Gaussians, and probes are averaged.

    Args:
        op: The operator, shape ``(n, n)``.
        num_probes: Random directions; the error falls with the square root of it, and with ``n``.
        steps: Products for each.
        width: Standard deviation of the Gaussians, as a share of the spread of the spectrum.
        seed: Of the probes.
        grid: Points at which the density is given.
        memory: Where the ``steps`` vectors of a probe lie: ``"full"`` beside the parameters, ``"offload"`` in the host's memory.

    Returns:
        Grid, density (integral one) and its standard error over the probes.

    Raises:
        ValueError, TypeError: If an argument cannot be right.
    """
    positive_int("num_probes", num_probes)
    positive_int("steps", steps)
    positive_int("grid", grid, least=2)
    one_of("memory", memory, KEPT)
    width = positive_float("width", width)
    before = op.products
    runs = [quadrature(op, steps, probe_seed(seed, probe), memory) for probe in range(num_probes)]
    low, high = min(nodes[-1] for nodes, _ in runs), max(nodes[0] for nodes, _ in runs)
    sigma = float(width * max(high - low, 1e-12 * max(abs(high), 1.0)))
    points = np.linspace(low - 4 * sigma, high + 4 * sigma, grid)
    densities = np.array([widened(points, nodes, weights, sigma) for nodes, weights in runs])
    error = densities.std(axis=0, ddof=1) / math.sqrt(num_probes) if num_probes > 1 else np.full(len(points), math.nan)
    return SpectralDensity(
        grid=points,
        density=densities.mean(axis=0),
        error=error,
        smallest=float(low),
        largest=float(high),
        size=op.size,
        num_probes=num_probes,
        steps=steps,
        sigma=sigma,
        hvps=op.products - before,
    )


def quadrature(op: CurvatureOperator, steps: int, seed: int, memory: Kept) -> tuple[Floats, Floats]:
    """Ritz values (descending) of one probe and their weights, which add up to one."""
    krylov = Krylov(op, op.space.random_unit(op.like, seed), memory=memory)
    for _ in range(min(steps, op.size)):
        krylov.extend()
        values, vectors = krylov.ritz_pairs()
        if krylov.exhausted(values):
            break
    return values, vectors[0] ** 2


def widened(points: Floats, nodes: Floats, weights: Floats, sigma: float) -> Floats:
    distances = (points[:, None] - nodes) / sigma
    heights: Floats = np.exp(-(distances**2) / 2) @ weights / (sigma * math.sqrt(2 * math.pi))
    return heights
