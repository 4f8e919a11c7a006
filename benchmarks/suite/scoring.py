"""How good a learning rate is, from the brute-forced truth; no model in sight.

The regret of a learning rate is the share of the possible decrease of the validation loss that it misses: 0 at the best one on the grid,
1 where training gains nothing or breaks. All curves are means over the seeds of the truth, taken before the best is looked for, so that
one lucky run does not set the mark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

Checkpoint = Literal["final", "best"]
COLUMN: dict[Checkpoint, int] = {"final": 0, "best": 1}
GOOD = 0.05  # regret below which a learning rate is as good as the best
FAILED = 0.5  # regret from which a suggestion has failed
NEAR = 2.0  # times the best learning rate, or a share of it
RESAMPLES = 10_000


@dataclass(frozen=True)
class Curve:
    """Loss against learning rate for one schedule.

    Attributes:
        numbers: On the grid, rising: number k stands for 10 ** (k / grid).
        losses: Mean over seeds; a broken run counts as one that gained nothing.
        initial: Before training, the mean over seeds.
        grid: Learning rates a decade.
    """

    numbers: np.ndarray[Any, np.dtype[np.float64]]
    losses: np.ndarray[Any, np.dtype[np.float64]]
    initial: float
    grid: int

    @property
    def regrets(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """At every learning rate of the grid."""
        return np.asarray(self.regret_of_loss(self.losses), np.float64)

    @property
    def best_lr(self) -> float:
        return float(10 ** (self.numbers[self.losses.argmin()] / self.grid))

    def regret_of_loss(self, loss: Any) -> Any:
        """Of a loss that was reached in any other way."""
        best = self.losses.min()
        return np.clip((loss - best) / (self.initial - best), 0, 1)

    def regret(self, lr: float | None) -> float:
        """Linear between the learning rates of the grid, on a log scale; 1 for none, and where the brute force saw no reason to look."""
        if lr is None or not 0 < lr < math.inf:
            return 1.0
        return float(np.interp(self.place(lr), self.numbers, self.regrets, left=1, right=1))

    def near(self, lr: float | None) -> bool:
        return lr is not None and lr > 0 and abs(math.log(lr / self.best_lr)) <= math.log(NEAR)

    def covered(self, low: float, high: float) -> tuple[bool, bool]:
        """Whether an interval holds a good learning rate, and whether it holds the best: those of the grid, to half a step of it."""
        inside = (self.numbers >= self.place(low) - 0.5) & (self.numbers <= self.place(high) + 0.5)
        return bool((self.regrets[inside] < GOOD).any()), bool(inside[self.losses.argmin()])

    def place(self, lr: float) -> float:
        """Number on the grid, with a fraction."""
        return self.grid * math.log10(lr)


def curve_of(truth: Mapping[str, Any], schedule: str, checkpoint: Checkpoint = "final") -> Curve:
    """The curve of one schedule, from the contents of a truth file."""
    initial = float(np.mean(truth["initial"]))
    runs = {int(number): runs for number, runs in truth["schedules"][schedule].items()}
    numbers = sorted(runs)
    losses = [
        np.mean([reached(run, COLUMN[checkpoint], start) for run, start in zip(runs[k], truth["initial"], strict=True)]) for k in numbers
    ]
    return Curve(np.array(numbers, float), np.array(losses), initial, truth["grid"])


def reached(run: Sequence[Any], column: int, initial: float) -> float:
    """The loss of one run; it can always be had as low as before training, by not training."""
    loss, diverged = run[column], run[2] and column == COLUMN["final"]
    return initial if loss is None or diverged else min(loss, initial)


def load_truth(folder: Path) -> dict[str, dict[str, Any]]:
    """All truth that there is, by task."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


class Score(NamedTuple):
    """One suggestion, judged."""

    regret: float
    regret_best: float  # scored at the best checkpoint instead of the last step
    near: bool
    good_covered: bool | None = None
    best_covered: bool | None = None
    width: float | None = None  # of the interval, in decades


def score(truth: Mapping[str, Any], schedule: str, record: Mapping[str, Any]) -> Score:
    """Judge a record: its ``lr``, or the losses that a method without one reached; and its interval, where it has one."""
    last, best = curve_of(truth, schedule), curve_of(truth, schedule, "best")
    if "reached" in record:
        reached_losses = [last.initial if loss is None else loss for loss in record["reached"]]
        return Score(float(last.regret_of_loss(reached_losses[0])), float(best.regret_of_loss(reached_losses[1])), False)
    lr = record.get("lr")
    plain = Score(last.regret(lr), best.regret(lr), last.near(lr))
    if record.get("interval") is None:
        return plain
    low, high = record["interval"]
    good, holds = last.covered(low, high)
    return plain._replace(good_covered=good, best_covered=holds, width=math.log10(high / low))


class Summary(NamedTuple):
    """A method on a group of tasks, for one schedule."""

    tasks: int
    runs: int
    regret: float
    regret_best: float
    failed: float
    worst: float
    near: float
    good_covered: float | None
    best_covered: float | None
    width: float | None


def summarize(scores: Mapping[str, Sequence[Score]]) -> Summary:
    """``scores`` holds those of every seed, by task; every task counts the same."""
    runs = [one for seeds in scores.values() for one in seeds]
    return Summary(
        tasks=len(scores),
        runs=len(runs),
        regret=task_mean(scores, "regret"),
        regret_best=task_mean(scores, "regret_best"),
        failed=float(np.mean([one.regret >= FAILED for one in runs])),
        worst=max(one.regret for one in runs),
        near=float(np.mean([one.near for one in runs])),
        good_covered=known_mean(one.good_covered for one in runs),
        best_covered=known_mean(one.best_covered for one in runs),
        width=known_mean(one.width for one in runs),
    )


def task_mean(scores: Mapping[str, Sequence[Score]], name: str) -> float:
    return float(np.mean(list(by_task(scores, name).values())))


def by_task(scores: Mapping[str, Sequence[Score]], name: str = "regret") -> dict[str, float]:
    """Mean over seeds, for every task."""
    return {task: float(np.mean([getattr(one, name) for one in seeds])) for task, seeds in scores.items()}


def known_mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


class Difference(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float


def compare(mine: Mapping[str, float], theirs: Mapping[str, float]) -> Difference:
    """Mean regret of one method less that of another: paired by task, tasks drawn with replacement. Below 0, the first is better."""
    shared = sorted(mine.keys() & theirs.keys())
    differences = np.array([mine[task] - theirs[task] for task in shared])
    draws = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high))
