"""When the sweep is over, and why."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Literal

from hessian.checks import positive_float
from hessian.errors import BadArgument

WINDOW = 3  # the median of three: one unlucky batch must not end the sweep
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
        """The loss above which the sweep counts as broken."""
        if self._lowest > 0:
            return max(self.stop_factor * self._best, RISE * self._initial)
        scale = max(self._initial - self._best, max(self._first) - min(self._first), 0.1 * abs(self._initial))
        return max(self._best + (self.stop_factor - 1) * scale, self._initial + (RISE - 1) * scale)


def median(values: Iterable[float]) -> float:
    """That of ``statistics``, without what it checks: this is asked at every step."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
