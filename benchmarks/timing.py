"""Wall time of several subjects, one after the other in every round, so that a busy moment of the machine hits them all alike."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

Run = Callable[[], Any]
Prepare = Callable[[int], Run]  # takes the number of the pass, does what is not timed, returns what is


@dataclass
class Timings:
    """What one subject took in each round, in seconds, and what it returned in each pass; or why it cannot work here."""

    seconds: list[float] = field(default_factory=list)
    returned: list[Any] = field(default_factory=list)
    failure: str = ""


def interleave(subjects: Mapping[str, Prepare], rounds: int, passes: int = 1) -> dict[str, Timings]:
    """Time every subject in every round, after one run each that does not count.

    A round makes ``passes`` passes over all subjects, each pass in another order, and keeps the median of each.
    """
    found = {name: Timings(failure=failure_of(prepare(0))) for name, prepare in subjects.items()}
    able = [name for name in subjects if not found[name].failure]
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        seconds: dict[str, list[float]] = {name: [] for name in able}
        for index in range(passes):
            shuffle(able)
            for name in able:
                elapsed, value = timed(subjects[name](number * passes + index))
                seconds[name].append(elapsed)
                found[name].returned.append(value)
        for name, values in seconds.items():
            found[name].seconds.append(float(np.median(values)))
    return found


def failure_of(run: Run) -> str:
    """The first line of what a subject says that cannot work here; nothing if it can."""
    try:
        run()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def timed(run: Run) -> tuple[float, Any]:
    """Seconds and return value; garbage of what ran before is not collected on this one's time."""
    gc.collect()
    start = perf_counter()
    value = run()
    return perf_counter() - start, value


def ratios(timings: Timings, reference: Timings) -> list[float]:
    """Times of a subject over those of the reference, round by round."""
    return [mine / base for mine, base in zip(timings.seconds, reference.seconds, strict=True)]


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(middle), "low": float(low), "high": float(high)}
