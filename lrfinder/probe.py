"""Short real trainings and where they lie: the sweep proposes, trainings dispose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from hessian.batches import Ahead
from hessian.distributed import Team
from hessian.groups import let_vary, lr_ratios, write_lr
from hessian.problem import Problem
from hessian.readout import Readout
from hessian.snapshot import Snapshot
from hessian.step import take_step
from lrfinder.basin import Basin, left_plateau, little_gain
from lrfinder.budget import Budget, Spent
from lrfinder.combine import below_break, centre_of
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.horizon import schedule_shape
from lrfinder.progress import Progress
from lrfinder.ramp import WINDOW, median
from lrfinder.results import Confirmation, ProbeRun, Probes
from lrfinder.scoring import mean_loss, settle
from lrfinder.setaside import SetAside

CALM = 5  # steps before a training can count as blown up


@dataclass
class Prober:
    """Trains for a few steps from the initial weights, and scores the same samples before and after, in eval mode.

    All of it happens inside ``problem.preserved``; every training sees the same batches.
    """

    problem: Problem
    snapshot: Snapshot
    aside: SetAside
    seed: int
    progress: Progress
    spent: Spent

    def __post_init__(self) -> None:
        self.aside = of_all(self.aside, self.problem.team)
        self.snapshot.restore()
        self.problem.seed(self.seed)
        self.before = self._settled_score(self.aside.training)

    def confirm(self, lr: float, steps: int, schedule: str | None) -> Confirmation:
        """A training with the planned schedule, peak at ``lr``."""
        after = self.train(lr, steps, schedule)
        return Confirmation(lr=lr, steps=steps, before=self.before, after=after, scored_on=self.aside.scored_on)

    def around(self, centre: float, offsets: Sequence[float], steps: int) -> list[ProbeRun]:
        """Trainings at constant LRs ``10 ** (centre + offset)``, and beyond an end of them while the best lies there."""
        found = [self.run(10 ** (centre + offset), steps) for offset in offsets]
        width = 10 ** (offsets[1] - offsets[0])
        for _ in range(CONSTANTS.extensions):
            best = min(found, key=lambda run: run.after)
            if best is found[0] or not math.isfinite(best.after):
                found.insert(0, self.run(found[0].lr / width, steps))
            elif best is found[-1]:
                found.append(self.run(found[-1].lr * width, steps))
        return found

    def run(self, lr: float, steps: int) -> ProbeRun:
        return ProbeRun(lr=lr, steps=steps, after=self.train(lr, steps))

    def summary(self, runs: Sequence[ProbeRun]) -> Probes:
        aside = self.aside
        return Probes(
            before=self.before,
            scored_on=aside.scored_on,
            scored=self.problem.team.total(aside.samples),
            share=aside.share,
            runs=tuple(runs),
        )

    def train(self, lr: float, steps: int, schedule: str | None = None) -> float:
        """The score after ``steps`` steps at peak LR ``lr``; infinite where the training blew up."""
        self.snapshot.restore()
        self.problem.seed(self.seed)
        ratios, losses = lr_ratios(self.problem.optimizer), list[float]()
        source = iter(self.aside.training)
        # A training that blows up is given up, whenever that is known; a GradScaler has to know at once.
        readout = Readout(self.problem.team, at_once=self.problem.recipe.scaler is not None)
        readout.ahead = source if isinstance(source, Ahead) else None
        let_vary(self.problem.optimizer)
        for step, batch in enumerate(self.progress.over(islice(source, steps), steps, f"trying {lr:.2g}")):
            readout.more = step + 1 < steps
            write_lr(self.problem.optimizer, lr * schedule_shape(schedule, step, steps), ratios)
            self.spent.steps += 1
            if self._blows_up(losses, self._step(batch, readout, losses)):
                return math.inf
            if losses:  # what is known may lag
                self.progress.tell(lr, losses[-1])
        if self._blows_up(losses, readout.rest()):
            return math.inf
        after = self._settled_score(source)
        return after if math.isfinite(after) else math.inf

    def _step(self, batch: Any, readout: Readout, losses: Sequence[float]) -> list[float]:
        """One step: the losses that are known by now."""
        try:
            return take_step(self.problem, batch, readout)
        except Exception:
            rest = readout.rest_of_own()
            if self.problem.team.alone and self._blows_up(list(losses), rest):  # a step too many, from weights that are broken
                return rest
            raise

    def _blows_up(self, losses: list[float], known: Iterable[float]) -> bool:
        """Take in what has become known, up to where the training has blown up."""
        for loss in known:
            losses.append(loss)
            if blown_up(losses, self.before):
                return True
        return False

    def _settled_score(self, batches: Iterable[Any]) -> float:
        """The score with settled statistics: those of a training lag behind its weights, the further the larger its LR.

        A schedule that ends low, and a long training, leave that behind (Wu and Johnson 2021, arXiv:2105.07576).
        """
        self.spent.looked(self.problem.has_loss, settle(self.problem, batches))
        return self._score()

    def _score(self) -> float:
        self.spent.looked(self.problem.has_loss, len(self.aside.scored))
        return mean_loss(self.problem, self.aside.scored, self.seed)


def of_all(aside: SetAside, team: Team) -> SetAside:
    """What every rank has: as many batches to score on as the one with the fewest, and the mean share."""
    if team.alone:
        return aside
    share = team.mean(math.nan if aside.share is None else aside.share, 1)
    scored = aside.scored[: team.least(len(aside.scored))]
    return replace(aside, scored=scored, share=share if math.isfinite(share) else None)


def blown_up(losses: Sequence[float], before: float) -> bool:
    """Whether the last loss is not finite, or the running median is far above the start: the first loss, or the score before if higher.

    A heavy-tailed loss may begin with an easy batch, which no later one comes near.
    """
    if not math.isfinite(losses[-1]):
        return True
    start = [losses[0], before] if math.isfinite(before) else [losses[0]]
    rise = (CONSTANTS.blow_up - 1) * max(1e-9, *map(abs, start))
    return len(losses) > CALM and median(losses[-WINDOW:]) > max(start) + rise


def short_trainings(curve: LRCurve, prober: Prober, spend: Budget) -> Probes | None:
    """Those that the budget has, around the middle of the basin; longer ones where those gained little and the longer ones much.

    Trainings that end on a plateau lie in an order of chance, and the basin that placed them is one of chance too: longer ones go by the
    break, if there is one.
    """
    if not spend.length:
        return None
    centre, basin = centre_of(curve)
    places = offsets(spend, basin)
    with prober.progress.named("training", len(places) + CONSTANTS.extensions):
        found = prober.summary(prober.around(centre, places, spend.length))
    if spend.longer <= spend.length or not little_gain(curve, found):
        return found
    place = centre if curve.break_lr is None else below_break(curve)
    prober.progress.more(spend.longer * (len(CONSTANTS.longer_offsets) + 1))  # one beyond an end of them, as in most cases
    with prober.progress.named("longer training", len(CONSTANTS.longer_offsets) + CONSTANTS.extensions):
        longer = prober.summary(prober.around(place, CONSTANTS.longer_offsets, spend.longer))
    return replace(longer, shorter=spend.length) if left_plateau(curve, longer) else found


def offsets(spend: Budget, basin: Basin | None) -> tuple[float, ...]:
    """Where they lie about the middle of the basin; if only the break stands for it, a large set has two more below."""
    if not spend.large:
        return CONSTANTS.offsets
    return CONSTANTS.fine_offsets if basin else (*CONSTANTS.lower_offsets, *CONSTANTS.fine_offsets)
