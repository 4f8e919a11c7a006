"""A Lightning callback around ``hessian.SharpnessMonitor``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins.precision import MixedPrecision

from hessian import SharpnessMonitor
from hessian.errors import BadArgument
from hessian.nested import Window
from lrfinder.integrations.lightning_link import Link
from lrfinder.integrations.lightning_steps import training_loss
from lrfinder.integrations.needs import scalars


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
