"""Lightning: what a ``Trainer`` would train, as arguments of ``find_lr``; callbacks that find and follow inside ``fit``.

Every loss and step is the module's own, called as Lightning calls it, with the trainer joined to the module for as long as the call
lasts. What is logged meanwhile is dropped, and no callback of the trainer is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from hessian import SharpnessMonitor
from hessian.checks import one_of
from hessian.errors import BadArgument
from hessian.groups import Together
from hessian.nested import Window
from lrfinder.curve import LRCurve
from lrfinder.find import find_lr
from lrfinder.integrations.lightning_steps import AutomaticStep, ManualStep, training_loss
from lrfinder.integrations.needs import require, scalars
from lrfinder.results import Suggestion
from lrfinder.sweep import range_test

require("lightning", "lightning", "2.4")

import lightning.pytorch as pl  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402
from lightning.pytorch.utilities.model_helpers import is_overridden  # noqa: E402

from lrfinder.integrations.lightning_checks import batches_of, check_no_scheduler, first_of, parts, planned_steps  # noqa: E402
from lrfinder.integrations.lightning_link import Link  # noqa: E402

MEASURES = ("find_lr", "range_test")
OF_THE_STEP = (  # a module that overrides one of these steps through it
    *("backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping"),
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
)


def from_trainer(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: pl.LightningDataModule | None = None,
    *,
    measure: str = "find_lr",
    report: str | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """What ``trainer.fit`` would train, as arguments: ``find_lr(**from_trainer(trainer, module, loader))``.

    The loss is ``training_step`` with its transfer hooks; accumulation, clipping, precision and the planned steps are the trainer's. A
    module that optimizes manually, or overrides a hook of the step as ``optimizer_step``, makes its steps itself. The optimizers are new
    ones of ``configure_optimizers``; ``fit`` makes its own, so give the answer to the module, for instance ``module.lr = found.lr``.
    Trainer, module, data module and random generators are as before.

    Args:
        trainer: Of one process and device. It need not have run.
        module: On the device of the trainer.
        train_dataloaders: As for ``fit``; None asks ``datamodule``, else ``module``.
        val_dataloaders: As for ``fit``; the short trainings are scored on them (of several, on the first) by ``training_step``.
        datamodule: As for ``fit``; its ``prepare_data`` and ``setup`` are called.
        measure: ``"range_test"`` for the arguments of ``lrfinder.range_test``, which plans nothing and scores nothing.
        report: With manual optimization, the name under which ``training_step`` logs the loss to record; None takes what it returns.
        overrides: Further arguments, which take precedence; ``keep`` is added to.

    Raises:
        ValueError, TypeError: If the training cannot be mirrored outside of ``fit``.
    """
    one_of("measure", measure, MEASURES)
    link = Link(trainer, module)
    train, val = link.prepare(train_dataloaders, val_dataloaders, datamodule)
    return arguments(link, train, val, measure, report, overrides)


class LRFinderCallback(pl.Callback):
    """Finds the learning rate when training begins, with trainer, module and data as they are then, and trains on with it.

    Args:
        measure: ``"find_lr"`` for a suggestion, or ``"range_test"`` for a curve.
        apply: Set the optimizers to the suggestion. Refused where a scheduler would undo it.
        report: With manual optimization, the name under which ``training_step`` logs the loss to record; None takes what it returns.
        settings: Of ``find_lr`` or ``range_test``; they take precedence over what the trainer plans.

    Attributes:
        suggestion: What was found, or None.
        curve: The range test, also that of the suggestion.
    """

    def __init__(self, *, measure: str = "find_lr", apply: bool = True, report: str | None = None, **settings: Any) -> None:
        one_of("measure", measure, MEASURES)
        if apply and measure == "range_test":
            raise BadArgument("a range test gives a curve, not one LR to apply; pass apply=False, and read one off callback.curve.")
        self.measure, self.apply, self.report, self.settings = measure, apply, report, settings
        self.suggestion: Suggestion | None = None
        self.curve: LRCurve | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find, now that model, optimizers and data are where they will be trained."""
        link = Link(trainer, pl_module, running=True)
        if self.apply:
            check_no_scheduler(trainer)
        train, val = batches_of(trainer.train_dataloader), first_of(trainer.val_dataloaders)
        known = arguments(link, train, val, self.measure, self.report, self.settings)
        if self.measure == "range_test":
            self.curve = range_test(**known)
            return
        self.suggestion = find_lr(**known)
        self.curve = self.suggestion.curve
        if self.apply:
            self.suggestion.apply(Together(trainer.optimizers))


def arguments(link: Link, train: Any, val: Any, measure: str, report: str | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Those that trainer and module decide, and the user's."""
    known = {"model": link.module, "optimizer": link.optimizers[0], "data": train}
    if measure == "find_lr":
        known |= {"val_data": val, "total_steps": planned_steps(link.trainer, train)}
    if link.module.automatic_optimization:
        known |= automatic(link)
    else:
        known |= {"optimizer": link.optimizers, "step_fn": ManualStep(link, report)}
    own_step = [known["step_fn"]] if "step_fn" in known else []
    return {**known, **overrides, "keep": [*own_step, *link.holders, *parts(train), *overrides.get("keep", ())]}


def automatic(link: Link) -> dict[str, Any]:
    """Loss and step of automatic optimization: ours, unless a hook of the module takes part in the step."""
    trainer = link.trainer
    plugin: Any = link.strategy.precision_plugin
    mixed = isinstance(plugin, MixedPrecision)
    loss = training_loss(link, nullcontext if mixed else plugin.train_step_context, lambda batch: link.inputs(batch, 0))
    known = {"loss_fn": loss, "accumulate": trainer.accumulate_grad_batches, "autocast": plugin.train_step_context if mixed else None}
    if any(is_overridden(name, link.module) for name in OF_THE_STEP):
        return {**known, "step_fn": AutomaticStep(link)}
    clip = "clip_value" if trainer.gradient_clip_algorithm == "value" else "clip_norm"
    return {**known, "scaler": plugin.scaler if mixed else None, clip: trainer.gradient_clip_val or None}


class SharpnessCallback(pl.Callback):
    """Follows the sharpness of the training against its optimizer's limit; see ``hessian.SharpnessMonitor``. The training does not change.

    Every ``every``-th optimizer step is read on its own batch, with accumulation on all its micro-batches, by the module's own
    ``training_step``. The numbers go to the trainer's loggers as ``sharpness/sharpness``, ``/lr``, ``/limit_lr`` and ``/ratio``.

    ::

        follow = SharpnessCallback(every=100)
        pl.Trainer(callbacks=[follow]).fit(module, loader)
        print(follow.monitor.record)

    Args:
        every: Optimizer steps from reading to reading.
        fixed: Read every time on the batch of the first reading, which stays in memory: readings can be compared, and cost less.
        log: Send the numbers to the trainer's loggers.
        settings: Others of ``SharpnessMonitor``: ``along``, ``method``, ``seed``, ``keep``, ``snapshot``.

    Attributes:
        monitor: The monitor of the last ``fit``, or None before it.
    """

    def __init__(self, *, every: int = 100, fixed: bool = False, log: bool = True, **settings: Any) -> None:
        self.every, self.fixed, self.log, self.settings = every, fixed, log, settings
        self.monitor: SharpnessMonitor | None = None
        self._window: list[tuple[Any, int]] = []  # batches as training_step got them, and their numbers
        self._held: Window | None = None
        self._steps_before = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, now that model and optimizer are where they will be trained."""
        if not pl_module.automatic_optimization:
            raise BadArgument(
                "the module optimizes manually, so its training_step cannot be asked for a loss alone; "
                "call hessian.SharpnessMonitor.step(batch) in it, with a loss_fn of your own."
            )
        link = Link(trainer, pl_module, running=True)
        plugin: Any = link.strategy.precision_plugin
        context = nullcontext if isinstance(plugin, MixedPrecision) else plugin.train_step_context  # curvature in full precision
        loss = training_loss(link, context, lambda placed: link.taken(*placed))
        self.monitor = SharpnessMonitor(pl_module, trainer.optimizers[0], loss_fn=loss, every=self.every, **self.settings)
        self._window, self._held, self._steps_before = [], None, trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count an optimizer step, once its last micro-batch is through."""
        assert self.monitor is not None
        due = (self.monitor.steps + 1) % self.every == 0
        if due and self._held is None:  # no other batch is kept from being freed
            self._window.append((batch, batch_idx))
        if trainer.global_step == self._steps_before:
            return
        self._steps_before = trainer.global_step
        window, self._window = self._held or Window(self._window), []
        if due and self.fixed:
            self._held = window
        reading = self.monitor.step(window)
        if reading is not None and self.log:
            for logger in trainer.loggers:
                logger.log_metrics(scalars(reading), step=trainer.global_step)
