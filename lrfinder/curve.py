"""What a sweep recorded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from hessian.codec import LARGEST_LR, SMALLEST_LR, Count, Half, Portion, Positive
from hessian.errors import NoSuggestionError
from hessian.result_base import Floats, Result
from lrfinder.rules import RULES, clr_range, find_rule
from lrfinder.smoothing import clean_length, corrected, initial_level, smooth, smoothed, steadies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hessian.reports.parts import Report

Status = Literal["completed", "diverged", "nonfinite", "data_ended", "interrupted"]
LEAST_POINTS = 10
CURES = {
    "data_ended": "give more batches, as data that can be read more than once",
    "nonfinite": "check the data and the loss for NaN and overflow, or lower start_lr",
}


class GroupBreak(NamedTuple):
    """Where a param group breaks.

    Attributes:
        group: Its number.
        name: Its ``"name"``, where it has one.
        lr: The largest group's learning rate at that point of a sweep of all groups.
    """

    group: int
    name: str
    lr: float

    def __str__(self) -> str:
        return f"{self.group}{self.name and f' ({self.name})'}"


@dataclass(frozen=True, kw_only=True, eq=False)
class LRCurve(Result):
    """Loss against learning rate, as the sweep recorded it.

    Attributes:
        lrs: Learning rate of the largest param group at each step, shape ``(n,)``.
        losses: Loss of each step, as ``scored_on`` says, shape ``(n,)``; the last may not be finite.
        status: Why the sweep ended: ``"completed"``, ``"diverged"``, ``"nonfinite"``, ``"data_ended"`` or ``"interrupted"``.
        mode: ``"exponential"`` or ``"linear"``.
        start_lr: First LR of the planned grid.
        end_lr: Last LR of the planned grid.
        num_iter: Steps planned.
        stop_factor: Of the stop rule.
        smoothing: Half-width of the smoothing window as a share of ``num_iter``.
        seed: Of the data order.
        batch_size: Samples in the first batch, if known.
        samples: Samples in one pass over the data, if known.
        baseline: What each step's batch cost at the initial weights, shape ``(n,)``; empty where that was not measured.
        model: Class name of the model.
        optimizer: The optimizer in words.
        recipe: How its steps are made, in words; empty for plain ones.
        scored_on: What ``losses`` are: ``"batch"``, the loss of each step's batch before that step's update; ``"val_data"``, the mean loss
            over ``val_data`` after it.
        metric: What was measured beside the loss after each step, shape ``(n,)``; empty where nothing was.
        metric_name: What that is, such as ``"accuracy"``.
        groups: The sweep of each param group alone, over its own learning rates.
        left_out: Numbers of the groups that have none: their LR is zero, or they are frozen.
        group: Number of the only group whose LR was not zero; None for all of them together.
        group_name: Its ``"name"``, where it has one.
        ratio: Its learning rate over that of the largest group, when all are swept together.
    """

    kind: ClassVar[str] = "lr_curve"

    lrs: Floats
    losses: Floats
    status: Status
    mode: Literal["exponential", "linear"]
    start_lr: Positive
    end_lr: Positive
    num_iter: Count
    stop_factor: float
    smoothing: Half
    seed: Count
    batch_size: Count | None = None
    samples: Count | None = None
    baseline: Floats = field(default_factory=lambda: np.empty(0))
    model: str = ""
    optimizer: str = ""
    recipe: str = ""
    scored_on: Literal["batch", "val_data"] = "batch"
    metric: Floats = field(default_factory=lambda: np.empty(0))
    metric_name: str = ""
    groups: tuple[LRCurve, ...] = ()
    left_out: tuple[Count, ...] = ()
    group: Count | None = None
    group_name: str = ""
    ratio: Portion = 1.0

    def __post_init__(self) -> None:
        for name in ("lrs", "losses", "baseline", "metric"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.lrs.ndim != 1 or self.lrs.shape != self.losses.shape:
            raise ValueError(f"lrs and losses have shapes {self.lrs.shape} and {self.losses.shape}, not one length")
        if len(self.baseline) not in (0, len(self.lrs)) or clean_length(self.baseline) < len(self.baseline):
            raise ValueError(f"baseline holds {len(self.baseline)} values, not one finite value for each of {len(self.lrs)} steps")
        if len(self.metric) not in (0, len(self.lrs)):
            raise ValueError(f"metric holds {len(self.metric)} values, not one for each of {len(self.lrs)} steps")
        if any(alone.group is None or alone.groups for alone in self.groups):
            raise ValueError("groups are not the sweeps of single groups")
        if not (np.all(self.lrs > 0) and np.all(np.isfinite(self.lrs)) and np.all(np.diff(self.lrs) > 0)):
            raise ValueError("lrs are not positive and rising")
        if len(self.lrs) and not (self.lrs[0] >= SMALLEST_LR and self.lrs[-1] <= LARGEST_LR):
            raise ValueError(f"lrs from {self.lrs[0]:g} to {self.lrs[-1]:g} do not lie between {SMALLEST_LR:g} and {LARGEST_LR:g}")

    @cached_property  # a report and a picture ask for it some twenty times
    def smooth(self) -> Floats:
        """Smoothed losses, shape ``(n,)``: centred, so without lag; NaN from the first loss on that is not finite."""
        values = smooth(self.corrected, self.window, self.initial if self.clean else np.nan)
        values.setflags(write=False)
        return values

    @property
    def window(self) -> int:
        """Half-width of the smoothing window in points."""
        return max(1, round(self.smoothing * self.num_iter)) if self.smoothing > 0 else 0

    @property
    def clean(self) -> int:
        """How many points come before the first loss that is not finite, or beyond 1e300."""
        return clean_length(self.losses)

    @cached_property
    def steadied(self) -> bool:
        """Whether the baseline is there, and makes the curve steadier."""
        clean = self.clean
        if clean < 2 or not len(self.baseline) or not steadies(self.losses[:clean], self.baseline[:clean]):
            return False
        return clean_length(corrected(self.losses, self.baseline)) >= clean  # the quotient of huge losses may be no number

    @cached_property
    def corrected(self) -> Floats:
        """Losses without the difference between batches, where the baseline tells it; else the losses."""
        return corrected(self.losses, self.baseline) if self.steadied else self.losses

    @property
    def initial(self) -> float:
        """Loss at the start: the mean of the baseline, else the median over the first tenth of the planned steps."""
        return float(self.baseline.mean()) if self.steadied else initial_level(self.losses[: self.clean], self.num_iter)

    @property
    def break_lr(self) -> float | None:
        """Learning rate at which the loss broke; None if it did not."""
        return float(self.lrs[-1]) if self.status in ("diverged", "nonfinite") and len(self.lrs) else None

    @cached_property
    def smooth_metric(self) -> Floats:
        """The metric, smoothed like the losses, shape ``(n,)`` or empty; NaN from the first value on that is not finite."""
        values = smoothed(self.metric, self.window)
        values.setflags(write=False)
        return values

    def clr_range(self) -> tuple[float, float]:
        """Base and max LR for cyclical training by Smith's test: from where the metric begins to rise to where it stops or gets ragged.

        The paper reads both off the plot of an accuracy over linearly rising LRs (Smith 2017, arXiv:1506.01186, section 3.3). Here, on
        ``smooth_metric`` as far as the losses are finite: let ``top`` be its first highest point and ``foot`` the lowest before that. The
        base is where it has last gained a tenth of the way from ``foot`` to ``top``. The max is where it has first gained nine tenths of
        it, or, if it fell by more than a tenth and than chance before, the highest point before that fall. A sweep shorter than a few
        passes over the data reads too high: its LR rises faster than the net learns.

        Raises:
            NoSuggestionError: If there is no metric, the curve is too short, or the metric does not rise by more than chance.
        """
        try:
            return clr_range(self.lrs[: self.clean], self.metric[: self.clean], self.window)
        except NoSuggestionError as error:
            raise NoSuggestionError(str(error), curve=self) from None

    @property
    def group_breaks(self) -> tuple[GroupBreak, ...]:
        """Where each param group breaks when all are swept together, judged by its sweep alone; the first to break comes first."""
        broke = [
            GroupBreak(alone.group, alone.group_name, alone.break_lr / alone.ratio)
            for alone in self.groups
            if alone.group is not None and alone.break_lr is not None
        ]
        return tuple(sorted(broke, key=lambda found: found.lr))

    @property
    def first_to_break(self) -> GroupBreak | None:
        """The first of ``group_breaks``: which group limits the learning rate, and where; None if none of them broke."""
        return next(iter(self.group_breaks), None)

    def suggest(self, rule: str = "steepest") -> float:
        """The suggestion of a published rule: ``"steepest"``, ``"valley"``, ``"slide"``, ``"minimum"`` or a registered one.

        Raises:
            NoSuggestionError: If the curve is too short, or the rule finds nothing on it.
            BadArgument: If the rule is unknown.
        """
        function = find_rule(rule)
        self.check_length()
        try:
            return function(self.lrs[: self.clean], self.smooth[: self.clean])
        except NoSuggestionError as error:
            raise NoSuggestionError(str(error), curve=self) from None

    def check_length(self) -> None:
        """Refuse to judge a curve that is too short.

        Raises:
            NoSuggestionError: If fewer than ten finite points were recorded.
        """
        if self.clean < LEAST_POINTS:
            cure = CURES.get(self.status, "lower start_lr, or use more steps")
            raise NoSuggestionError(
                f"the curve has only {self.clean} finite points (status {self.status}), too few to judge; "
                f"record at least {LEAST_POINTS}: {cure}.",
                curve=self,
            )

    def suggestions(self) -> dict[str, float]:
        """What every rule says, leaving out those that find nothing."""
        found = {}
        for name in RULES:
            try:
                found[name] = self.suggest(name)
            except NoSuggestionError:
                continue
        return found

    @property
    def setting(self) -> str:
        """What it holds for, in words."""
        return f"{self.model}, {self.optimizer}, batch {self.batch_size or '?'}{self.recipe and f' ({self.recipe})'}, seed {self.seed}"

    def rows(self) -> list[tuple[Any, ...]]:
        columns = {"lr": self.lrs, "loss": self.losses, "smooth": self.smooth, **({"metric": self.metric} if len(self.metric) else {})}
        return [tuple(columns), *zip(*(values.tolist() for values in columns.values()), strict=True)]

    def __str__(self) -> str:
        from lrfinder.describe_curve import describe_curve

        return describe_curve(self)

    def report(self) -> Report:
        """Where the loss breaks, and what the published rules say."""
        from lrfinder.report import curve_report

        return curve_report(self)

    def explain(self) -> str:
        """How it came about, in words, with the formulas filled in; fits 80 columns."""
        from lrfinder.describe_curve import explain_curve

        return explain_curve(self)

    def log_to(self, writer: Any, step: int = 0, *, run: Any = None) -> None:
        """Write the sweep to TensorBoard, W&B or MLflow, over a step axis of its own; see ``Suggestion.log_to``.

        Raises:
            BadType: If the writer is none of these.
            BadArgument: If an ``MlflowClient`` comes without a run.
        """
        from lrfinder.writing import log_curve

        log_curve(self, writer, step, run)

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The losses over the learning rate; see ``lrfinder.plot``."""
        from lrfinder.plotting import plot

        return plot(self, path=path, ax=ax)
