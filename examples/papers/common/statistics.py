"""Medians and quartiles over seeds, and comparisons of trainings that began with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import permutation_test

Held = Literal["yes", "partly", "no"]
MARGIN = 0.5  # percentage points by which a claim of equal accuracy may be missed and still count as partly held
SURE = 0.05


class Pairs(NamedTuple):
    """What one training has over another, seed by seed.

    Attributes:
        differences: One of each seed.
        p: Of the exact paired permutation test of their mean, two-sided.
    """

    differences: list[float]
    p: float

    @property
    def median(self) -> float:
        return float(np.median(self.differences))

    def __str__(self) -> str:
        return f"{spread(self.differences, signed=True)}, p = {self.p:.2g}"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Pairs:
    """Compare the same seeds."""
    differences = np.subtract(ours, theirs)
    if not differences.any():
        return Pairs(differences.tolist(), 1.0)
    # All sign changes are tried: with few seeds and ties among them, no approximation is needed.
    test = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2 ** len(differences))
    return Pairs(differences.tolist(), float(test.pvalue))


def at_least_as_good(*comparisons: Pairs) -> Held:
    """Whether no accuracy was lost in the median, and if so, whether little was; of several comparisons, the worst counts."""
    worst = min(pairs.median for pairs in comparisons)
    return "yes" if worst >= 0 else "partly" if worst >= -MARGIN else "no"


def larger(pairs: Pairs) -> Held:
    """Whether there is more of it: in the median, and surely (p < 0.05)."""
    return "no" if pairs.median <= 0 else "yes" if pairs.p < SURE else "partly"


def spread(values: Sequence[float], digits: int = 1, signed: bool = False) -> str:
    """Median and quartiles."""
    sign = "+" if signed else ""
    low, median, high = (f"{value:{sign}.{digits}f}" for value in quartiles(values))
    return f"{median} [{low}, {high}]"


def points(pairs: Pairs) -> str:
    """Median and quartiles of the differences of two accuracies."""
    return f"{spread(pairs.differences, signed=True)} points"


def within(values: Sequence[float], low: float, high: float) -> Held:
    """Whether the median and both quartiles are in this range, or at least the median."""
    inside = [low <= value <= high for value in quartiles(values)]
    return "yes" if all(inside) else "partly" if inside[1] else "no"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of values some of which are infinite, those are values themselves."""
    method = "linear" if np.isfinite(values).all() else "closest_observation"
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), method=method)
    return float(low), float(median), float(high)
