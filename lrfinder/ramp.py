"""The grid of learning rates that a sweep visits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hessian.checks import positive_float, positive_int
from hessian.errors import BadArgument
from hessian.ranges import LARGEST_LR, SMALLEST_LR
from hessian.result_base import Floats

MOST_STEPS = 10_000_000  # the grid must fit into memory, several times
Mode = Literal["exponential", "linear"]


@dataclass(frozen=True)
class Ramp:
    """``num_iter`` learning rates from ``start_lr`` to ``end_lr``, both included."""

    start_lr: float
    end_lr: float
    num_iter: int
    mode: Mode = "exponential"

    def __post_init__(self) -> None:
        positive_float("start_lr", self.start_lr)
        positive_float("end_lr", self.end_lr)
        positive_int("num_iter", self.num_iter, least=2)
        if self.start_lr >= self.end_lr:
            raise BadArgument(
                f"start_lr={self.start_lr:g} is not below end_lr={self.end_lr:g}; swap them, or leave both out to use the default range."
            )
        if self.start_lr < SMALLEST_LR or self.end_lr > LARGEST_LR:
            raise BadArgument(
                f"start_lr={self.start_lr:g} and end_lr={self.end_lr:g} do not lie between {SMALLEST_LR:g} and {LARGEST_LR:g}; "
                "leave both out to use the default range."
            )
        if self.num_iter > MOST_STEPS:
            raise BadArgument(f"num_iter={self.num_iter} is too large; pass at most {MOST_STEPS:,}.")
        if self.mode not in ("exponential", "linear"):
            raise BadArgument(f"mode={self.mode!r} is unknown; choose 'exponential' or 'linear'.")
        if not np.all(np.diff(self.lrs) > 0):
            raise BadArgument(
                f"between start_lr={self.start_lr!r} and end_lr={self.end_lr!r} there are not {self.num_iter} numbers; widen them."
            )

    @cached_property
    def lrs(self) -> Floats:
        """The grid, shape ``(num_iter,)``."""
        space = np.geomspace if self.mode == "exponential" else np.linspace
        return np.asarray(space(self.start_lr, self.end_lr, self.num_iter), dtype=np.float64)
