"""Hugging Face Accelerate: what ``Accelerator.prepare`` returned, as the arguments of ``find_lr``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from hessian.errors import BadArgument
from hessian.losses import LossFn, choose_loss
from lrfinder.integrations.needs import keep_names, require

require("accelerate", "accelerate", "1.6")

from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from accelerate.utils import DistributedType, convert_to_fp32  # noqa: E402


def from_accelerator(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    loader: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """The keyword arguments of ``find_lr`` for a training with Accelerate; nothing is changed.

    ::

        accelerator = Accelerator(gradient_accumulation_steps=4)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        found = lrfinder.find_lr(**from_accelerator(accelerator, model, optimizer, loader, criterion, clip_norm=1.0))
        found.apply(optimizer)

    Mirrored are gradient accumulation, mixed precision with its gradient scaler, the device and the data order.

    Args:
        accelerator: The ``Accelerator`` that prepared the rest.
        model: The prepared model, in train or eval mode as it will be trained.
        optimizer: The prepared optimizer.
        loader: The prepared loader.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss``.
        overrides: More arguments of ``find_lr``, or others in place of these; ``clip_norm``, if your loop clips.

    Raises:
        BadArgument: If the training runs in several processes, or under DeepSpeed, FSDP or fp8, which cannot be followed.
    """
    refuse_what_cannot_be_followed(accelerator)
    arguments: dict[str, Any] = {
        "model": model,
        "optimizer": bare_optimizer(optimizer),
        "data": bare_loader(loader),
        "accumulate": accelerator.gradient_accumulation_steps,
        "device": accelerator.device,
        "scaler": accelerator.scaler,
        "criterion": criterion,
        "loss_fn": loss_fn,
    }
    if accelerator.native_amp:
        mixed = MixedForward(accelerator)
        arguments |= {"autocast": mixed, "criterion": None, "loss_fn": mixed.around(choose_loss(criterion, loss_fn))}
    if "val_data" in overrides:
        overrides["val_data"] = bare_loader(overrides["val_data"])
    return {**arguments, **overrides}


def refuse_what_cannot_be_followed(accelerator: Accelerator) -> None:
    """Refuse what is more than forward, backward and ``optimizer.step()`` in this process."""
    kind = accelerator.distributed_type
    if accelerator.num_processes > 1:
        raise BadArgument(
            f"the Accelerator runs {accelerator.num_processes} processes, which is not followed here; find the learning rate in one "
            f"process, with accumulate={accelerator.num_processes * accelerator.gradient_accumulation_steps} for the same batch."
        )
    if kind != DistributedType.NO:
        raise BadArgument(f"{kind.value} takes its own training steps, which cannot be followed; find the learning rate without it.")
    if accelerator.mixed_precision == "fp8":
        raise BadArgument("mixed_precision='fp8' replaces the layers of the model, which cannot be followed; find it with 'bf16'.")


def bare_optimizer(optimizer: Any) -> Any:
    """The optimizer inside: Accelerate's skips ``step`` and ``zero_grad`` while it thinks that gradients accumulate."""
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer


def bare_loader(loader: Any) -> Any:
    """The loader inside, with the same samplers: reading Accelerate's counts steps and tells every optimizer about its end."""
    loader = getattr(loader, "base_dataloader", loader)
    return rebatched(loader, loader.batch_sampler.batch_size) if is_plain(loader) else loader


def is_plain(loader: Any) -> bool:
    """Whether its batches are torch's own, of a data set with numbered samples."""
    return type(getattr(loader, "batch_sampler", None)) is BatchSampler and not isinstance(loader.dataset, IterableDataset)


def rebatched(loader: DataLoader[Any], batch_size: int, **changes: Any) -> DataLoader[Any]:
    """A loader over the same samples in the same order, which knows the size of its batches: Accelerate's does not. Nothing is pinned."""
    batches: Any = loader.batch_sampler
    same = ["num_workers", "collate_fn", "timeout", "worker_init_fn", "generator"]
    same += ["multiprocessing_context", "prefetch_factor"] if loader.num_workers else []
    how = {"drop_last": batches.drop_last, **{name: getattr(loader, name) for name in same}, **changes}
    return DataLoader(loader.dataset, batch_size=batch_size, sampler=batches.sampler, **how)


class MixedForward:
    """Forward passes as ``prepare`` makes them: autocast inside, float32 outside; only in the context that calling it returns.

    ``prepare`` does so once and for all, but curvature is measured in full precision.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._on = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        before, self._on = self._on, True
        try:
            yield
        finally:
            self._on = before

    def around(self, loss_fn: LossFn) -> LossFn:
        """The loss, with the forward pass that is due, whether the model was prepared or not."""

        def loss(model: nn.Module, batch: Any) -> Tensor:
            plain: Any = vars(model).get("_original_forward", model.forward)

            def mixed(*args: Any, **kwargs: Any) -> Any:
                with self._accelerator.autocast():
                    output = plain(*args, **kwargs)
                return convert_to_fp32(output)

            with replaced(model, forward=mixed if self._on else plain):
                return loss_fn(model, batch)

        return loss


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Attributes of one object, replaced inside."""
    restore = keep_names(vars(owner), attributes)
    vars(owner).update(attributes)
    try:
        yield
    finally:
        restore()
