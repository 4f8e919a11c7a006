"""What the figures of the reproductions are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A row of axes."""
    figure = Figure(figsize=(4.6 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def band(ax: Axes, steps: Sequence[float], values: Sequence[Sequence[float]], color: str, label: str, **style: Any) -> None:
    """Median over seeds as a line, quartiles as a band; one row of ``values`` for every step."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=1)
    ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(steps, median, color=color, label=label, **style)


def end(ax: Axes, steps: float, values: Sequence[float], color: str) -> None:
    """Where a training ends: median and quartiles over seeds."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    ax.errorbar([steps], [median], [[median - low], [high - median]], color=color, marker="o", markersize=5, capsize=3)
