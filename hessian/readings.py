"""What a ``SharpnessMonitor`` records."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from hessian.codec import Count, Range
from hessian.doubts import CurvatureDoubt
from hessian.layout import wrapped
from hessian.result_base import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NotNegative = Annotated[float, Range("a finite number from 0 on", lambda value: 0 <= value < math.inf)]
LimitOrNaN = Annotated[float, Range("above zero, or NaN", lambda value: not value <= 0)]


@dataclass(frozen=True, kw_only=True, eq=False)
class SharpnessReading(Result):
    """Sharpness and its limit at one step of a training.

    Attributes:
        step: Training steps made, this one included.
        lr: The LR of the largest param group now.
        sharpness: Most positive eigenvalue of the Hessian of that step's batch, in the optimizer's own geometry; NaN if it could not be
            measured, as after the loss blew up.
        limit_lr: The LR up to which that is stable; infinite if no direction curves upward, NaN if it could not be measured.
        hvps: Hessian-vector products made.
        error: Some eigenvalue lies this close to ``sharpness``, which itself is never above the sharpest; 0 along the update, which is
            exact, and NaN if it could not be measured.
        advice: What it means, in one sentence; empty if all is well.
        doubts: Reasons to trust it less.
    """

    kind: ClassVar[str] = "sharpness_reading"

    step: Count
    lr: NotNegative
    sharpness: float
    limit_lr: LimitOrNaN
    hvps: Count
    error: float = math.nan
    advice: str = ""
    doubts: tuple[CurvatureDoubt, ...] = ()

    @property
    def ratio(self) -> float:
        """``lr / limit_lr``: above 1 the training is past the edge of stability."""
        return self.lr / self.limit_lr

    def __str__(self) -> str:
        error = f" +- {self.error:.1g}" if self.error > 0 else ""
        numbers = f"lr {self.lr:.2g} is {self.ratio:.3g} of its limit {self.limit_lr:.2g} (sharpness {self.sharpness:.3g}{error})"
        return "\n".join(wrapped(self.advice or f"step {self.step:,}: {numbers}"))


@dataclass(frozen=True, kw_only=True, eq=False)
class SharpnessRecord(Result):
    """All readings of a training.

    Attributes:
        readings: In order.
        optimizer: The optimizer in words.
        preconditioned: Whether the optimizer scales the Hessian (Adam and the like).
        along: ``"hessian"``, or ``"update"``: along the optimizer's next update only.
    """

    kind: ClassVar[str] = "sharpness_record"

    readings: tuple[SharpnessReading, ...]
    optimizer: str
    preconditioned: bool
    along: str

    def rows(self) -> list[tuple[Any, ...]]:
        """One line a reading."""
        head = ("step", "lr", "sharpness", "error", "limit_lr", "ratio", "hvps")
        return [head, *(tuple(getattr(one, name) for name in head) for one in self.readings)]

    def __str__(self) -> str:
        lines = wrapped(f"{len(self.readings)} readings of the sharpness under {self.optimizer}")
        return "\n".join([*lines, *(line for reading in self.readings[-3:] for line in wrapped(str(reading), "  ", "    "))])

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The LR and its limit over the steps; see ``Result.plot``."""
        from hessian.plotting import plot_record

        return plot_record(self, path, ax)
