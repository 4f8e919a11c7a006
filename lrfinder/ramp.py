"""The grid of learning rates that a sweep visits; when it is over, and why."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hessian.checks import one_of, positive_float, positive_int
from hessian.codec import LARGEST_LR, SMALLEST_LR
from hessian.errors import BadArgument
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
        one_of("mode", self.mode, ("exponential", "linear"))
        if not np.all(np.diff(self.lrs) > 0):
            raise BadArgument(
                f"between start_lr={self.start_lr!r} and end_lr={self.end_lr!r} there are not {self.num_iter} numbers; widen them."
            )

    @cached_property
    def lrs(self) -> Floats:
        """The grid, shape ``(num_iter,)``."""
        space = np.geomspace if self.mode == "exponential" else np.linspace
        return np.asarray(space(self.start_lr, self.end_lr, self.num_iter), dtype=np.float64)


WINDOW = 3  # the median of three: one unlucky batch must not end a sweep or a training
FIRST = 5  # losses whose median counts as the initial one
RISE = 1.2  # the loss must also exceed this times the initial one: near its noise floor, four times the best means little


class StopRule:
    """Says after every loss whether the sweep has broken.

    It has when the running median exceeds both ``stop_factor`` times the best and 1.2 times the initial loss, or a loss is not finite.
    Where losses are not all positive, "times" has no meaning: the distances are then taken in units of the range seen so far.
    """

    def __init__(self, stop_factor: float = 4.0, initial: float | None = None) -> None:
        self.stop_factor = positive_float("stop_factor", stop_factor)
        if self.stop_factor <= 1:
            raise BadArgument(f"stop_factor={stop_factor:g} would stop at once; pass a factor above 1, such as 4.")
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._first: list[float] = []
        self._known = initial
        self._initial = math.inf
        self._best = math.inf
        self._lowest = math.inf

    def update(self, loss: float) -> Literal["nonfinite", "diverged"] | None:
        """``"nonfinite"``, ``"diverged"``, or None to go on."""
        if not math.isfinite(loss):
            return "nonfinite"
        self._recent.append(loss)
        if loss < self._lowest:
            self._lowest = loss
        first = self._first
        if len(first) < FIRST:
            first.append(loss)
            self._initial = median(first) if self._known is None else self._known
        current = median(self._recent)
        if current < self._best:
            self._best = current
            return None  # the best so far is below any threshold
        return "diverged" if len(first) == FIRST and current > self.threshold() else None

    def threshold(self) -> float:
        if self._lowest > 0:
            return max(self.stop_factor * self._best, RISE * self._initial)
        scale = max(self._initial - self._best, max(self._first) - min(self._first), 0.1 * abs(self._initial))
        return max(self._best + (self.stop_factor - 1) * scale, self._initial + (RISE - 1) * scale)


def median(values: Iterable[float]) -> float:
    """That of ``statistics``, without what it checks: this is asked at every step."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
