"""Model, optimizer, data and loss, checked once: what every measurement works on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from hessian.batches import Batches
from hessian.distributed import bare, bucket_gradients, team_of
from hessian.errors import BadArgument, BadType
from hessian.groups import Together, lr_ratios
from hessian.losses import LossFn, check_loss, choose_loss
from hessian.nested import Window, tensors_in
from hessian.recipe import Autocast, Recipe, StepFn
from hessian.sharded import whole
from hessian.snapshot import Guard, Place, Snapshot, check_choices, seed_everything, with_gradients


class Problem:
    """A training problem. Making one checks every argument and moves nothing.

    Args:
        model: The module to train, on the device it will train on.
        optimizer: Its optimizer, or None where only the loss matters (an operator on its own).
        data: Batches that can be read more than once: a ``DataLoader``, a list, or a function that returns one batch.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)`` or ``(input, another, ..., target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar tensor``, for any other shape of training. With neither, a batch is a mapping
            and ``model(**batch).loss`` is taken.
        device: Where batches are moved; None leaves them where the data puts them.
        accumulate: Micro-batches of one optimizer step; a batch is then a ``Window`` of so many of them.
        autocast: A lower precision of the forward passes: a dtype, or a function that returns a context manager.
        scaler: The ``torch.amp.GradScaler`` of the training.
        clip_norm: Largest norm of the gradient before a step.
        clip_value: Largest magnitude of its entries.
        step_fn: ``step_fn(batch) -> loss``, the whole training step; ``model`` and ``optimizer`` may then be lists of several.

    Raises:
        BadArgument, BadType: Subclasses of ``ValueError`` and ``TypeError``, with what is wrong and what to do.

    Attributes:
        has_loss: Whether there is a loss, and not only a ``step_fn``.
        parameters: What the optimizer trains (every trainable parameter if there is none), by name.
        team: The processes that train this model together.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        data: Any,
        criterion: Callable[..., Tensor] | None = None,
        *,
        loss_fn: LossFn | None = None,
        device: torch.device | str | None = None,
        accumulate: int = 1,
        autocast: Autocast | None = None,
        scaler: Any = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        step_fn: StepFn | None = None,
    ) -> None:
        own = step_fn is not None
        models = listed("model", model) if own else [model]
        self.optimizers = [] if optimizer is None else listed("optimizer", optimizer) if own else [optimizer]
        for module in models:
            check_model(module)
        self.model = model
        self.optimizer: Any = Together(self.optimizers) if len(self.optimizers) > 1 else (*self.optimizers, None)[0]
        self.modules = [*models, *([criterion] if isinstance(criterion, nn.Module) else [])]
        self.device = check_device(models[0], device)
        self.loss_fn = choose_loss(criterion, loss_fn)
        self.has_loss = not own or criterion is not None or loss_fn is not None
        self._moves_itself = own or loss_fn is not None
        self.recipe = Recipe(accumulate, autocast, scaler, clip_norm, clip_value, step_fn)
        self.team = team_of(self.modules)
        self.batches = Batches(data, self.device, accumulate=accumulate, team=self.team)
        if own:
            check_training(models, self.optimizers)
        elif self.optimizers:
            check_optimizer(self.optimizer, self.modules)
        self.parameters = trained_parameters(self.modules, self.optimizer)

    def loss(self, batch: Any) -> Tensor:
        """The loss of ``batch`` at the present weights, as the model stands (train or eval), in the precision of the training."""
        with self.precision():
            return self.loss_in_full(batch)

    def precision(self) -> AbstractContextManager[Any]:
        """The context of the training's forward passes."""
        autocast = self.recipe.autocast
        if isinstance(autocast, torch.dtype):
            kinds = (parameter.device.type for module in self.modules for parameter in module.parameters())
            return torch.autocast(next(kinds, "cpu"), dtype=autocast)
        return nullcontext() if autocast is None else autocast()

    def loss_in_full(self, batch: Any) -> Tensor:
        """The same in the precision of the weights; of a window, the mean over its micro-batches."""
        if not isinstance(batch, Window):
            return whole(self.loss_fn(self.model, batch))  # type: ignore[no-any-return]
        return torch.stack([whole(self.loss_fn(self.model, part)) for part in batch]).mean()

    @property
    def model_name(self) -> str:
        """Class of the model, or of each of several."""
        return " and ".join(type(bare(model)).__name__ for model in listed("model", self.model))

    def bare(self) -> Problem:
        """The same without ``DistributedDataParallel``, whose forward passes talk to others: for what every rank does on its own."""
        inner = bare(self.model)
        if inner is self.model:
            return self
        twin = copy.copy(self)
        twin.model = inner
        return twin

    def require_optimizer(self) -> None:
        """Refuse to go on without an optimizer, where its learning rate is wanted.

        Raises:
            BadType: If there is none.
        """
        if self.optimizer is None:
            raise BadType("optimizer is None, so there is no learning rate to find; pass the optimizer that will train the model.")

    def preserved(self, *more: Any, keep: Sequence[Any] = (), snapshot: Place = "device") -> AbstractContextManager[Snapshot]:
        """``preserve`` everything this problem can touch, with gradients on, whatever mode the caller is in.

        Raises:
            BadArgument, BadType: If ``keep`` or ``snapshot`` cannot be right; on entering, if the copy does not fit.
        """
        check_choices(keep, snapshot)
        scaler = [] if self.recipe.scaler is None else [self.recipe.scaler]
        kept = [*keep, *scaler, *bucket_gradients(self.modules)]
        return self.team.around(Guard(self.modules, self.optimizers, [self.batches.data, *more], kept, snapshot, with_gradients()))

    def seed(self, seed: int) -> None:
        """Make what follows, data order included, a function of ``seed`` and the weights alone; inside ``preserved``."""
        seed_everything(seed, self.batches.data)

    def check_first_loss(self) -> Any:
        """Run one forward pass, inside ``preserved``, and refuse a loss that no training could use. Returns the batch.

        Without a loss of its own, ``step_fn`` is first tried by the sweep.

        Raises:
            BadArgument, BadType: If the loss is not one finite number with a gradient, or the batch lies on another device.
        """
        batch = self.batches.take(1)[0]
        if not self._moves_itself:
            check_batch_device(batch, self.model)
        if self.has_loss:
            check_loss(self.loss(batch[0] if isinstance(batch, Window) else batch))  # a whole window may not fit at once
        return batch


def listed(name: str, value: Any) -> list[Any]:
    """One thing or several, as a list."""
    things = list(value) if isinstance(value, (list, tuple)) else [value]
    if not things:
        raise BadArgument(f"{name} is an empty list; pass the {name} that your step trains, or several.")
    return things


def check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise BadType(f"model is a {type(model).__name__}, not a torch.nn.Module; pass the module that is trained.")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise BadArgument(f"parameter {name} has no shape yet (lazy module); run one batch through the model first.")
        if parameter.is_meta:
            raise BadArgument(f"parameter {name} is on the meta device and has no values; load the weights first.")
        if parameter.is_inference():
            raise BadArgument(f"parameter {name} was made under torch.inference_mode and cannot be trained; make the model outside of it.")


def check_device(model: nn.Module, device: torch.device | str | None) -> torch.device | None:
    """The device that batches go to, if it is where the model is."""
    if device is None:
        return None
    try:
        wanted = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", so that the two can be compared
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise BadArgument(f"device={str(device)!r} cannot be used here ({reason}); pass one that this machine has.") from error
    home = next((parameter.device for parameter in model.parameters()), wanted)
    if home != wanted:
        raise BadArgument(f"device={str(device)!r}, but the model is on {home}; move the model first: model.to({str(device)!r}).")
    return wanted


def check_batch_device(batch: Any, model: nn.Module) -> None:
    """Refuse a batch that lies on another device than the model, before torch does in the middle of a layer."""
    homes = {parameter.device for parameter in model.parameters()}
    for tensor in tensors_in(batch):
        if tensor.device not in homes and len(homes) == 1:
            home = homes.pop()
            raise BadArgument(f"the batch is on {tensor.device} but the model on {home}; pass device={str(home)!r} to have batches moved.")


def check_optimizer(optimizer: Any, modules: list[nn.Module]) -> None:
    """Refuse an optimizer that does not train this model, or whose LR cannot be swept."""
    check_is_optimizer(optimizer)
    known = {id(parameter) for module in modules for parameter in module.parameters()}
    strangers = sum(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"])
    if strangers:
        raise BadArgument(
            f"optimizer holds {strangers} tensors that are not parameters of model; "
            "create it from model.parameters() after wrapping or moving the model."
        )
    check_has_lr(optimizer)
    lr_ratios(optimizer)
    check_step(optimizer)


def check_training(models: list[Any], optimizers: list[Any]) -> None:
    """Refuse what is no training. Optimizers may also hold tensors of no module, as the temperature of an actor-critic."""
    for model in models:
        check_model(model)
    for optimizer in optimizers:
        check_is_optimizer(optimizer)
        check_has_lr(optimizer)
    known = {id(parameter) for model in models for parameter in model.parameters()}
    held = [id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
    if not known.intersection(held):
        raise BadArgument(
            f"none of the {len(held)} tensors that optimizer holds is a parameter of model; "
            "create it from model.parameters() after wrapping or moving the model."
        )


def check_is_optimizer(optimizer: Any) -> None:
    if not all(hasattr(optimizer, name) for name in ("param_groups", "step", "zero_grad", "state")):
        raise BadType(f"optimizer is a {type(optimizer).__name__}, not a torch optimizer; pass the object whose step() trains the model.")


def check_has_lr(optimizer: Any) -> None:
    """Refuse an optimizer without an LR, or that uses it for the first step only."""
    name = type(optimizer).__name__
    if any("lr" not in group for group in optimizer.param_groups):
        raise BadArgument(f"{name} has param groups without lr, so there is no learning rate to find.")
    if isinstance(optimizer, torch.optim.Rprop):
        raise BadArgument(f"{name} adapts every weight's step by itself and uses lr for the first step only, so there is no lr to find.")


def check_step(optimizer: Any) -> None:
    name = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise BadArgument(
            f"{name} needs a closure that it calls several times a step; "
            "pass your own step to find_lr or range_test as step_fn, or use SGD or Adam."
        )


def trained_parameters(modules: list[nn.Module], optimizer: Any) -> dict[str, nn.Parameter]:
    """Named parameters that require a gradient and that the optimizer, if any, updates; tied weights once."""
    named = {name: parameter for module in reversed(modules) for name, parameter in module.named_parameters()}
    trained = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
    if not trained:
        raise BadArgument(f"none of the {len(named)} parameters of the model requires a gradient; unfreeze what is to be trained.")
    if optimizer is None:
        return trained
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name: parameter for name, parameter in trained.items() if id(parameter) in held}
    if not trained:
        raise BadArgument("no parameter that the optimizer holds requires a gradient; unfreeze what is to be trained.")
    return trained
