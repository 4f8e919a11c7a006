"""Sharpness against the optimizer's limit while a training runs: ``stable_lr``, warm-started from step to step."""

from __future__ import annotations

import logging
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
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
LOGGED = ("sharpness", "lr", "limit_lr", "ratio")
LOGGER = logging.getLogger("hessian")

Found = tuple[SharpnessReading, str]  # and the formula of its limit


class SharpnessMonitor:
    """Follows the (preconditioned) sharpness of a training against its optimizer's limit, and leaves no trace on the training.

    Call ``step(batch)`` once for every training step, anywhere in the loop. Every ``every``-th call measures on that batch, with a
    gradient and two to four Hessian-vector products, about seven where a full-batch training stands at its limit, about eight at first
    (docs/schedules.md). The optimizer's present state is its history, and the model stays in the mode it is in. A sentence is logged
    under the name ``"hessian"`` when the LR comes to lie above the limit, and when the sharpness has fallen so far that the LR could be
    raised; a measurement that fails does not stop the training.

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
        snapshot: Where the copy of all that lies, as in ``stable_lr``.

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
            writer.write(reading.step, {name: getattr(reading, name) for name in LOGGED})
        return reading

    @property
    def record(self) -> SharpnessRecord:
        """All readings as one result, which can be saved and read back."""
        return SharpnessRecord(
            readings=tuple(self.readings),
            optimizer=describe_optimizer(self._optimizer),
            preconditioned=self._preconditioned,
            along=self._settings.along,
        )

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """The LR and its limit over the steps; see ``Result.plot``."""
        return self.record.plot(path, ax)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all readings: ``.json`` (read back with ``lrfinder.load``), ``.csv``, ``.png``, ``.svg`` or ``.pdf``."""
        return self.record.save(path)

    def log_to(self, writer: Any) -> None:
        """Write every later reading to a TensorBoard writer, a W&B run or MLflow, over the steps counted here.

        Of those between two rows of the training W&B gets the last (docs/terminal.md#logging); ``record`` has all.

        Raises:
            BadType: If it is none of these.
        """
        self._writers.append(Log(writer, "sharpness"))

    def _read(self, batch: Any) -> SharpnessReading:
        problem, lr = self._problem, max(present_lrs(self._optimizer))
        blank = SharpnessReading(step=self.steps, lr=lr, sharpness=math.nan, limit_lr=math.nan, hvps=0)
        try:
            problem.parameters = trained_parameters(problem.modules, self._optimizer)  # layers may have been frozen, or groups added
            with problem.preserved(keep=self._keep, snapshot=self._snapshot):
                reading, formula = self._measure(blank, batch)
        except (CurvatureError, BadArgument) as error:  # as where all is frozen, or the copy does not fit any more
            reading, kind, sentence = blank, "failed", f"Step {self.steps:,}: {error}"
        else:
            kind, sentence = advise(reading, formula, *self._seen())
        if kind not in ("", self._told):
            LOGGER.warning("%s", sentence)
        self._told = kind
        return replace(reading, advice=sentence)

    def _seen(self) -> tuple[float, float]:
        """The highest sharpness before, and the largest LR that the training has used or plans to use."""
        planned = [float(group.get("max_lr", 0.0)) for group in self._optimizer.param_groups]
        known = [reading.sharpness for reading in self.readings if math.isfinite(reading.sharpness)]
        return max(known, default=0.0), max([*planned, *base_lrs(self._optimizer), *(reading.lr for reading in self.readings)])

    def _measure(self, blank: SharpnessReading, batch: Any) -> Found:
        if self._settings.along == "update":
            return self._along_update(blank, batch)
        ratios = self._ratios
        if blank.lr > 0:  # else as at first; a scheduler may have made anything of them
            ratios = [lr / blank.lr for lr in present_lrs(self._optimizer)]
        geometry = OptimizerGeometry(self._problem, limits_of(self._optimizer), ratios)
        self._preconditioned = geometry.limit.preconditioner is not None
        return self._by_method(lambda settings: self._along_hessian(blank, batch, geometry, settings))

    def _by_method(self, measure: Callable[[CurvatureSettings], Found]) -> Found:
        """With the method asked for; ``"auto"`` goes over to finite differences for good where there is no second derivative."""
        if self._settings.method == "auto":
            try:
                return measure(replace(self._settings, method="autograd"))
            except NoSecondDerivativeError:
                self._settings = replace(self._settings, method="finite_difference")
        return measure(self._settings)

    def _along_hessian(self, blank: SharpnessReading, batch: Any, geometry: OptimizerGeometry, settings: CurvatureSettings) -> Found:
        operator = make_operator(self._problem, [batch], settings)
        top = self._follower.top(geometry.around(operator), self._tolerance(), geometry.team.every)
        doubts = [doubt for doubt in doubts_of(self._problem, operator, top, [batch]) if doubt is not CurvatureDoubt.NO_NOISE]
        if self._preconditioned and optimizer_age(self._optimizer) < PRE_ROLL:
            doubts.append(CurvatureDoubt.YOUNG)
        sharpness, error = float(top.values[0]), float(top.residuals[0])
        limit_lr = geometry.max_lr(sharpness) if sharpness + geometry.shift > 0 else math.inf
        known = replace(blank, sharpness=sharpness, error=error, limit_lr=limit_lr, hvps=operator.products, doubts=tuple(doubts))
        return known, geometry.formula

    def _tolerance(self) -> float:
        """Closer near the limit, but not if readings are far apart anyway, as those of different batches."""
        if not self.readings or not 1 / NEAR < self.readings[-1].ratio < NEAR:
            return FAR_TOL
        known = [reading.sharpness for reading in self.readings[-RECENT:] if reading.sharpness > 0]
        changes = [abs(after / before - 1) for before, after in pairwise(known)]
        return min(max(NEAR_TOL, statistics.median(changes or [0.0]) / CLOSER), FAR_TOL)

    def _along_update(self, blank: SharpnessReading, batch: Any) -> Found:
        update = update_direction(self._problem, batch)  # before the operator: a step invalidates kept graphs

        def measure(settings: CurvatureSettings) -> Found:
            operator = make_operator(self._problem, [batch], settings)
            lr = descent_limit(operator, operator.start_hint(), update)
            return replace(blank, sharpness=2 / lr, error=0.0, limit_lr=lr, hvps=operator.products), "2 / (curvature along the update)"

        return self._by_method(measure)


def advise(reading: SharpnessReading, formula: str, sharpest: float, largest: float) -> tuple[str, str]:
    """A word for what is to be said, and the sentence; ``sharpest`` and ``largest`` are from before."""
    largest = max(largest, reading.lr)
    if reading.lr > reading.limit_lr:
        return "above", (
            f"Step {reading.step:,}: the lr {reading.lr:.3g} is above its limit {reading.limit_lr:.3g} ({formula}, sharpness "
            f"{reading.sharpness:.3g}); lower it, or warm up longer, unless the loss goes on falling."
        )
    if ROOM * largest < reading.limit_lr < math.inf and reading.sharpness < FALLEN * sharpest:
        return "room", (
            f"Step {reading.step:,}: the sharpness has fallen from {sharpest:.3g} to {reading.sharpness:.3g}, and its limit "
            f"{reading.limit_lr:.3g} is {reading.limit_lr / largest:.0f} times the largest lr; it could be raised."
        )
    return "", ""


def check_limit(optimizer: Any) -> None:
    if find_limit(type(optimizer)) is None:
        cause = no_limit_cause(type(optimizer).__name__)
        raise CurvatureError(f"{cause}; pass along='update' to follow the curvature along its updates.")
    limits_of(optimizer)


def present_lrs(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]
