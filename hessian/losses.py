"""The loss of a batch, from each of the three ways to give it, and what no training could use as one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from hessian.errors import BadArgument, BadType

LossFn = Callable[[Any, Any], Tensor]


def choose_loss(criterion: Any, loss_fn: Any) -> LossFn:
    """One ``(model, batch) -> loss`` from the three ways to give it."""
    if criterion is not None and loss_fn is not None:
        raise BadArgument("criterion and loss_fn are both given; pass one: criterion(model(x), y), or loss_fn(model, batch).")
    for name, function in (("criterion", criterion), ("loss_fn", loss_fn)):
        if function is not None and not callable(function):
            raise BadType(f"{name} is a {type(function).__name__}, which cannot be called; pass a function or a module.")
    if loss_fn is not None:
        return loss_fn  # type: ignore[no-any-return]
    return model_loss if criterion is None else PairLoss(criterion)


class PairLoss:
    """``criterion(model(inputs), target)``; the last part of a batch is the target, all before it are the model's inputs."""

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        self.criterion = criterion

    def __call__(self, model: Any, batch: Any) -> Tensor:
        inputs, target = self.split(model, batch)
        return self.criterion(model(*inputs), target)

    def split(self, model: Any, batch: Any) -> tuple[Sequence[Any], Any]:
        """Inputs and target."""
        if not isinstance(batch, (list, tuple)) or len(batch) < 2:
            found = f"{len(batch)} parts" if isinstance(batch, (list, tuple)) else f"a {type(batch).__name__}"
            raise BadType(f"criterion needs batches (inputs, target), but a batch is {found}; pass loss_fn=lambda model, batch: ...")
        *inputs, target = batch
        if len(inputs) > 1 and not takes(model, inputs):
            raise BadType(
                f"a batch is {len(batch)} parts, {len(inputs)} inputs and the target, but {type(model).__name__} does not take so many "
                "inputs; pass loss_fn=lambda model, batch: ..."
            )
        return inputs, target


def takes(model: Any, inputs: Sequence[Any]) -> bool:
    """Whether a model can be called with so many inputs, as far as its signature tells."""
    try:
        inspect.signature(getattr(model, "forward", model)).bind(*inputs)
    except TypeError:
        return False
    except ValueError:  # no signature, as of functions written in C
        return True
    return True


def model_loss(model: Any, batch: Any) -> Tensor:
    """``model(**batch).loss``, as Hugging Face models give it."""
    if not isinstance(batch, Mapping):
        raise BadType(
            f"without criterion and loss_fn a batch must be a mapping for model(**batch).loss, but it is a {type(batch).__name__}; "
            "pass criterion=... for (inputs, target) batches, or loss_fn=..."
        )
    output = model(**batch)
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise BadType(f"model(**batch) gave a {type(output).__name__} without a loss; put the labels into the batch, or pass loss_fn=...")
    return loss  # type: ignore[no-any-return]


def check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        raise BadType(f"the loss is a {type(loss).__name__}, not a tensor; return the loss itself, before .item().")
    if loss.numel() != 1:
        raise BadArgument(f"the loss has shape {tuple(loss.shape)}, not one value; reduce it, for instance with loss.mean().")
    if loss.is_complex():
        raise BadType("the loss is complex, and no number of these is the smallest; return a real one, such as its abs() or its real part.")
    if not math.isfinite(loss.item()):
        raise BadArgument(
            f"the loss of the first batch is {loss.item()} before any weight moved; check the data for NaN and the model's initialization."
        )
    if not loss.requires_grad:
        raise BadArgument("the loss has no gradient; compute it without detach(), no_grad() and .item(), from parameters that train.")
