"""What every sweep is made of: an LR for each step, a loss for each LR, and the end. Whoever trains in between is not known here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessian.batches import NO_MORE, Ahead
from hessian.checks import whole_number
from hessian.errors import BadArgument
from hessian.groups import Together, let_vary, lr_ratios, write_lr
from hessian.readout import Readout
from hessian.result_base import Floats
from hessian.step import RETRIES
from lrfinder.curve import LEAST_POINTS, LRCurve, Status
from lrfinder.progress import Progress
from lrfinder.ramp import Ramp, StopRule
from lrfinder.smoothing import corrected

SMOOTHING = 0.04  # of num_iter: a third of a decade to each side when a hundred steps span eight


@dataclass(frozen=True)
class SweepSettings:
    """What to sweep over and when to stop; checked when made."""

    ramp: Ramp
    stop_factor: float = 4.0
    smoothing: float = SMOOTHING
    seed: int = 0
    label: str = "range test"

    def __post_init__(self) -> None:
        StopRule(self.stop_factor)
        whole_number("seed", self.seed)
        if not 0 <= self.smoothing <= 0.5:
            raise BadArgument(f"smoothing={self.smoothing} is not a share of the sweep; pass a number from 0 (none) to 0.5.")


class Recorded:
    """The last sweep as far as it has come: whatever goes wrong carries it, and be it while everything is put back."""

    def __init__(self) -> None:
        self.curve: LRCurve | None = None

    def add(self, curve: LRCurve) -> None:
        """The newest sweep counts, unless it is too short to judge and an earlier one went further."""
        if self.curve is None or curve.clean >= min(LEAST_POINTS, self.curve.clean):
            self.curve = curve

    @contextmanager
    def carried(self) -> Iterator[None]:
        """An error that leaves the block has what was recorded by then as its ``curve``, unless it carries one of its own."""
        try:
            yield
        except BaseException as error:
            self.attach(error)
            raise

    def attach(self, error: BaseException) -> None:
        if self.curve is not None and isinstance(getattr(error, "curve", None), (LRCurve, type(None))):  # a curve of ours may be old
            with suppress(AttributeError, TypeError):  # a few exception classes take no attributes
                error.curve = self.curve  # type: ignore[attr-defined]


class Steps:
    """The steps of one sweep: ``over`` gives a batch for each, with the LR set; ``report`` takes what is known of the losses and decides
    whether to go on.

    On an accelerator losses are known some steps later (``hessian.readout``). The sweep then makes steps beyond the one that ends it,
    and drops them: the curve is the same.

    ``baseline``: what the same batches cost at the initial weights, if known. ``ratios``: every group's share of the LR that is recorded,
    the largest group's; None for that of its base LR.
    """

    def __init__(
        self,
        optimizers: Sequence[Any],
        settings: SweepSettings,
        baseline: Floats | None = None,
        ratios: Sequence[float] | None = None,
        readout: Readout | None = None,
    ) -> None:
        self.settings = settings
        self.readout = readout or Readout()
        self.losses: list[float] = []  # those that are known
        self.metrics: list[float] = []  # what was reported beside them; as many, or none
        self.status: Status = "interrupted"  # until it is over
        self.made = 0
        self.waiting = False  # whether a batch is out whose loss has not been reported
        self._skips = 0  # in a row
        self._groups = Together(optimizers)
        self._ratios = lr_ratios(self._groups) if ratios is None else ratios
        self._baseline = baseline
        self._stop = StopRule(settings.stop_factor, None if baseline is None else float(baseline.mean()))

    def over(self, batches: Iterable[Any], progress: Progress) -> Iterator[Any]:
        """One batch after another, until the sweep is over."""
        grid, source = self.settings.ramp.lrs.tolist(), iter(batches)
        self.readout.ahead = source if isinstance(source, Ahead) else None
        let_vary(self._groups)
        with closing(progress.over(grid, len(grid), self.settings.label)) as lrs:  # left to the collector, its end would swallow a Ctrl-C
            for index, lr in enumerate(lrs):
                self.readout.more = index + 1 < len(grid)
                while self.made == index and self.status == "interrupted":  # a skipped step is made again at the same LR
                    batch = next(source, NO_MORE)
                    if batch is NO_MORE:
                        self._end("data_ended")
                        return
                    write_lr(self._groups, lr, self._ratios)
                    self.waiting = True
                    yield batch
                    if self.waiting:
                        step = self.made + 1
                        raise RuntimeError(
                            f"the loss of step {step} was not reported; call report(loss) once for every batch, before the next one."
                        )
                if self.losses:  # what is known may lag
                    progress.tell(grid[len(self.losses) - 1], self.losses[-1])
                if self.status != "interrupted":
                    return

    def report(self, known: Iterable[float], metric: float | None = None) -> None:
        """The step was made, and these losses are known by now."""
        self.waiting = False
        self._skips = 0
        self.made += 1
        if metric is not None:
            self.metrics.append(metric)
        self.learn(known)
        if self.made == self.settings.ramp.num_iter:
            self._end("completed")

    def skip(self) -> None:
        """The step was not made, as by a ``GradScaler`` after an overflow: the next batch comes at the same LR."""
        self.waiting = False
        self._skips += 1
        if self._skips == RETRIES:
            self.report([math.nan])

    def learn(self, known: Iterable[float]) -> None:
        """Record losses, in order, up to the one that ends the sweep."""
        for loss in known:
            if self.status != "interrupted":
                return
            self.losses.append(loss)
            verdict = self._stop.update(loss if self._baseline is None else comparable(self.losses, self._baseline))
            if verdict is not None:
                self.status = verdict

    def _end(self, status: Status) -> None:
        """How it ended, unless it had broken before."""
        self.learn(self.readout.rest())
        if self.status == "interrupted":
            self.status = status

    def broke(self) -> bool:
        """Whether it had broken before whatever happened now. Asked where there is one process."""
        self._catch_up()
        return self.status != "interrupted"

    def _catch_up(self) -> None:
        """Wait for the losses that are on the device, which may itself be what failed."""
        with suppress(RuntimeError):
            self.learn(self.readout.rest_of_own())

    def curve(self, **circumstances: Any) -> LRCurve:
        """The losses so far; ``circumstances`` are further fields."""
        self._catch_up()
        ramp, count = self.settings.ramp, len(self.losses)
        return LRCurve(
            lrs=ramp.lrs[:count],
            losses=np.array(self.losses),
            status=self.status,
            mode=ramp.mode,
            start_lr=float(ramp.start_lr),  # what a file gives back is a float too
            end_lr=float(ramp.end_lr),
            num_iter=ramp.num_iter,
            stop_factor=self.settings.stop_factor,
            smoothing=self.settings.smoothing,
            seed=self.settings.seed,
            baseline=np.empty(0) if self._baseline is None else self._baseline[:count],
            metric=np.array(self.metrics),
            **circumstances,
        )


def comparable(losses: list[float], baseline: Floats) -> float:
    """The last loss without what is due to its batch."""
    index = len(losses) - 1
    return float(corrected(np.array(losses[-1:]), baseline[index : index + 1], baseline)[0])
