"""What the two papers on stability share: optimizers, samples, a fully connected net and the squared error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import hessian
from common.data import DATA
from common.training import Order

Pair = tuple[Tensor, Tensor]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gd": lambda weights, lr: torch.optim.SGD(weights, lr=lr),
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.9),
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr),
}


@cache
def samples(name: str, count: int | None = None) -> Pair:
    """The first training samples, flat, with their classes."""
    data = DATA[name]()
    return data.inputs[:count].flatten(1), data.targets[:count]


def batches_of(data: Pair, size: int, count: int, seed: int) -> Iterator[Pair]:
    """So many batches; the order of the samples is drawn anew in every pass."""
    order = Order(len(data[0]), 1.0, size, seed)
    for _ in range(count):
        chosen = next(order)
        yield data[0][chosen], data[1][chosen]


def mlp(inputs: int, hidden: Sequence[int], outputs: int, kind: type[nn.Module]) -> nn.Sequential:
    """A net with hidden layers of these widths, as torch initialises it."""
    widths, layers = [inputs, *hidden], list[nn.Module]()
    for before, after in zip(widths, hidden, strict=False):
        layers += [nn.Linear(before, after), kind()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def squared_error(outputs: Tensor, classes: Tensor) -> Tensor:
    """Half the squared distance to the class as a unit vector, averaged over samples, as in Cohen et al. 2021."""
    target = nn.functional.one_hot(classes, outputs.shape[1]).to(outputs)
    return 0.5 * (outputs - target).square().sum(1).mean()


def limit_at_start(model: nn.Module, whole: Pair, optimizer: str) -> float:
    """The optimizer's limit before the first step, 2 / sharpness of gradient descent."""
    fresh = OPTIMIZERS[optimizer](model.parameters(), 1.0)
    return hessian.stable_lr(model, fresh, [whole], squared_error, num_batches=1).lr


def of(runs: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The runs with these settings."""
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def seeds(runs: list[dict[str, Any]]) -> int:
    return len({run["seed"] for run in runs})
