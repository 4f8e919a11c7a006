"""What was concluded from a sweep, short trainings and curvature."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import hessian.readings  # noqa: F401  # load() knows a kind of result once its module is there
from hessian.codec import Count, Filled, LossOrInf, Positive, Share, Some
from hessian.groups import lr_ratios, write_lr
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.curve import LRCurve
from lrfinder.doubts import Doubt
from lrfinder.horizon import WarmUp, advised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, CyclicLR, LinearLR, OneCycleLR, SequentialLR

    from hessian.reports.parts import Report

Schedule = Literal["constant", "onecycle", "cosine", "linear"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Confirmation(Result):
    """A short real training at a suggested LR.

    Attributes:
        lr: Its (peak) learning rate.
        steps: Steps made.
        before: Loss on the scored batches before it.
        after: Loss on them after it; infinite if the training blew up.
        scored_on: ``"val_data"``, or ``"data"``: samples of the training data that were set aside.
    """

    kind: ClassVar[str] = "confirmation"

    lr: Positive
    steps: Some
    before: float
    after: float
    scored_on: str

    @property
    def passed(self) -> bool:
        """Whether the training lowered the loss on them."""
        return self.after < self.before

    def __str__(self) -> str:
        from lrfinder.describe import describe_confirmation

        return describe_confirmation(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeRun(Result):
    """A short real training at a constant LR, from the initial weights.

    Attributes:
        lr: Its learning rate.
        steps: Steps planned; one that blew up made fewer.
        after: Loss on the scored samples after it; infinite if it blew up.
    """

    kind: ClassVar[str] = "probe_run"

    lr: Positive
    steps: Some
    after: LossOrInf

    def __str__(self) -> str:
        from lrfinder.describe import describe_run

        return describe_run(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Probes(Result):
    """Short real trainings at several LRs, all scored on the same samples, on which none of them trained.

    Attributes:
        before: Loss on those samples at the initial weights.
        scored_on: ``"val_data"``, or ``"data"``: samples of the training data that were set aside.
        scored: How many samples, where they can be counted.
        share: Of all samples of the training data that were set aside, if known; 0 with ``val_data``.
        runs: The trainings, by LR, all of one length.
        shorter: Steps of the trainings that were made before and moved hardly anything, so that these longer ones took their place;
            None if these were the first.
    """

    kind: ClassVar[str] = "probes"

    before: LossOrInf
    scored_on: str
    scored: Count | None
    share: Share | None
    runs: Annotated[tuple[ProbeRun, ...], Filled]
    shorter: Count | None = None

    def __str__(self) -> str:
        from lrfinder.describe import describe_probes

        return describe_probes(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Suggestion(Result):
    """One learning rate, with the evidence for it and every doubt.

    Attributes:
        lr: Peak learning rate of the planned training, for the largest param group; ``float(result)`` is the same.
        interval: Low and high end of the range in which a good learning rate is to be expected.
        curve: The range test.
        limit: The curvature limit, or None.
        no_limit: Why there is no curvature limit, or None.
        confirmation: The short training that confirmed ``lr``, or None.
        probes: Short trainings at several LRs, or None where the budget had none.
        gradients: What the measurement cost, in forward and backward passes over one batch.
        midpoint: Middle of the basin of the sweep, on a log scale: where the factors start.
        basin: Low and high end of the basin.
        factors: What the midpoint was multiplied by, in words, in order.
        total_steps: Planned steps, given or assumed.
        schedule: Planned schedule; None if unknown.
        doubts: Reasons to trust it less.
    """

    kind: ClassVar[str] = "suggestion"

    lr: Positive
    interval: tuple[Positive, Positive]
    curve: LRCurve
    limit: StableLR | None = None
    no_limit: str | None = None
    confirmation: Confirmation | None = None
    probes: Probes | None = None
    gradients: float = 0.0
    midpoint: Positive
    basin: tuple[Positive, Positive]
    factors: dict[str, float] = field(default_factory=dict)
    total_steps: Some
    schedule: Schedule | None
    doubts: tuple[Doubt, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.curve.lrs):
            raise ValueError("curve has no points, which carry no suggestion")

    def __float__(self) -> float:
        return self.lr

    @property
    def warmup(self) -> WarmUp | None:
        """How the learning rate should rise at the start; None where curvature sets no limit."""
        return None if self.limit is None else advised(self.lr, self.limit, self.total_steps, self.schedule)

    def __str__(self) -> str:
        from lrfinder.describe import describe_suggestion

        return describe_suggestion(self)

    def report(self) -> Report:
        """The answer, what to paste, every doubt with what to do, and the evidence."""
        from lrfinder.report import suggestion_report

        return suggestion_report(self)

    def explain(self) -> str:
        """How the number came about, in words: every factor of the rule with the numbers of this run. Fits 80 columns."""
        from lrfinder.explain import explain_suggestion

        return explain_suggestion(self)

    def log_to(self, writer: Any, step: int = 0, *, run: Any = None) -> None:
        """Write the answer and the evidence to TensorBoard, W&B or MLflow (docs/terminal.md#logging).

        The answer is written as ``lrfinder/...`` at ``step``, so that those of several steps of a training make a curve. The sweep has axes
        of its own, and touches none of the training's steps: ``lrfinder_sweep/...`` counts from 0, and ``lrfinder_by_lr/...`` stands over
        ``1000 log10(lr)``, so that -3000 is an LR of 1e-3; W&B gets a table and a chart.

        Args:
            writer: A TensorBoard ``SummaryWriter``, a W&B run, or for MLflow its module, a run of it or a client.
            step: Step of the training at which it was measured. Where it is not 0 it is part of the sweep's names.
            run: With an ``MlflowClient``, the run or its id; None takes the active one.

        Raises:
            BadType: If the writer is none of these.
            BadArgument: If an ``MlflowClient`` comes without a run.
        """
        from lrfinder.writing import log_suggestion

        log_suggestion(self, writer, step, run)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.curve.rows()

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The overlay: sweep, break, curvature limit, suggestion; see ``lrfinder.plot``."""
        from lrfinder.plotting import plot

        return plot(self, path=path, ax=ax)

    def apply(self, optimizer: Any) -> None:
        """Set the optimizer's learning rates to the suggestion; the largest group gets ``lr``, the others keep their ratio to it.

        ``initial_lr``, from which schedulers take their base, is set too where it is present.

        Raises:
            BadArgument: If an LR scheduler is attached that would set them back at its next step; nothing has changed then.
        """
        from hessian.schedulers import check_no_scheduler  # loads torch, which a result that is only read does without

        ratios = lr_ratios(optimizer)
        check_no_scheduler(optimizer)
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            if "initial_lr" in group:
                group["initial_lr"] = self.lr * ratio
        write_lr(optimizer, self.lr, ratios)

    def clr(self, optimizer: Optimizer, total_steps: int | None = None, **settings: Any) -> CyclicLR | SequentialLR:
        """Cyclical learning rates up to ``lr``, as ``lrfinder.clr`` makes them; half a cycle lasts 2 to 10 epochs.

        ``total_steps`` is the suggestion's by default, and ``settings`` are those of ``lrfinder.clr``.
        """
        from lrfinder.schedules import suggested_clr

        return suggested_clr(self, optimizer, total_steps, settings)

    def sgdr(self, optimizer: Optimizer, total_steps: int | None = None, **settings: Any) -> CosineAnnealingWarmRestarts | SequentialLR:
        """Warm restarts at ``lr``, as ``lrfinder.sgdr`` makes them, behind the warm-up that curvature asks for.

        ``total_steps`` is the suggestion's by default, and ``settings`` are those of ``lrfinder.sgdr``.
        """
        from lrfinder.schedules import sgdr, suggested

        return suggested(sgdr, self, optimizer, total_steps, settings)

    def linear(self, optimizer: Optimizer, total_steps: int | None = None, **settings: Any) -> LinearLR | SequentialLR:
        """A straight line from ``lr`` to zero, as ``lrfinder.linear`` makes it, behind the warm-up that curvature asks for.

        ``total_steps`` is the suggestion's by default, and ``settings`` are those of ``lrfinder.linear``.
        """
        from lrfinder.schedules import linear, suggested

        return suggested(linear, self, optimizer, total_steps, settings)

    def constant(self, optimizer: Optimizer, total_steps: int | None = None, **settings: Any) -> LinearLR:
        """``lr`` behind the warm-up that curvature asks for, as ``lrfinder.constant`` makes it; without one it is ``apply``.

        ``total_steps`` is the suggestion's by default, and ``settings`` are those of ``lrfinder.constant``.
        """
        from lrfinder.schedules import constant, suggested

        return suggested(constant, self, optimizer, total_steps, settings)

    def one_cycle(self, optimizer: Optimizer, total_steps: int | None = None, **settings: Any) -> OneCycleLR:
        """1cycle with the peak ``lr``, as ``lrfinder.one_cycle`` makes it, from where the first steps are stable.

        ``total_steps`` is the suggestion's by default, and ``settings`` are those of ``lrfinder.one_cycle``.
        """
        from lrfinder.schedules import suggested_one_cycle

        return suggested_one_cycle(self, optimizer, total_steps, settings)


def load(path: str | os.PathLike[str]) -> Any:
    """Read back whatever ``save`` wrote as ``.json`` or ``.html``: an ``LRCurve``, a ``Suggestion``, a ``StableLR``, a ``Comparison``.

    Args:
        path: The file.

    Raises:
        BadArgument: If the file is not a saved result.
        OSError: If it cannot be read.
    """
    import lrfinder.comparison  # noqa: F401  # as above; it needs this module

    return Result.load(path)
