"""Lightning: what a ``Trainer`` would train, as arguments of ``find_lr``; a callback that finds inside ``fit``; manual optimization.

Every loss and step is the module's own, called as Lightning calls it, with the trainer joined to the module for as long as the call
lasts. What is logged meanwhile is dropped, and no callback of the trainer is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from hessian.errors import BadArgument
from hessian.groups import Together
from hessian.snapshot import Restore, preserve, uninterrupted
from hessian.snapshot.containers import keep_dicts
from hessian.snapshot.keeping import restore_all
from lrfinder.curve import LRCurve
from lrfinder.find import find_lr
from lrfinder.integrations.lightning_steps import AutomaticStep, Idle, ManualStep, TrainingLoss, keep_names, logging_to
from lrfinder.integrations.needs import require
from lrfinder.results import Suggestion
from lrfinder.sweep import range_test

require("lightning", "lightning", "2.4")

import lightning.pytorch as pl  # noqa: E402
from lightning.pytorch.loggers.logger import DummyLogger  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402
from lightning.pytorch.trainer.states import TrainerFn  # noqa: E402
from lightning.pytorch.utilities.model_helpers import is_overridden  # noqa: E402
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature  # noqa: E402
from lightning.pytorch.utilities.types import LRSchedulerConfig  # noqa: E402

from lrfinder.integrations.lightning_checks import (  # noqa: E402
    check_kinds,
    check_measure,
    check_no_scheduler,
    check_optimizers,
    check_outside_fit,
    check_strategy,
)
from lrfinder.integrations.lightning_data import batches_of, first_of, loader_for_validation, parts, planned_steps  # noqa: E402

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
    check_measure(measure)
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
        check_measure(measure)
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


# Joining trainer and module ----------------------------------------------------------------------------------------------------------


class Link:
    """A module and its trainer; checked when made.

    Args:
        running: Whether this is inside ``fit``, where they are joined already.

    Attributes:
        holders: The objects that joining changes.
    """

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, *, running: bool = False) -> None:
        check_kinds(trainer, module)
        self.trainer, self.module, self.strategy = trainer, module, trainer.strategy
        check_strategy(trainer)
        if not running:
            check_outside_fit(trainer, module)
        loops = (trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_loop.val_loop)
        more = (trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
        sources = [loop._data_source for loop in (loops[0], loops[2], *more)]
        self.holders: list[Any] = [trainer, trainer.state, self.strategy, trainer._data_connector, *loops, *more, *sources]
        self.members = [part for part in module.modules() if isinstance(part, pl.LightningModule)]
        self._apart: dict[int, dict[str, Any]] = {}
        self.optimizers: list[Any] = list(trainer.optimizers) if running else []

    def prepare(self, train: Any, val: Any, datamodule: Any) -> tuple[Any, Any]:
        """Make loaders and optimizers as ``fit`` would, and note how all looks then; returns the loaders."""
        if isinstance(train, pl.LightningDataModule):
            train, datamodule = None, train
        self.holders += [] if datamodule is None else [datamodule]
        with preserve(self.module, keep=self.holders), self._restored():
            self._attach(train, val, datamodule)
            train = (datamodule or self.module).train_dataloader() if train is None else train
            val = loader_for_validation(datamodule or self.module) if val is None else val
            self.trainer.fit_loop._data_source.instance = train
            with preserve(keep=parts(batches_of(train))):
                self.strategy.setup_optimizers(self.trainer)  # a scheduler may ask the trainer for its number of steps, hence the data
                self.trainer.fit_loop.teardown()
            self.optimizers = self.strategy.optimizers
            check_optimizers(self.optimizers, self.module)
            self._apart = {id(thing): dict(vars(thing)) for thing in self.holders}
        return batches_of(train), first_of(val)

    def _attach(self, train: Any, val: Any, datamodule: Any) -> None:
        """As at the beginning of ``fit``."""
        trainer = self.trainer
        if trainer.max_epochs is None:
            trainer.fit_loop.max_epochs = 1000 if trainer.max_steps == -1 else -1  # as fit takes it
        trainer._data_connector.attach_data(self.module, train_dataloaders=train, val_dataloaders=val, datamodule=datamodule)
        self.strategy.connect(self.module)
        trainer.state.fn, trainer.training = TrainerFn.FITTING, True
        if datamodule is not None:
            datamodule.prepare_data()
            datamodule.setup("fit")

    @contextmanager
    def joined(self) -> Iterator[dict[str, Any]]:
        """Inside, the module trains with its trainer; what it logs goes nowhere but into this dictionary."""
        logged: dict[str, Any] = {}
        with self._restored():
            for thing in self.holders:
                vars(thing).update(self._apart.get(id(thing), {}))
            trainer: Any = self.trainer
            trainer.loggers, trainer.callbacks = [DummyLogger()] if trainer.loggers else [], []
            self.strategy.lr_scheduler_configs = [LRSchedulerConfig(Idle()) for _ in trainer.lr_scheduler_configs]  # type: ignore[arg-type]
            for part in self.members:
                vars(part).update(_trainer=trainer, **logging_to(logged))
            yield logged

    @contextmanager
    def _restored(self) -> Iterator[None]:
        """All of it as before, afterwards."""
        restores: list[Restore] = [keep_dicts(vars(thing) for thing in self.holders)]
        restores += [keep_names(vars(part), ("_trainer", "log", "log_dict")) for part in self.members]
        try:
            yield
        finally:
            with uninterrupted():
                restore_all(restores)

    def inputs(self, batch: Any, index: int) -> list[Any]:
        """What ``training_step`` is called with; inside ``joined``."""
        batch = self.strategy.precision_plugin.convert_input(batch)
        batch = self.module._on_before_batch_transfer(batch, dataloader_idx=0)
        batch = self.strategy.batch_to_device(batch, dataloader_idx=0)
        takes_index = is_param_in_hook_signature(self.module.training_step, "batch_idx", min_args=2)
        return [batch, index] if takes_index else [batch]


# The arguments -----------------------------------------------------------------------------------------------------------------------


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
    loss = TrainingLoss(link, nullcontext if mixed else plugin.train_step_context)
    known = {"loss_fn": loss, "accumulate": trainer.accumulate_grad_batches, "autocast": plugin.train_step_context if mixed else None}
    if any(is_overridden(name, link.module, pl.LightningModule) for name in OF_THE_STEP):
        return {**known, "step_fn": AutomaticStep(link)}
    clip = "clip_value" if trainer.gradient_clip_algorithm == "value" else "clip_norm"
    return {**known, "scaler": plugin.scaler if mixed else None, clip: trainer.gradient_clip_val or None}
