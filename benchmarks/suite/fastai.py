"""fastai's learning-rate finder, rewritten from its description: its sweep, and its four rules on the recorded losses.

The package itself asks for another torch than the other peers, so it cannot stand beside them. Its defaults: 100 steps from 1e-7 to 10,
each as many times the one before; losses averaged with weight .98 on the past; the end where the average is four times its best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from suite.task import Setup
from suite.training import take, update

START, END, STEPS = 1e-7, 10.0, 100
PAST, BLOWN = 0.98, 4.0
SKIP_START, SKIP_END = STEPS // 10, 5
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def sweep(setup: Setup) -> tuple[Numbers, Numbers]:
    """Learning rates and averaged losses, trimmed as fastai trims them."""
    lrs: list[float] = []
    averages: list[float] = []
    average, best = 0.0, math.inf
    for step, batch in enumerate(take(setup.loader, STEPS)):
        lrs.append(START * (END / START) ** (step / STEPS))
        for group in setup.optimizer.param_groups:
            group["lr"] = lrs[-1]
        average = PAST * average + (1 - PAST) * update(setup, batch)
        averages.append(average / (1 - PAST ** (step + 1)))
        best = min(best, averages[-1])
        if averages[-1] > BLOWN * best:
            break
    return trimmed(np.array(lrs), np.array(averages))


def trimmed(lrs: Numbers, losses: Numbers) -> tuple[Numbers, Numbers]:
    """Without the first tenth, the last five, and what follows the first loss that is not a number."""
    lrs, losses = lrs[SKIP_START:-SKIP_END], losses[SKIP_START:-SKIP_END]
    broken = np.flatnonzero(np.isnan(losses))
    end = broken[0] if len(broken) else len(losses)
    return lrs[:end], losses[:end]


def minimum(lrs: Numbers, losses: Numbers) -> float:
    """A tenth of the learning rate at the lowest loss."""
    return float(lrs[losses.argmin()] / 10)


def steep(lrs: Numbers, losses: Numbers) -> float:
    """Where the loss falls fastest with the logarithm of the learning rate."""
    return float(lrs[(np.diff(losses) / np.diff(np.log(lrs))).argmin()])


def valley(lrs: Numbers, losses: Numbers) -> float:
    """The middle of the longest falling subsequence; its start is counted back from its end as if it had no gaps, as fastai does."""
    lengths = np.ones(len(losses), int)
    for index in range(1, len(losses)):
        before = lengths[:index][losses[:index] > losses[index]]
        lengths[index] = 1 + before.max(initial=0)
    end = int(lengths.argmax())
    start = end - int(lengths[end])
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def slide(lrs: Numbers, losses: Numbers, window: int = 15, threshold: float = 0.005) -> float:
    """A window moved left from the right end for as long as the slopes at its two ends differ."""
    slopes = np.gradient(losses)
    right, left = len(losses) - 1, len(losses) - 1 - window
    found = lrs[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > threshold:
        found = lrs[left]
        right, left = right - 1, left - 1
    return float(found)


RULES: dict[str, Callable[[Numbers, Numbers], float]] = {"minimum": minimum, "steep": steep, "valley": valley, "slide": slide}
