"""The diagonal ``P`` by which an adaptive optimizer divides its gradient, read off its own state (docs/formulas.md).

The steady value is taken, frozen as it is (Cohen et al. 2022, arXiv:2207.14484): bias corrections of the second moment applied, the
transient of the first (``1 - beta1^t``) left out. A coordinate that never saw a gradient gets an infinite ``P``: the optimizer does not
move there, whatever ``eps`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hessian.groups import Group
from hessian.vectors import real

State = Mapping[str, Any]
Preconditioner = Callable[[Group, State, Tensor], Tensor]


def inverse(preconditioner: Preconditioner, group: Group, state: State, parameter: Tensor) -> Tensor:
    """``1 / P``, zero where a parameter does not move; of a complex one for both parts, which torch's optimizers treat apart."""
    if not state:
        return torch.zeros_like(real(parameter))
    parts = {name: real(value) if isinstance(value, Tensor) else value for name, value in state.items()}
    return 1 / preconditioner(group, parts, real(parameter))


def root_plus(moment: Tensor, epsilon: float) -> Tensor:
    """``sqrt(moment) + eps``; infinite where the moment is exactly zero."""
    root = moment.clamp(min=0).sqrt()
    return torch.where(root > 0, root + epsilon, math.inf)


def debiased(moment: Tensor, decay: float, state: State) -> Tensor:
    """An exponential mean that started at zero, corrected for that."""
    return torch.div(moment, 1 - decay ** float(state["step"]))


def adam(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Adam, AdamW, NAdam, RAdam (fully rectified): ``sqrt(v) + eps``, with AMSGrad the running maximum of ``v``."""
    moment = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return root_plus(debiased(moment, float(group["betas"][1]), state), group["eps"])


def adamax(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Adamax: the decaying maximum of ``|g| + eps``."""
    largest: Tensor = state["exp_inf"]
    return torch.where(largest > group["eps"], largest, math.inf)


def rmsprop(group: Group, state: State, parameter: Tensor) -> Tensor:
    """RMSprop: ``sqrt(v) + eps``; centered, the squared mean gradient is taken off ``v``."""
    second = debiased(state["square_avg"], float(group["alpha"]), state)
    if not group["centered"]:
        return root_plus(second, group["eps"])
    variance = second - debiased(state["grad_avg"], float(group["alpha"]), state).square()
    rounding = 16 * torch.finfo(second.dtype).eps * second  # gradients that were all the same differ by no more
    return root_plus(torch.where(variance > rounding, variance, 0.0), group["eps"])


def adagrad(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Adagrad: ``sqrt(sum of g^2) + eps``, and the LR decay so far."""
    decay: float = 1 + float(state["step"]) * group["lr_decay"]
    return torch.mul(root_plus(state["sum"], group["eps"]), decay)


def adadelta(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Adadelta: root mean square of gradients over that of past updates."""
    gradients, updates = state["square_avg"], state["acc_delta"]
    ratio = (gradients + group["eps"]).sqrt() / (updates + group["eps"]).sqrt()
    return torch.where(gradients > 0, ratio, math.inf)


def adafactor(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Adafactor: the factored ``sqrt(v)`` over the root mean square of the weights, to which the LR is relative.

    Its first epsilon (the precision of the weights by default) is a floor under the mean of ``v`` that the factors are divided by, and
    under ``sqrt(v)``.
    """
    floor = torch.finfo(parameter.dtype).eps if group["eps"][0] is None else float(group["eps"][0])
    if "row_var" in state:
        rows, columns = state["row_var"], state["col_var"]
        moment = rows @ columns / rows.mean(dim=-2, keepdim=True).clamp(min=floor)
    else:
        moment = state["variance"]
    size = max(float(group["eps"][1]), float(parameter.detach().norm()) / math.sqrt(parameter.numel()))
    return torch.where(moment > 0, moment.sqrt().clamp(min=floor), math.inf) / size


def schedule_free(group: Group, state: State, parameter: Tensor) -> Tensor:
    """Schedule-Free AdamW: ``sqrt(v) + eps``, its step count being the group's."""
    moment = torch.div(state["exp_avg_sq"], 1 - float(group["betas"][1]) ** max(int(group["k"]), 1))
    return root_plus(moment, group["eps"])
