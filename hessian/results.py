"""What measurements return: frozen, printed, plotted, saved, read back."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hessian.codec import decode_fields, encode_fields
from hessian.doubts import CurvatureDoubt
from hessian.errors import BadArgument
from hessian.files import read_limited, write_atomically
from hessian.ranges import LARGEST_LOSS, AboveZero, Count, Positive, Some
from hessian.reports.embedded import extract
from hessian.strict_json import parse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hessian.reports.parts import Report

Floats = npt.NDArray[np.float64]
IMAGES = (".png", ".svg", ".pdf")
SCHEMA = 1


class Result:
    """Base of all results: equality by content, JSON, files. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Result]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result.kinds[cls.kind] = cls
        if "__str__" in vars(cls):  # IPython asks the class itself first, and there finds what dataclasses make of repr
            cls._repr_pretty_ = Result._repr_pretty_  # type: ignore[method-assign]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with ``kind`` and ``schema``."""
        return {"kind": self.kind, "schema": SCHEMA, **encode_fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The result that ``to_dict`` described; on a subclass, only of that class.

        Raises:
            ValueError: If ``values`` does not describe one.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
        fields = dict(values)
        kind, schema = fields.pop("kind", None), fields.pop("schema", None)
        known = sorted(name for name, found in Result.kinds.items() if issubclass(found, cls))
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(f"its kind is {kind!r:.40}, not one of {known}")
        if schema != SCHEMA or isinstance(schema, bool):
            raise ValueError(f"its schema is {schema!r:.40}, and this version reads {SCHEMA}")
        found = Result.kinds[kind]
        return found(**decode_fields(found, fields))

    def to_json(self) -> str:
        """What a ``.json`` file holds; NaN and infinity are text in it, for JSON has no number for them."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def rows(self) -> list[tuple[Any, ...]]:
        """The table that a ``.csv`` file holds, header first.

        Raises:
            BadArgument: If the result has none.
        """
        raise BadArgument(f"a {self.kind} has no table for .csv; save it as .json.")

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """Draw the result, on ``ax`` if given, and write the figure to ``path`` if given.

        Raises:
            BadArgument: If the result has no picture, or ``path`` ends in none of ``.png``, ``.svg`` and ``.pdf``.
        """
        raise BadArgument(f"a {self.kind} has no picture; save it as .json.")

    def report(self) -> Report | None:
        """What a page about the result says; None if there is none."""
        return None

    def to_html(self) -> str:
        """What an ``.html`` file holds: a page that stands alone, without scripts or requests, and with the JSON inside.

        Raises:
            BadArgument: If the result has no report.
        """
        from hessian.reports.to_html import page

        report = self.report()
        if report is None:
            raise BadArgument(f"a {self.kind} has no report for .html; save it as .json.")
        return page(report, json.dumps(self.to_dict(), allow_nan=False))

    def _repr_html_(self) -> str | None:
        """The report as notebooks show it; None, and they show the text, if there is none."""
        from hessian.reports.to_html import fragment

        report = self.report()
        return None if report is None else fragment(report)

    def _repr_markdown_(self) -> str | None:
        """The same where no HTML is shown."""
        from hessian.reports.to_markdown import markdown

        report = self.report()
        return None if report is None else markdown(report)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Where IPython shows text, what ``print`` shows."""
        printer.text(str(self))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result; the suffix decides: ``.json`` or ``.html``, which ``load`` reads back, ``.csv``, ``.png``, ``.svg``, ``.pdf``.

        An existing file is replaced only once the new one is complete.

        Raises:
            BadArgument: If the suffix is none of these, or the result has no such form.
            OSError: If the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            return write_atomically(path, self.to_json().encode())
        if suffix == ".html":
            return write_atomically(path, self.to_html().encode())
        if suffix == ".csv":
            return write_atomically(path, csv_text(self.rows()).encode())
        if suffix in IMAGES:
            return save_figure(self.plot(), path)
        raise BadArgument(f"{os.fspath(path)!r} ends in none of .json, .html, .csv, {', '.join(IMAGES)}; choose one of these.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Read what ``save`` wrote as ``.json`` or ``.html``; on a subclass, only a result of that class.

        The file may be anything: it is checked field by field, nothing in it is run, and at most 64 MiB are read.

        Raises:
            BadArgument: If the file is not such a result, or is larger.
            OSError: If it cannot be read.
        """
        try:
            return cls.from_dict(parse(extract(read_limited(path))))
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise BadArgument(f"{os.fspath(path)!r} is not a saved result: {str(error) or 'it does not fit into memory'}.") from error


def csv_text(rows: list[tuple[Any, ...]]) -> str:
    """Rows as CSV; ``repr`` keeps every digit of a float."""
    return "".join(",".join(cell if isinstance(cell, str) else repr(cell) for cell in row) + "\n" for row in rows)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure in the format that the suffix names."""
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGES:
        raise BadArgument(f"{os.fspath(path)!r} ends in none of {', '.join(IMAGES)}; choose one of these.")
    return write_atomically(path, rendered(figure, suffix[1:]))


def rendered(figure: Figure, form: str) -> bytes:
    """A figure as a file of that form holds it."""
    buffer = BytesIO()
    with warnings.catch_warnings(), np.errstate(over="ignore"):  # ticks overflow beside 1e300; the picture is right all the same
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for a letter that the font lacks
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # a name that leaves no room for the axes runs over them
        figure.savefig(buffer, format=form, dpi=150)
    return buffer.getvalue()


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
        """The density on a logarithmic axis, with its error band; see ``Result.plot``."""
        from hessian.plotting import plot_density

        return plot_density(self, path, ax)


@dataclass(frozen=True, kw_only=True, eq=False)
class StableLR(Result):
    """Largest learning rate the optimizer tolerates at the current weights.

    Attributes:
        lr: The limit that binds, in the units of the optimizer's ``lr`` (the largest param group's); ``float(result)`` is the same.
        curvature_lr: The limit of the mean curvature.
        noise_lr: The limit of the batches' disagreement about it; None where it cannot be told (one batch, no formula).
        first_step_lr: The curvature limit of an adaptive optimizer at its very first step, whose preconditioner is a single batch's;
            None for others. ``curvature_lr / first_step_lr`` is what a warm-up gains.
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
        """Which limit binds and what would move it, in one sentence."""
        from hessian.describe import describe_binding

        return describe_binding(self)

    def __str__(self) -> str:
        from hessian.describe import describe_limit

        return describe_limit(self)

    def explain(self) -> str:
        """How the limit came about, in words, with the formulas filled in; fits 80 columns."""
        from hessian.explain import explain_limit

        return explain_limit(self)

    def log_to(self, writer: Any, step: int = 0, *, run: Any = None) -> None:
        """Write the limit and what it is made of to TensorBoard, W&B or MLflow, at this step of the training.

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
