"""What measurements return: frozen, printed, plotted, saved, read back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hessian.codec import decode_fields, encode_fields
from hessian.errors import BadArgument
from hessian.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with ``kind`` and ``schema``."""
        return {"kind": self.kind, "schema": SCHEMA, **encode_fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The result that ``to_dict`` described; on a subclass, only of that class.

        Raises:
            ValueError: If ``values`` does not describe one.
        """
        fields = dict(values)
        kind, schema = fields.pop("kind", None), fields.pop("schema", None)
        if not isinstance(kind, str) or kind not in Result.kinds or not issubclass(Result.kinds[kind], cls):
            raise ValueError(f"its kind is {kind!r:.40}, not one of {sorted(Result.kinds)}")
        if schema != SCHEMA:
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

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result; the suffix decides: ``.json`` (read back with ``load``), ``.csv``, ``.png``, ``.svg`` or ``.pdf``.

        An existing file is replaced only once the new one is complete.

        Raises:
            BadArgument: If the suffix is none of these, or the result has no such form.
            OSError: If the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            return write_atomically(path, self.to_json().encode())
        if suffix == ".csv":
            return write_atomically(path, csv_text(self.rows()).encode())
        if suffix in IMAGES:
            return save_figure(self.plot(), path)
        raise BadArgument(f"{os.fspath(path)!r} ends in none of .json, .csv, {', '.join(IMAGES)}; choose one of these.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Read what ``save`` wrote as ``.json``; on a subclass, only a result of that class.

        Raises:
            BadArgument: If the file is not such a result.
            OSError: If it cannot be read.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes()))
        except (ValueError, TypeError, RecursionError, AttributeError) as error:
            raise BadArgument(f"{os.fspath(path)!r} is not a saved result: {error}.") from error


def csv_text(rows: list[tuple[Any, ...]]) -> str:
    """Rows as CSV; ``repr`` keeps every digit of a float."""
    return "".join(",".join(cell if isinstance(cell, str) else repr(cell) for cell in row) + "\n" for row in rows)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure in the format that the suffix names."""
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGES:
        raise BadArgument(f"{os.fspath(path)!r} ends in none of {', '.join(IMAGES)}; choose one of these.")
    buffer = BytesIO()
    figure.savefig(buffer, format=suffix[1:], dpi=150)
    return write_atomically(path, buffer.getvalue())


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenResult(Result):
    """Extreme eigenvalues of an operator.

    Attributes:
        values: The eigenvalues (Ritz values), most positive first.
        residuals: ``|H v - value v|`` of each, for unit ``v``: some eigenvalue lies this close.
        converged: Whether every value met the tolerance.
        hvps: Products made.
        vectors: Unit eigenvectors as columns, shape ``(n, k)``; None after reading from a file.
    """

    kind: ClassVar[str] = "eigen"

    values: Floats
    residuals: Floats
    converged: bool
    hvps: int
    vectors: Any = field(default=None, repr=False, metadata={"stored": False})


@dataclass(frozen=True, kw_only=True, eq=False)
class StableLR(Result):
    """Largest learning rate the optimizer tolerates at the current weights.

    Attributes:
        lr: The limit, in the units of the optimizer's ``lr`` (the largest param group's); ``float(result)`` is the same.
        sharpness: Most positive eigenvalue of the Hessian in the optimizer's own geometry (preconditioned; param groups weighted by
            their LR ratio; weight decay that is part of the gradient included). A lower bound until ``converged``.
        residual: ``|H v - sharpness v|`` for unit ``v``: some eigenvalue lies this close.
        converged: Whether the estimated error met ``tol``. If not, ``sharpness`` is low and ``lr`` too high.
        hvps: Hessian-vector products made, each over all batches.
        gradients: Forward-and-backward passes beside the products (the gradients themselves and the optimizer's pre-roll).
        formula: The optimizer's limit with its settings filled in, such as ``"3.8 / sharpness"``.
        preconditioned: Whether the optimizer scales the Hessian (Adam and the like).
        mode: Whether the model stood in ``"train"`` or ``"eval"`` mode.
        num_batches: Batches averaged over.
        batch_size: Samples in the first of them, if known.
        tol: Relative accuracy asked for.
        seed: Of the data order and the start vector.
        model: Class name of the model.
        optimizer: The optimizer in words.
    """

    kind: ClassVar[str] = "stable_lr"

    lr: float
    sharpness: float
    residual: float
    converged: bool
    hvps: int
    gradients: int
    formula: str
    preconditioned: bool
    mode: str
    num_batches: int
    batch_size: int | None
    tol: float
    seed: int
    model: str
    optimizer: str

    def __float__(self) -> float:
        return self.lr

    def __str__(self) -> str:
        name = "preconditioned sharpness" if self.preconditioned else "sharpness"
        state = f"residual {self.residual / self.sharpness:.1%}" if self.converged else "NOT converged: the limit is too high"
        return (
            f"largest stable lr {self.lr:.3g} at these weights\n"
            f"  {self.optimizer}: {self.formula}, {name} {self.sharpness:.3g}\n"
            f"  {self.hvps} HVPs over {self.num_batches} batches of {self.batch_size or '?'} in {self.mode} mode, {state}"
        )

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The limit as a line with everything above it hatched; see ``Result.plot``."""
        from hessian.plotting import plot_limit

        return plot_limit(self, path, ax)
