"""A Lightning module joined to its trainer for as long as a loss or a step of ours lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from lightning.pytorch.utilities.types import LRSchedulerConfig

from hessian.snapshot import Restore, preserve, uninterrupted
from hessian.snapshot.containers import keep_dicts
from hessian.snapshot.keeping import restore_all
from lrfinder.integrations.lightning_checks import (
    batches_of,
    check_optimizers,
    check_outside_fit,
    check_training,
    first_of,
    parts,
)
from lrfinder.integrations.lightning_steps import Idle, logging_to
from lrfinder.integrations.needs import keep_names


class Link:
    """A module and its trainer, checked; ``running`` inside ``fit``, where they are joined already."""

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, *, running: bool = False) -> None:
        check_training(trainer, module)
        self.trainer, self.module, self.strategy = trainer, module, trainer.strategy
        if not running:
            check_outside_fit(trainer, module)
        inner = trainer.fit_loop.epoch_loop
        loops: list[Any] = [trainer.fit_loop, inner.val_loop, trainer.validate_loop, trainer.test_loop, trainer.predict_loop]
        # What joining changes.
        self.holders = [trainer, trainer.state, self.strategy, trainer._data_connector, inner, *loops]
        self.holders += [loop._data_source for loop in loops]
        self.members = [part for part in module.modules() if isinstance(part, pl.LightningModule)]
        self._apart: list[dict[str, Any]] = []
        self.optimizers: list[Any] = list(trainer.optimizers) if running else []

    def prepare(self, train: Any, val: Any, datamodule: Any) -> tuple[Any, Any]:
        """Make loaders and optimizers as ``fit`` would, and note how all looks then; returns the loaders."""
        if isinstance(train, pl.LightningDataModule):
            train, datamodule = None, train
        self.holders += [] if datamodule is None else [datamodule]
        with preserve(self.module, keep=self.holders), self._restored():
            self._attach(train, val, datamodule)
            owner = datamodule or self.module
            train = owner.train_dataloader() if train is None else train
            kind = pl.LightningModule if datamodule is None else pl.LightningDataModule  # a data module may only look like one
            if val is None and is_overridden("val_dataloader", owner, kind):
                val = owner.val_dataloader()
            self.trainer.fit_loop._data_source.instance = train
            with preserve(keep=parts(batches_of(train))):
                self.strategy.setup_optimizers(self.trainer)  # a scheduler may ask the trainer for its number of steps, hence the data
                self.trainer.fit_loop.teardown()
            self.optimizers = self.strategy.optimizers
            check_optimizers(self.optimizers, self.module)
            self._apart = [dict(vars(thing)) for thing in self.holders]
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
            for thing, apart in zip(self.holders, self._apart, strict=False):
                vars(thing).update(apart)
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
        return self.taken(self.strategy.batch_to_device(batch, dataloader_idx=0), index)

    def taken(self, batch: Any, index: int) -> list[Any]:
        """A batch on its device and its number, as many of both as ``training_step`` takes."""
        return [batch, index] if is_param_in_hook_signature(self.module.training_step, "batch_idx", min_args=2) else [batch]
