"""The loaders that Lightning takes, as batches, and how many steps it would make of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden

from hessian.batches import length_of


class SeveralLoaders:
    """Batches of several loaders at once, as Lightning combines them."""

    def __init__(self, loaders: Any, mode: Any) -> None:
        self.loaders, self.mode = loaders, mode

    def combined(self) -> CombinedLoader:
        """A new combination; each can be read once at a time."""
        return CombinedLoader(self.loaders, self.mode)

    def __iter__(self) -> Iterator[Any]:
        return (batch for batch, _, _ in self.combined())

    def __len__(self) -> int:
        combined = self.combined()
        iter(combined)
        return len(combined)


def batches_of(loaders: Any) -> Any:
    """Batches that ``fit`` would train on: a loader itself, so that its samples can be set aside; several, combined."""
    if isinstance(loaders, CombinedLoader):
        return SeveralLoaders(loaders.iterables, loaders._mode)
    return SeveralLoaders(loaders, "max_size_cycle") if isinstance(loaders, (dict, list, tuple)) else loaders


def parts(data: Any) -> list[Any]:
    """The loaders behind the batches."""
    return list(data.combined().flattened) if isinstance(data, SeveralLoaders) else [data]


def first_of(loaders: Any) -> Any:
    """The only loader, or the first of several; None if there is none."""
    data = batches_of(loaders)
    return next(iter(parts(data)), None)


def loader_for_validation(owner: Any) -> Any:
    """What ``val_dataloader`` gives, where there is one."""
    kind = pl.LightningModule if isinstance(owner, pl.LightningModule) else pl.LightningDataModule
    return owner.val_dataloader() if is_overridden("val_dataloader", owner, kind) else None


def planned_steps(trainer: pl.Trainer, train: Any) -> int | None:
    """Optimizer steps that ``fit`` would make; None if it has no end that is known."""
    limits = [] if trainer.max_steps == -1 else [trainer.max_steps]
    batches, share = length_of(train), trainer.limit_train_batches
    if isinstance(share, int):
        batches = share if batches is None else min(batches, share)
    elif batches is not None:
        batches = int(batches * share)
    if batches and trainer.max_epochs not in (None, -1):
        limits.append(math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs)
    return min(limits, default=None)
