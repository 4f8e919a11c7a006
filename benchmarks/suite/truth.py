"""Brute force: what every learning rate of a grid does to a task."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from suite.task import Task
from suite.training import Outcome, train, validation

GRID = 6  # learning rates a decade: number k stands for 10 ** (k / 6)
SEEDS = (1, 2)
BELOW, ABOVE = 24, 15  # how far the grid reaches from where the walk begins
LITTLE = 0.1  # of the largest decrease of the loss: a learning rate that gains less is poor
POOR_BELOW, POOR_ABOVE = 1, 3  # poor ones in a row that end the walk; far up, some trainings break and the next ones do not


class Walk(NamedTuple):
    """The outcomes so far, for every seed, by number on the grid; and the loss before training, the same mean over seeds."""

    found: dict[int, list[Outcome]]
    initial: float

    def gain(self, number: int) -> float:
        """How far training brings the loss down, as a mean over seeds; a broken one not at all."""
        losses = [self.initial if outcome.final is None or outcome.diverged else outcome.final for outcome in self.found[number]]
        return max(0.0, self.initial - sum(losses) / len(losses))

    def best(self) -> int:
        return max(self.found, key=self.gain)

    def poor(self, number: int) -> bool:
        """Whether this learning rate gains next to nothing while another gains something."""
        return self.gain(number) < LITTLE * self.gain(self.best()) or all(outcome.diverged for outcome in self.found[number])


def make_truth(task: Task) -> dict[str, Any]:
    """Everything the scoring needs, as it is kept in a file."""
    initial = [validation(task.build(seed, 1e-3)) for seed in SEEDS]
    schedules = {schedule: compact(outcomes(task, schedule, sum(initial) / len(initial))) for schedule in task.schedules}
    return {
        "grid": GRID,
        "seeds": list(SEEDS),
        "steps": task.steps,
        "batch": task.batch,
        "initial": [rounded(loss) for loss in initial],
        "schedules": schedules,
    }


def outcomes(task: Task, schedule: str, initial: float) -> dict[int, list[Outcome]]:
    """From the middle outwards: up until training breaks, down until it gets nowhere."""
    walk = Walk({}, initial)
    start = round(task.start * GRID)
    explore(task, schedule, walk, range(start, start + ABOVE + 1))
    explore(task, schedule, walk, range(start - 1, start - BELOW - 1, -1))
    return dict(sorted(walk.found.items()))


def explore(task: Task, schedule: str, walk: Walk, numbers: range) -> None:
    """Walk until as many in a row are poor. Downwards, from a middle that breaks, first until one is found that trains at all."""
    enough = POOR_ABOVE if numbers.step > 0 else POOR_BELOW
    row = 0
    for number in numbers:
        walk.found[number] = [train(task, seed, 10 ** (number / GRID), schedule) for seed in SEEDS]
        row = row + 1 if walk.poor(number) else 0
        if row >= enough and (numbers.step > 0 or walk.gain(walk.best()) > 0):
            return


def compact(found: dict[int, list[Outcome]]) -> dict[str, list[list[float | bool | None]]]:
    """Outcomes as plain lists."""
    return {str(number): [[rounded(run.final), rounded(run.best), run.diverged] for run in runs] for number, runs in found.items()}


def rounded(loss: float | None) -> float | None:
    """Five significant digits; None where there is no number."""
    return float(f"{loss:.5g}") if loss is not None and math.isfinite(loss) else None
