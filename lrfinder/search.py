"""The sweep of ``find_lr``: a coarse one finds where to look, a fine one looks, and batch noise is taken out of both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from hessian.problem import Problem
from hessian.result_base import Floats
from hessian.snapshot import Snapshot
from hessian.step import evaluate
from lrfinder.basin import left_edge, stretch
from lrfinder.budget import FORWARD, Budget, Spent
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.progress import Progress
from lrfinder.ramp import Ramp
from lrfinder.smoothing import clean_length
from lrfinder.steps import Recorded, SweepSettings
from lrfinder.sweep import sweep

FEWEST = 10  # points of a sweep


def two_speed_sweep(
    problem: Problem,
    snapshot: Snapshot,
    ramp: tuple[float, float],
    spend: Budget,
    seed: int,
    progress: Progress,
    first: Any,
    spent: Spent,
    recorded: Recorded,
) -> LRCurve:
    """The fine sweep, placed by the coarse one; the coarse one if that was cut short or is all there is. Inside ``preserved``.

    Both run on the same batches, whose losses at the initial weights were measured before.
    """
    baseline = Baseline(problem, snapshot, seed, spent, progress)

    def swept(ramp: Ramp, per_decade: float, label: str) -> LRCurve:
        """A sweep that is smoothed over the same stretch of LRs whatever its speed."""
        losses = baseline.first(ramp.num_iter)
        snapshot.restore()
        share = CONSTANTS.smoothing * per_decade / ramp.num_iter
        settings = SweepSettings(ramp, smoothing=min(share, 0.5), seed=seed, label=label)
        curve = sweep(problem, settings, first, progress, recorded, losses)
        spent.steps += len(curve.losses)
        return curve

    coarse = swept(spaced(*ramp, spend.coarse, math.inf), spend.coarse, "coarse sweep")
    if coarse.status == "data_ended" or not spend.fine:
        return coarse
    fine = swept(spaced(fine_start(coarse), fine_end(coarse), spend.fine, spend.finest), spend.fine, "fine sweep")
    return recorded.curve or fine


def spaced(start: float, end: float, per_decade: float, most: float) -> Ramp:
    """A ramp with so many points a decade, which ends early rather than have more than ``most`` points."""
    points = max(FEWEST, round(per_decade * math.log10(end / start)) + 1)
    if points <= most:
        return Ramp(start, end, points)
    return Ramp(start, min(end, start * 10 ** ((most - 1) / per_decade)), int(most))


def fine_start(coarse: LRCurve) -> float:
    """Below where the coarse sweep ended and where it had gained half, so that the fine one sees the loss fall."""
    clean = coarse.clean
    if clean < FEWEST:
        return coarse.start_lr
    x, loss = np.log10(coarse.lrs[:clean]), coarse.smooth[:clean]
    level = coarse.initial - CONSTANTS.lead_depth * (coarse.initial - float(loss.min()))
    left = left_edge(x, loss, stretch(loss, level)[0], level) if loss.min() < coarse.initial else math.inf
    return max(coarse.start_lr, float(10 ** min(x[-1] - CONSTANTS.lead, left - CONSTANTS.lead_left)))


def fine_end(coarse: LRCurve) -> float:
    """Above where the coarse sweep broke: the fine one, which rises more slowly, breaks before."""
    if coarse.break_lr is None:
        return coarse.end_lr
    return min(coarse.end_lr, coarse.break_lr * 10**CONSTANTS.beyond)


@dataclass
class Baseline:
    """What each batch costs at the initial weights, as the model stands. Measured once for every batch, when asked for."""

    problem: Problem
    snapshot: Snapshot
    seed: int
    spent: Spent
    progress: Progress = field(default_factory=lambda: Progress(False))
    known: list[float] = field(default_factory=list)

    def first(self, count: int) -> Floats | None:
        """The losses of the first ``count`` batches; None if there are not as many, or not all are finite."""
        known = len(self.known)
        if count > known:
            self.snapshot.restore()
            self.problem.seed(self.seed)
            batches = self.progress.over(islice(self.problem.batches, known, count), count - known, "losses before", cost=FORWARD)
            self.known += [evaluate(self.problem, batch) for batch in batches]
            self.spent.looked(self.problem.has_loss, len(self.known) - known)
        losses = np.array(self.known[:count])
        return losses if clean_length(losses) == count else None
