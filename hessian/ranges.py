"""What a number in a saved result may be: types with a range, which reading a file checks. A measurement gives nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Annotated, Any

SMALLEST_LR, LARGEST_LR = 1e-300, 1e300  # so that an LR times a few factors is a float above zero
LARGEST_LOSS = 1e300  # sums of a million losses up to here are floats; beyond, a loss counts as blown up


@dataclass(frozen=True)
class Range:
    """A condition in words and as a function."""

    words: str
    holds: Callable[[Any], bool]

    def check(self, value: Any) -> Any:
        """``value``, if the condition holds.

        Raises:
            ValueError: If not.
        """
        if not self.holds(value):
            raise ValueError(f"{value!r:.40} is not {self.words}")
        return value


def is_filled(values: Sized) -> bool:
    """Whether there is an entry."""
    return len(values) > 0


Positive = Annotated[float, Range("a positive finite number", lambda value: 0 < value < math.inf)]
AboveZero = Annotated[float, Range("above zero", lambda value: value > 0)]
Count = Annotated[int, Range("at least 0", lambda value: value >= 0)]
Some = Annotated[int, Range("at least 1", lambda value: value >= 1)]
Share = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
Portion = Annotated[float, Range("above 0, at most 1", lambda value: 0 < value <= 1)]
Half = Annotated[float, Range("from 0 to 0.5", lambda value: 0 <= value <= 0.5)]
LossOrInf = Annotated[float, Range("a loss, or infinite", lambda value: value == math.inf or abs(value) <= LARGEST_LOSS)]
Filled = Range("filled", is_filled)
