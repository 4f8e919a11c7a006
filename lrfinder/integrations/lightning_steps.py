"""Losses and steps of a Lightning module, by its own methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hessian.errors import BadArgument, BadType
from hessian.losses import LossFn
from hessian.nested import Window

if TYPE_CHECKING:
    from lrfinder.integrations.lightning_link import Link


def training_loss(link: Link, context: Callable[[], AbstractContextManager[Any]], inputs: Callable[[Any], list[Any]]) -> LossFn:
    """``loss_fn(module, batch)``: what ``training_step`` returns for the ``inputs`` made of the batch, in ``context``."""

    def loss(module: Any, batch: Any) -> Tensor:
        with link.joined(), context():
            return loss_of(module.training_step(*inputs(batch)))

    return loss


class ManualStep:
    """``step_fn(batch)``: a ``training_step`` that moves the weights itself."""

    def __init__(self, link: Link, report: str | None) -> None:
        self.link, self.report = link, report
        self.batch_idx = 0  # of the next step; put back with all else that is kept

    def __call__(self, batch: Any) -> Any:
        with self.link.joined() as logged:
            output = self.link.strategy.training_step(*self.link.inputs(batch, self.batch_idx))
        self.batch_idx += 1
        return reported(output, logged, self.report)


class AutomaticStep:
    """``step_fn(batch)``: Lightning's automatic step through every hook of the module."""

    def __init__(self, link: Link) -> None:
        self.link, self.batch_idx = link, 0

    def __call__(self, batch: Any) -> Any:
        window = batch if isinstance(batch, Window) else (batch,)
        losses: list[Tensor] = []
        with self.link.joined():
            for place, part in enumerate(window):
                closure = partial(self._closure, part, place, losses)
                if place < len(window) - 1:
                    closure()
                else:
                    module, (optimizer,) = self.link.module, self.link.strategy._lightning_optimizers
                    module.optimizer_step(self.link.trainer.current_epoch, self.batch_idx, optimizer, closure)
                self.batch_idx += 1
        return sum(losses) / len(losses)

    def _closure(self, batch: Any, place: int, losses: list[Tensor]) -> Tensor:
        """Forward and backward; Lightning clears the gradients in between, at the first batch of a window."""
        module, strategy = self.link.module, self.link.strategy
        loss = loss_of(strategy.training_step(*self.link.inputs(batch, self.batch_idx)))
        losses.append(loss.detach().clone())
        if not place:
            module.on_before_zero_grad(strategy.optimizers[0])
            module.optimizer_zero_grad(self.link.trainer.current_epoch, self.batch_idx, strategy.optimizers[0])
        # Divided so by Lightning also where the last window of a pass has fewer.
        strategy.backward(loss / self.link.trainer.accumulate_grad_batches, strategy.optimizers[0])
        return losses[-1]


def loss_of(output: Any) -> Tensor:
    """The loss among what ``training_step`` returned."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise BadType(
            f"training_step returned {kind_of(output)}; for a learning rate it must return the loss, or a dict with it as 'loss'."
        )
    return loss


def reported(output: Any, logged: Mapping[str, Any], report: str | None) -> Any:
    """The loss of a manual step: what was logged under the name, else what was returned."""
    names = ", ".join(logged) or "nothing"
    if report is not None:
        if report not in logged:
            raise BadArgument(f"report={report!r} was not logged by training_step, which logs {names}; pass one of these names.")
        return logged[report]
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if loss is None:
        raise BadType(
            f"training_step returned {kind_of(output)} and logs {names}; return the loss to record, or name a logged one: report=..."
        )
    return loss


def kind_of(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} without a loss (it has {', '.join(map(str, output)) or 'nothing'})"
    return "None" if output is None else f"a {type(output).__name__}"


class Idle:
    """Stands for a scheduler that ``training_step`` steps itself: the LR is the sweep's."""

    def step(self, *values: Any) -> None: ...


def logging_to(logged: dict[str, Any]) -> dict[str, Callable[..., None]]:
    """``log`` and ``log_dict`` of a module that only note the values."""
    return {
        "log": lambda name, value, *args, **kwargs: logged.update({name: value}),
        "log_dict": lambda dictionary, *args, **kwargs: logged.update(dictionary),
    }
