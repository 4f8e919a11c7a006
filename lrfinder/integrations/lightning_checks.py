"""What of Lightning can be mirrored: its loaders as batches, the number of its steps; and a sentence for what cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from hessian.batches import length_of
from hessian.errors import BadArgument, BadType


def check_training(trainer: Any, module: Any) -> None:
    """Refuse what does not come from this Lightning, several processes and sharded models."""
    for name, value, kind in (("trainer", trainer, pl.Trainer), ("module", module, pl.LightningModule)):
        if not isinstance(value, kind):
            whose = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
            raise BadType(f"{name} is a {whose}, not a lightning.pytorch.{kind.__name__}; import lightning.pytorch, and pass one of it.")
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise BadArgument("training_step takes dataloader_iter and reads batches itself; let it take a batch, or use lrfinder.LRSweep.")
    if type(trainer.strategy) is not SingleDeviceStrategy:
        raise BadArgument(
            f"the trainer's strategy is {type(trainer.strategy).__name__}; find the learning rate on one device: "
            "pl.Trainer(devices=1, strategy='auto')."
        )
    if trainer.overfit_batches:
        raise BadArgument(f"overfit_batches={trainer.overfit_batches} trains on a few batches only; find without it.")


def check_outside_fit(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Refuse what exists inside ``fit`` only."""
    inside = "use LRFinderCallback, which finds inside fit"
    for name in ("configure_model", "setup"):
        if is_overridden(name, module):
            raise BadArgument(f"the module has a {name} hook, whose work is there inside fit only; {inside}.")
    plugin = trainer.precision_plugin
    if type(plugin) not in (Precision, MixedPrecision):
        raise BadArgument(f"precision={plugin.precision!r} converts the module inside fit; {inside}.")
    homes = {str(parameter.device) for parameter in module.parameters()} - {str(trainer.strategy.root_device)}
    if homes:
        raise BadArgument(
            f"the module is on {homes.pop()}, but trains on {trainer.strategy.root_device}; move it first: module.to(...), or {inside}."
        )


def check_optimizers(optimizers: list[Any], module: pl.LightningModule) -> None:
    """Refuse a module that trains nothing: Lightning puts an optimizer of a tensor of its own in the place of None."""
    held = {id(weight) for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]}
    if held.isdisjoint(map(id, module.parameters())):
        raise BadArgument("configure_optimizers returned no optimizer, so there is no learning rate to find; let it return one.")


def check_no_scheduler(trainer: pl.Trainer) -> None:
    """Refuse to apply an LR that a scheduler would replace."""
    if trainer.lr_scheduler_configs:
        name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
        raise BadArgument(
            f"configure_optimizers attaches {name}, which sets the learning rate itself and would undo the suggestion; "
            "pass apply=False, and make the scheduler from callback.suggestion.lr."
        )


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
    """What ``fit`` would train on: a loader itself, so that its samples can be set aside; several, combined."""
    if isinstance(loaders, CombinedLoader):
        return SeveralLoaders(loaders.iterables, loaders._mode)
    return SeveralLoaders(loaders, "max_size_cycle") if isinstance(loaders, (dict, list, tuple)) else loaders


def parts(data: Any) -> list[Any]:
    """The loaders behind the batches."""
    return list(data.combined().flattened) if isinstance(data, SeveralLoaders) else [data]


def first_of(loaders: Any) -> Any:
    """The only loader, or the first of several, if any."""
    return next(iter(parts(batches_of(loaders))), None)


def planned_steps(trainer: pl.Trainer, train: Any) -> int | None:
    """Optimizer steps that ``fit`` would make, if its end is known."""
    limits = [] if trainer.max_steps == -1 else [trainer.max_steps]
    batches, share = length_of(train), trainer.limit_train_batches
    if isinstance(share, int):
        batches = share if batches is None else min(batches, share)
    elif batches is not None:
        batches = int(batches * share)
    if batches and trainer.max_epochs not in (None, -1):
        limits.append(math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs)
    return min(limits, default=None)
