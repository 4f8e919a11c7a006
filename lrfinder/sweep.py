"""The range test: raise the LR from step to step, record the loss, stop where it breaks (Smith 2017, arXiv:1506.01186)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hessian.batches import batch_size
from hessian.checks import whole_number
from hessian.describe import describe_optimizer
from hessian.errors import BadArgument
from hessian.groups import lr_ratios, set_lr
from hessian.problem import LossFn, Problem
from hessian.results import Floats
from hessian.snapshot import Place
from lrfinder.progress import Progress
from lrfinder.ramp import Mode, Ramp
from lrfinder.results import LEAST_POINTS, LRCurve
from lrfinder.smoothing import corrected
from lrfinder.stopping import StopRule
from lrfinder.train_step import train_step

SMOOTHING = 0.04  # of num_iter: a third of a decade to each side when a hundred steps span eight


def range_test(
    model: nn.Module,
    optimizer: Any,
    data: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_iter: int = 100,
    mode: Mode = "exponential",
    stop_factor: float = 4.0,
    smoothing: float = SMOOTHING,
    seed: int = 0,
    progress: bool | None = None,
    device: torch.device | str | None = None,
    keep: Sequence[Any] = (),
    snapshot: Place = "device",
) -> LRCurve:
    """Train for ``num_iter`` steps at a rising learning rate, record the loss of every step, and put everything back.

    Data shorter than the sweep are read again. Ctrl-C ends the sweep and returns what was recorded, with status ``"interrupted"``.

    Args:
        model: The model, in train or eval mode as it stands.
        optimizer: Its optimizer; param groups keep the ratio of their base LRs, and the curve reports the largest group's.
        data: Batches that can be read more than once, or a function that returns one.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss``.
        start_lr: First learning rate.
        end_lr: Last learning rate.
        num_iter: Steps.
        mode: ``"exponential"``, or ``"linear"`` as in Smith's paper.
        stop_factor: Stop when the running median exceeds this times the best loss and 1.2 times the initial one.
        smoothing: Half-width of the smoothing window, as a share of ``num_iter``; 0 for none.
        seed: Of every random generator, hence of the data order.
        progress: Show a bar on stderr; None shows one on a terminal.
        device: Where batches are moved; None leaves them.
        keep: Whatever else your loss, hooks or optimizer change and must come back: EMA copies, schedulers, a ``GradScaler``, generators.
        snapshot: Where the copy of what must come back lies: ``"device"`` beside the original, or ``"cpu"`` in the host's memory.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        Exception: Whatever the model, loss, data or optimizer raised, with what was recorded as its ``curve``.
    """
    problem = Problem(model, optimizer, data, criterion, loss_fn=loss_fn, device=device)
    problem.require_optimizer()
    settings = SweepSettings(Ramp(start_lr, end_lr, num_iter, mode), stop_factor, smoothing, seed)
    recorded = Recorded()
    with recorded.carried(), problem.preserved(keep=keep, snapshot=snapshot) as start:
        problem.seed(seed)
        first = problem.check_first_loss()
        start.restore()
        try:
            return sweep(problem, settings, first, Progress(progress), recorded)
        except KeyboardInterrupt:
            if recorded.curve is None:
                raise
            return recorded.curve


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
            if self.curve is not None and isinstance(getattr(error, "curve", None), (LRCurve, type(None))):  # a curve of ours may be old
                with suppress(AttributeError, TypeError):  # a few exception classes take no attributes
                    error.curve = self.curve  # type: ignore[attr-defined]
            raise


def sweep(
    problem: Problem, settings: SweepSettings, first_batch: Any, progress: Progress, recorded: Recorded, baseline: Floats | None = None
) -> LRCurve:
    """The sweep itself, inside ``preserved``: the weights move here. ``baseline``: what the same batches cost at the initial weights."""
    losses: list[float] = []
    status = "interrupted"
    try:
        status = run(problem, settings, losses, progress, baseline)
    finally:
        curve = make_curve(problem, settings, losses, status, first_batch, baseline)
        recorded.add(curve)
    return curve


def run(problem: Problem, settings: SweepSettings, losses: list[float], progress: Progress, baseline: Floats | None = None) -> str:
    """Step by step; appends to ``losses`` as it goes, so that nothing is lost when it is cut short. Returns the status."""
    ratios = lr_ratios(problem.optimizer)
    stop = StopRule(settings.stop_factor, None if baseline is None else float(baseline.mean()))
    grid = settings.ramp.lrs
    problem.seed(settings.seed)
    batches = iter(problem.batches)
    for lr in progress.over(grid.tolist(), len(grid), settings.label):
        batch = next(batches, None)
        if batch is None:
            return "data_ended"
        set_lr(problem.optimizer, lr, ratios)
        losses.append(train_step(problem, batch))
        verdict = stop.update(losses[-1] if baseline is None else comparable(losses, baseline))
        if verdict is not None:
            return verdict
    return "completed"


def comparable(losses: list[float], baseline: Floats) -> float:
    """The last loss without what is due to its batch."""
    index = len(losses) - 1
    return float(corrected(np.array(losses[-1:]), baseline[index : index + 1], baseline)[0])


def make_curve(
    problem: Problem, settings: SweepSettings, losses: list[float], status: Any, first_batch: Any, baseline: Floats | None = None
) -> LRCurve:
    """The recorded losses with their circumstances."""
    ramp = settings.ramp
    return LRCurve(
        lrs=ramp.lrs[: len(losses)],
        losses=np.array(losses),
        status=status,
        mode=ramp.mode,
        start_lr=ramp.start_lr,
        end_lr=ramp.end_lr,
        num_iter=ramp.num_iter,
        stop_factor=settings.stop_factor,
        smoothing=settings.smoothing,
        seed=settings.seed,
        batch_size=batch_size(first_batch),
        samples=problem.batches.samples,
        baseline=np.empty(0) if baseline is None else baseline[: len(losses)],
        model=type(problem.model).__name__,
        optimizer=describe_optimizer(problem.optimizer),
    )
