"""Sharpness against the optimizer's limit while a training runs: the measurement of ``stable_lr``, warm-started from step to step."""

from __future__ import annotations

import logging
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hessian.checks import positive_int
from hessian.curvature_settings import Along, CurvatureSettings, Method
from hessian.describe import describe_optimizer
from hessian.directional import descent_limit, update_direction
from hessian.doubts import CurvatureDoubt
from hessian.errors import BadArgument, CurvatureError
from hessian.following import Follower
from hessian.geometry import PRE_ROLL, OptimizerGeometry
from hessian.groups import base_lrs, lr_ratios
from hessian.limits import limits_of, optimizer_age
from hessian.losses import LossFn
from hessian.operators.choice import make_operator
from hessian.operators.graphs import NoSecondDerivativeError
from hessian.problem import Problem, trained_parameters
from hessian.readings import SharpnessReading, SharpnessRecord
from hessian.registry import find_limit, no_limit_cause
from hessian.snapshot import Place, check_choices
from hessian.stable import doubts_of
from hessian.writers import Log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR_TOL, NEAR_TOL = 0.08, 0.02  # of the stated error; the true one is mostly far less (docs/schedules.md)
NEAR = 1.25  # times the limit, up or down: there a percent decides, and a second direction is often as sharp
RECENT, CLOSER = 5, 4.0  # readings by whose differences it is judged how close one need be: so many times as close as they are
ROOM = 10.0  # the limit over the largest LR of the training from which that is worth a sentence
FALLEN = 0.5  # and the sharpness over the highest so far
LOGGER = logging.getLogger("hessian")


class SharpnessMonitor:
    """Follows the (preconditioned) sharpness of a training against its optimizer's limit, and leaves no trace on the training.

    Call ``step(batch)`` once for every training step, anywhere in the loop. Every ``every``-th call measures on that batch: a gradient
    and two to three Hessian-vector products if it is the same batch every time, three to four if it is another one, about seven where
    a full-batch training stands at its limit (docs/schedules.md); the first reading takes about eight. The optimizer's present state is
    its history, and the model stays in the mode it is in. A sentence is logged under the name ``"hessian"`` when the LR comes to lie
    above the limit, and when the sharpness has fallen so far that the LR could be raised; a measurement that fails does not stop the
    training.

    Full-batch training hovers around the limit by itself (Cohen et al. 2021, arXiv:2103.00065), so being a little above it is no fault.

    Args:
        model: The model in training.
        optimizer: Its optimizer, with a limit (docs/formulas.md) or one registered with ``stability_limit``.
        criterion: ``criterion(model(inputs), target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss`` is taken.
        every: Steps from reading to reading.
        along: ``"update"`` measures along the optimizer's next update only, for those without a limit (Lion, Muon).
        method: ``"autograd"``, ``"finite_difference"``, or ``"auto"``, as in ``stable_lr``.
        seed: Of the first start vector.
        keep: Whatever else your loss or hooks change and must come back, as in ``stable_lr``.
        snapshot: Where the copy of what must come back lies during a reading: ``"device"`` or ``"cpu"``.

    Raises:
        BadArgument, BadType: If an argument cannot be right.
        CurvatureError: If the optimizer has no known limit.

    Attributes:
        steps: Calls of ``step`` so far.
        readings: Every ``SharpnessReading`` so far.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        criterion: Callable[..., Tensor] | None = None,
        *,
        loss_fn: LossFn | None = None,
        every: int = 100,
        along: Along = "hessian",
        method: Method = "auto",
        seed: int = 0,
        keep: Sequence[Any] = (),
        snapshot: Place = "device",
    ) -> None:
        self._problem = Problem(model, optimizer, [None], criterion, loss_fn=loss_fn)
        self._problem.require_optimizer()
        self.every = positive_int("every", every)
        self._settings = CurvatureSettings(num_batches=1, seed=seed, along=along, method=method)
        check_choices(keep, snapshot)
        self._keep, self._snapshot = keep, snapshot
        if along == "hessian":
            check_limit(optimizer)
        self.steps = 0
        self.readings: list[SharpnessReading] = []
        self._optimizer, self._ratios = optimizer, lr_ratios(optimizer)
        self._follower = Follower(seed)
        self._preconditioned = False
        self._told = ""
        self._writers: list[Log] = []

    def step(self, batch: Any) -> SharpnessReading | None:
        """Count a training step; on every ``every``-th, measure on ``batch``. Returns the reading, or None."""
        self.steps += 1
        if self.steps % self.every:
            return None
        reading = self._read(batch)
        self.readings.append(reading)
        for writer in self._writers:
            writer.write(reading.step, numbers_of(reading))
        return reading

    @property
    def record(self) -> SharpnessRecord:
        """All readings as one result, which can be saved and read back."""
        name = describe_optimizer(self._optimizer)
        return SharpnessRecord(
            readings=tuple(self.readings), optimizer=name, preconditioned=self._preconditioned, along=self._settings.along
        )

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The LR and its limit over the steps, on ``ax`` if given; written to ``path`` if given."""
        return self.record.plot(path, ax)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all readings: ``.json`` (read back with ``lrfinder.load``), ``.csv``, ``.png``, ``.svg`` or ``.pdf``."""
        return self.record.save(path)

    def log_to(self, writer: Any) -> None:
        """Write every later reading to a TensorBoard writer, a W&B run or MLflow (its module, or a run), over the steps counted here.

        Raises:
            BadType: If it is none of these.
        """
        self._writers.append(Log(writer, "sharpness"))

    def _read(self, batch: Any) -> SharpnessReading:
        lr, problem = present_lr(self._optimizer), self._problem
        try:
            problem.parameters = trained_parameters(problem.modules, self._optimizer)  # layers may have been frozen, or groups added
            with problem.preserved(keep=self._keep, snapshot=self._snapshot):
                found = self._measure(problem, batch)
        except (CurvatureError, BadArgument) as error:  # as where all is frozen, or the copy does not fit any more
            found = Measured(reason=f"Step {self.steps:,}: {error}")
        reading = SharpnessReading(
            step=self.steps,
            lr=lr,
            sharpness=found.sharpness,
            error=found.error,
            limit_lr=found.limit_lr,
            hvps=found.hvps,
            doubts=found.doubts,
        )
        kind, sentence = ("failed", found.reason) if found.reason else advise(reading, found.formula, self._seen())
        if kind not in ("", self._told):
            LOGGER.warning("%s", sentence)
        self._told = kind
        return replace(reading, advice=sentence)

    def _seen(self) -> Seen:
        planned = [float(group.get("max_lr", 0.0)) for group in self._optimizer.param_groups]
        known = [reading.sharpness for reading in self.readings if math.isfinite(reading.sharpness)]
        return Seen(max(known, default=0.0), max([*planned, *base_lrs(self._optimizer), *(reading.lr for reading in self.readings)]))

    def _measure(self, problem: Problem, batch: Any) -> Measured:
        if self._settings.along == "update":
            return self._along_update(problem, batch)
        geometry = OptimizerGeometry(problem, limits_of(self._optimizer), present_ratios(self._optimizer, self._ratios))
        self._preconditioned = geometry.limit.preconditioner is not None
        return self._by_method(lambda settings: self._along_hessian(problem, batch, geometry, settings))

    def _by_method(self, measure: Callable[[CurvatureSettings], Measured]) -> Measured:
        """With the method asked for; ``"auto"`` goes over to finite differences for good where there is no second derivative."""
        if self._settings.method == "auto":
            try:
                return measure(replace(self._settings, method="autograd"))
            except NoSecondDerivativeError:
                self._settings = replace(self._settings, method="finite_difference")
        return measure(self._settings)

    def _along_hessian(self, problem: Problem, batch: Any, geometry: OptimizerGeometry, settings: CurvatureSettings) -> Measured:
        operator = make_operator(problem, [batch], settings)
        top = self._follower.top(geometry.around(operator), self._tolerance(), geometry.team.every)
        doubts = [doubt for doubt in doubts_of(problem, operator, top, [batch]) if doubt is not CurvatureDoubt.NO_NOISE]
        if self._preconditioned and optimizer_age(self._optimizer) < PRE_ROLL:
            doubts.append(CurvatureDoubt.YOUNG)
        sharpness = float(top.values[0])
        limit_lr = geometry.max_lr(sharpness) if sharpness + geometry.shift > 0 else math.inf
        error = float(top.residuals[0])
        return Measured(sharpness, limit_lr, operator.products, geometry.formula, tuple(doubts), error=error)

    def _tolerance(self) -> float:
        """Closer where the reading before was near the limit, but not if readings are far apart anyway, as those of different batches."""
        ratio = self.readings[-1].ratio if self.readings else math.nan
        return min(max(NEAR_TOL, changes(self.readings[-RECENT:]) / CLOSER), FAR_TOL) if 1 / NEAR < ratio < NEAR else FAR_TOL

    def _along_update(self, problem: Problem, batch: Any) -> Measured:
        update = update_direction(problem, batch)  # before the operator: a step invalidates kept graphs

        def measure(settings: CurvatureSettings) -> Measured:
            operator = make_operator(problem, [batch], settings)
            lr = descent_limit(operator, operator.start_hint(), update)
            return Measured(2 / lr, lr, operator.products, "2 / (curvature along the update)", error=0.0)

        return self._by_method(measure)


@dataclass(frozen=True)
class Measured:
    """One measurement; NaN and the reason where it failed."""

    sharpness: float = math.nan
    limit_lr: float = math.nan
    hvps: int = 0
    formula: str = ""
    doubts: tuple[CurvatureDoubt, ...] = ()
    reason: str = ""
    error: float = math.nan


@dataclass(frozen=True)
class Seen:
    """What came before a reading: the highest sharpness, and the largest LR that the training has used or plans to use."""

    sharpness: float
    lr: float


def advise(reading: SharpnessReading, formula: str, seen: Seen) -> tuple[str, str]:
    """A word for what is to be said, and the sentence."""
    if reading.lr > reading.limit_lr:
        return "above", (
            f"Step {reading.step:,}: the lr {reading.lr:.3g} is above its limit {reading.limit_lr:.3g} ({formula}, sharpness "
            f"{reading.sharpness:.3g}); lower it, or warm up longer, unless the loss goes on falling."
        )
    if ROOM * max(seen.lr, reading.lr) < reading.limit_lr < math.inf and reading.sharpness < FALLEN * seen.sharpness:
        return "room", (
            f"Step {reading.step:,}: the sharpness has fallen from {seen.sharpness:.3g} to {reading.sharpness:.3g}, and its limit "
            f"{reading.limit_lr:.3g} is {reading.limit_lr / max(seen.lr, reading.lr):.0f} times the largest lr; it could be raised."
        )
    return "", ""


def changes(readings: Sequence[SharpnessReading]) -> float:
    """By how much the sharpness differs from one to the next, as a share of it: the median; zero where none is known."""
    values = [reading.sharpness for reading in readings if reading.sharpness > 0]
    return statistics.median(abs(after / before - 1) for before, after in pairwise(values)) if len(values) > 1 else 0.0


def check_limit(optimizer: Any) -> None:
    """Refuse an optimizer whose limit is not known."""
    if find_limit(type(optimizer)) is None:
        cause = no_limit_cause(type(optimizer).__name__)
        raise CurvatureError(f"{cause}; pass along='update' to follow the curvature along its updates.")
    limits_of(optimizer)


def present_lr(optimizer: Any) -> float:
    """The LR of the largest group now."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def present_ratios(optimizer: Any, base: list[float]) -> list[float]:
    """Every group's LR over the largest now, whatever a scheduler made of them; as at first where all are zero."""
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    top = max(lrs)
    return [lr / top for lr in lrs] if top > 0 else base


def numbers_of(reading: SharpnessReading) -> dict[str, float]:
    """What a writer gets of a reading."""
    return {"sharpness": reading.sharpness, "lr": reading.lr, "limit_lr": reading.limit_lr, "ratio": reading.ratio}
