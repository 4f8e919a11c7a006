"""Optimizers of the suite: each takes parameters and a learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Parameters = Iterable[nn.Parameter]
MakeOptimizer = Callable[[Parameters, float], torch.optim.Optimizer]


class Lion(torch.optim.Optimizer):
    """Evolved sign momentum (Chen et al. 2023): every weight moves by the learning rate, in the direction that two averages agree on."""

    def __init__(self, params: Parameters, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.move(parameter, parameter.grad, group)
        return loss

    def move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
        quick, slow = group["betas"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(average.lerp(gradient, 1 - quick).sign_(), alpha=group["lr"])
        average.lerp_(gradient, 1 - slow)


def using(kind: type[torch.optim.Optimizer], clip: float | None = None, **settings: Any) -> MakeOptimizer:
    """An optimizer of this kind; with ``clip``, each of its steps first scales the gradient down to that norm."""
    chosen: Callable[..., torch.optim.Optimizer] = kind if clip is None else clipping(kind, clip)

    def make(params: Parameters, lr: float) -> torch.optim.Optimizer:
        return chosen(params, lr=lr, **settings)

    return make


def clipping(kind: type[torch.optim.Optimizer], norm: float) -> type[torch.optim.Optimizer]:
    """The optimizer with gradient clipping as part of its step, where every finder meets it. A hook would be lost by a deep copy."""

    class Clipping(kind):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            loss = closure() if closure else None
            nn.utils.clip_grad_norm_([parameter for group in self.param_groups for parameter in group["params"]], norm)
            super().step()
            return loss

    Clipping.__name__ = kind.__name__
    return Clipping


SGD, ADAM, ADAMW, NADAM, RMSPROP, ADAGRAD = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
)
