"""One real update of the user's model, as the training makes it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hessian.errors import BadArgument, BadType
from hessian.groups import set_lr
from hessian.nested import Window, batch_size
from hessian.problem import Problem
from hessian.readout import Readout, number_of

RETRIES = 40  # a scale of 2**16 that is halved at every overflow is below 2**-23 by then: no scale helps


def train_step(problem: Problem, batch: Any) -> float:
    """Forward, backward, step; returns the loss before the step, of all ranks. A loss that is not finite moves nothing.

    A step that a ``GradScaler`` skips, because the gradient overflowed, is made again with the lower scale; NaN if that never ends.
    """
    return take_step(problem, batch, Readout(problem.team, at_once=True))[0]


def take_step(problem: Problem, batch: Any, readout: Readout) -> list[float]:
    """The same; returns the losses of this step and others that ``readout`` knows by now. One that it does not know is trained on,
    whatever it is. A ``GradScaler`` needs one that reads at once.
    """
    if problem.recipe.step_fn is not None:
        return readout.single(checked_number(problem.recipe.step_fn(batch), "step_fn returned"), batch_size(batch))
    window = batch if isinstance(batch, Window) else Window((batch,))
    for _ in range(RETRIES):
        problem.optimizer.zero_grad()
        if not backward(problem, window, readout) or update(problem):
            return readout.close(len(window))
        readout.forget()
    return [math.nan]


def backward(problem: Problem, window: Window, readout: Readout) -> bool:
    """The gradient in ``.grad``, one micro-batch at a time; none of a loss that is known not to be finite, hence the answer."""
    scaler = problem.recipe.scaler
    for number, part in enumerate(window, 1):
        loss = problem.loss(part)
        if not readout.add(loss, batch_size(part), last=number == len(window)):
            return False
        share = loss / window.share if window.share > 1 else loss
        (share if scaler is None else scaler.scale(share)).backward()
    return True


def update(problem: Problem) -> bool:
    """Clip and step; whether the step was made."""
    recipe, optimizer = problem.recipe, problem.optimizer
    if recipe.scaler is None:
        clip(problem)
        optimizer.step()
        return True
    if recipe.clips:
        recipe.scaler.unscale_(optimizer)
        clip(problem)
    recipe.scaler.step(optimizer)
    scale = recipe.scaler.get_scale()
    recipe.scaler.update()
    return problem.team.every(recipe.scaler.get_scale() >= scale)  # it falls only after a step that was skipped


def clip(problem: Problem) -> None:
    recipe = problem.recipe
    if not recipe.clips:
        return
    held = [parameter for group in problem.optimizer.param_groups for parameter in group["params"]]
    if recipe.clip_value is not None:
        torch.nn.utils.clip_grad_value_(held, recipe.clip_value)
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(held, recipe.clip_norm)


def evaluate(problem: Problem, batch: Any) -> float:
    """The loss of a batch without training on it."""
    if not problem.has_loss:
        return step_at_rest(problem, batch)
    with torch.no_grad():
        return problem.team.mean(float(problem.loss(batch)), batch_size(batch))


def step_at_rest(problem: Problem, batch: Any) -> float:
    """The loss that the user's own step tells at LR zero, which moves no weight; inside ``preserved``: the optimizer's state moves on."""
    groups = problem.optimizer.param_groups
    present = [float(group["lr"]) for group in groups]
    set_lr(problem.optimizer, 0.0, [0.0] * len(groups))
    with torch.enable_grad():
        loss = train_step(problem, batch)
    set_lr(problem.optimizer, 1.0, present)
    return loss


def one_number(loss: Any, what: str, name: str = "loss") -> float:
    """The loss, or what ``name`` says, as a float, if it is one number; ``what`` says where it comes from."""
    return number_of(checked_number(loss, what, name))


def checked_number(loss: Any, what: str, name: str = "loss") -> float | Tensor:
    """The same with a tensor left unread."""
    kind: type = type(loss)
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise BadArgument(f"{what} a tensor of shape {tuple(loss.shape)}, not one number; reduce it, as with {name}.mean().")
        kind = bool if loss.dtype is torch.bool else complex if loss.is_complex() else float
    if kind is not float and (kind is bool or not issubclass(kind, Real)):
        raise BadType(f"{what} a {kind.__name__}, not one number; pass the {name} of this step, as a float or a tensor.")
    return loss if isinstance(loss, Tensor) else float(loss)
