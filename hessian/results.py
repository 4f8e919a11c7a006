"""What measurements return."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hessian.codec import LARGEST_LOSS, AboveZero, Count, Positive, Some
from hessian.doubts import CurvatureDoubt
from hessian.result_base import Floats, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hessian.reports.parts import Report


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenResult(Result):
    """Extreme eigenvalues of an operator.

    Attributes:
        values: The eigenvalues (Ritz values), most positive first.
        residuals: ``|H v - value v|`` of each, for unit ``v``: some eigenvalue lies this close.
        converged: Whether every value met the tolerance.
        hvps: Products made.
        bound: With ``probability`` the outermost eigenvalue does not lie beyond this; NaN where no random start vector was used.
        probability: Of ``bound``, over the random start vector.
        following: The value that comes after ``values``; NaN where none was seen.
        vectors: Unit eigenvectors as columns, shape ``(n, k)``; None with low memory and after reading from a file.
    """

    kind: ClassVar[str] = "eigen"

    values: Floats
    residuals: Floats
    converged: bool
    hvps: Count
    bound: float = math.nan
    probability: float = 0.99
    following: float = math.nan
    vectors: Any = field(default=None, repr=False, metadata={"stored": False})

    def __str__(self) -> str:
        from hessian.describe import describe_eigen

        return describe_eigen(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate(Result):
    """A number from random probes or batches.

    Attributes:
        value: The estimate.
        error: Its standard error.
        hvps: Products made.
    """

    kind: ClassVar[str] = "estimate"

    value: float
    error: float
    hvps: Count

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        from hessian.describe import describe_estimate

        return describe_estimate(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class CriticalLR(Result):
    """The LR at which one step along an update first raises the loss.

    Attributes:
        lr: Middle of the interval.
        low: An LR that lowers the loss.
        high: An LR that does not.
        forwards: Forward passes made, each over one batch.
    """

    kind: ClassVar[str] = "critical_lr"

    lr: float
    low: float
    high: float
    forwards: Count

    def __float__(self) -> float:
        return self.lr

    def __str__(self) -> str:
        from hessian.describe import describe_critical

        return describe_critical(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralDensity(Result):
    """Density of the eigenvalues of an operator.

    Attributes:
        grid: Eigenvalues, shape ``(m,)``.
        density: Share of all eigenvalues per unit, shape ``(m,)``; its integral is one.
        error: Standard error over the probes, shape ``(m,)``; NaN for a single probe.
        smallest: Smallest Ritz value of any probe.
        largest: Largest Ritz value of any probe.
        size: Dimension ``n``.
        num_probes: Random directions.
        steps: Products for each.
        sigma: Standard deviation of the Gaussians.
        hvps: Products made.
    """

    kind: ClassVar[str] = "spectral_density"

    grid: Floats
    density: Floats
    error: Floats
    smallest: float
    largest: float
    size: Some
    num_probes: Count
    steps: Count
    sigma: float
    hvps: Count

    def __post_init__(self) -> None:
        if not self.grid.shape == self.density.shape == self.error.shape or self.grid.size == 0:
            raise ValueError(f"grid, density and error have shapes {self.grid.shape}, {self.density.shape} and {self.error.shape}, not one")
        if not (np.all(np.abs(self.grid) <= LARGEST_LOSS) and np.all(np.diff(self.grid) > 0)):
            raise ValueError("grid is not finite and rising")

    def __str__(self) -> str:
        from hessian.describe import describe_density

        return describe_density(self)

    def rows(self) -> list[tuple[Any, ...]]:
        return [("eigenvalue", "density", "error"), *zip(self.grid.tolist(), self.density.tolist(), self.error.tolist(), strict=True)]

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """On a logarithmic axis, with its error band; see ``Result.plot``."""
        from hessian.plotting import plot_density

        return plot_density(self, path, ax)


@dataclass(frozen=True, kw_only=True, eq=False)
class StableLR(Result):
    """Largest learning rate the optimizer tolerates at the current weights.

    Attributes:
        lr: The limit that binds, in the units of the optimizer's ``lr`` (the largest param group's); ``float(result)`` is the same.
        curvature_lr: The limit of the mean curvature.
        noise_lr: The limit of the batches' disagreement about it; None where it cannot be told (one batch, no formula).
        first_step_lr: The curvature limit of an adaptive optimizer at its very first step, whose preconditioner is a single batch's, and
            where a warm-up begins; None for others, and where ``find_lr`` had no need of it. ``curvature_lr / first_step_lr`` is what a
            warm-up gains.
        sharpness: Most positive eigenvalue of the Hessian in the optimizer's own geometry (preconditioned; param groups weighted by
            their LR ratio; weight decay that is part of the gradient included). A lower bound until ``converged``.
        residual: ``|H v - sharpness v|`` for unit ``v``: some eigenvalue lies this close.
        bound: With 99 % probability the sharpness is at most this.
        converged: Whether the estimated error met ``tol``. If not, ``sharpness`` is low and ``lr`` too high.
        hvps: Hessian-vector products made, each over all batches.
        gradients: Forward-and-backward passes beside the products (the gradients themselves and the optimizer's pre-roll).
        formula: The optimizer's limit with its settings filled in, such as ``"3.8 / sharpness"``.
        preconditioned: Whether the optimizer scales the Hessian (Adam and the like).
        by_parameter: Share of the sharpest direction in every named parameter, largest first; they add up to one.
        doubts: Reasons to trust it less.
        method: ``"autograd"`` or ``"finite_difference"``.
        along: ``"hessian"``, or ``"update"``: along the optimizer's next update only.
        mode: Whether the model stood in ``"train"`` or ``"eval"`` mode.
        num_batches: Batches averaged over.
        batch_size: Samples in the first of them, if known.
        tol: Relative accuracy asked for.
        seed: Of the data order and the start vector.
        model: Class name of the model.
        optimizer: The optimizer in words.
        derivation: The numerator of ``formula`` in symbols, with their values, such as ``"2 (1 + mu) / (1 - tau) with mu = 0.9, tau = 0"``.
    """

    kind: ClassVar[str] = "stable_lr"

    lr: Positive
    curvature_lr: Positive
    noise_lr: AboveZero | None
    first_step_lr: AboveZero | None
    sharpness: Positive
    residual: float
    bound: float
    converged: bool
    hvps: Count
    gradients: Count
    formula: str
    preconditioned: bool
    by_parameter: dict[str, float]
    doubts: tuple[CurvatureDoubt, ...]
    method: str
    along: str
    mode: str
    num_batches: Count
    batch_size: Count | None
    tol: float
    seed: Count
    model: str
    optimizer: str
    derivation: str = ""

    def __float__(self) -> float:
        return self.lr

    @property
    def binding(self) -> str:
        """What sets the limit: ``"curvature"`` or ``"noise"``."""
        return "noise" if self.noise_lr is not None and self.noise_lr < self.curvature_lr else "curvature"

    @property
    def advice(self) -> str:
        """What binds and what would move it, in one sentence."""
        from hessian.describe import describe_binding

        return describe_binding(self)

    def __str__(self) -> str:
        from hessian.describe import describe_limit

        return describe_limit(self)

    def explain(self) -> str:
        """How the limit came about, with the formulas filled in; fits 80 columns."""
        from hessian.explain import explain_limit

        return explain_limit(self)

    def log_to(self, writer: Any, step: int = 0, *, run: Any = None) -> None:
        """Write the limit and what it is made of to TensorBoard, W&B or MLflow.

        Args:
            writer: A TensorBoard ``SummaryWriter``, a W&B run, or for MLflow its module, a run of it or a client.
            step: Step of the training at which it was measured.
            run: With an ``MlflowClient``, the run or its id; None takes the active one.

        Raises:
            BadType: If the writer is none of these.
            BadArgument: If an ``MlflowClient`` comes without a run.
        """
        from hessian.writers import log_limit

        log_limit(self, writer, step, run)

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The limit as a line with everything above it hatched; see ``Result.plot``."""
        from hessian.plotting import plot_limit

        return plot_limit(self, path, ax)

    def report(self) -> Report:
        """The limit, what binds, the sharpest parameters and every doubt."""
        from hessian.reports.limit import limit_report

        return limit_report(self)
