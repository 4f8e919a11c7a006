"""The diagonal ``P`` by which an adaptive optimizer divides its gradient, read off its own state.

The steady value is taken: bias corrections of the second moment applied, the transient of the first moment (``1 - beta1^t``) left
out. ``P`` drifts during training; the limit is for ``P`` frozen as it is (Cohen et al. 2022, arXiv:2207.14484).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hessian.groups import Group

State = Mapping[str, Any]
Preconditioner = Callable[[Group, State], Tensor]


def inverse(preconditioner: Preconditioner, group: Group, state: State, parameter: Tensor) -> Tensor:
    """``1 / P`` for one parameter, zero where the optimizer never saw a gradient: it does not move there, whatever ``eps`` says."""
    if not state:
        return torch.zeros_like(parameter)
    diagonal = preconditioner(group, state)
    return torch.where(diagonal > group["eps"], 1 / diagonal, 0)


def debiased(moment: Tensor, decay: float, state: State) -> Tensor:
    """An exponential mean that started at zero, corrected for that."""
    return torch.div(moment, 1 - decay ** float(state["step"]))


def adam(group: Group, state: State) -> Tensor:
    """Adam and AdamW: ``sqrt(v) + eps``, with AMSGrad the running maximum of ``v``."""
    moment = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return torch.add(debiased(moment, float(group["betas"][1]), state).sqrt(), group["eps"])


def rmsprop(group: Group, state: State) -> Tensor:
    """RMSprop: ``sqrt(v) + eps``; centered, the squared mean gradient is taken off ``v``. Its first steps are larger: torch's
    RMSprop does not correct the bias of ``v``, so early on it divides by less than this."""
    second = debiased(state["square_avg"], float(group["alpha"]), state)
    if group["centered"]:
        second = second - debiased(state["grad_avg"], float(group["alpha"]), state).square()
    return torch.add(second.clamp(min=0).sqrt(), group["eps"])
