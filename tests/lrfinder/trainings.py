"""One small training in many variants, and a training loop that owes nothing to the package."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=1e-3)
ADAMW = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)
RMSPROP = partial(torch.optim.RMSprop, lr=1e-3)


@dataclass
class Training:
    """Three classes of points in six dimensions, 96 of them in batches of 8, shuffled; BatchNorm and dropout in the net."""

    model: nn.Module
    optimizer: Any
    data: Any
    criterion: Any

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "data": self.data, "criterion": self.criterion}

    def loss(self, batch: Any) -> Tensor:
        return self.criterion(self.model(batch[0]), batch[1])


def step_of(training: Training, batch: Any) -> Tensor:
    """The ordinary step."""
    training.optimizer.zero_grad()
    loss = training.loss(batch)
    loss.backward()
    training.optimizer.step()
    return loss


def points(count: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(3, (count,), generator=generator)
    centres = torch.randn(3, 6, generator=torch.Generator().manual_seed(9)) * 1.5
    return centres[classes] + torch.randn(count, 6, generator=generator), classes


def batches(size: int = 8, count: int = 96) -> list[tuple[Tensor, Tensor]]:
    """The points in order, as a list."""
    inputs, classes = points(count)
    return list(zip(inputs.split(size), classes.split(size), strict=True))


def make(optimizer: Callable[..., Any] = SGD, *, dropout: float = 0.2, groups: bool = False) -> Training:
    """The same training every time, whatever the state of the global generator, which is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(*points()), batch_size=8, shuffle=True, generator=generator)
    trained: Any = model.parameters()
    if groups:
        trained = [{"params": model[0].parameters(), "lr": 5e-4}, {"params": [*model[1].parameters(), *model[4].parameters()]}]
    return Training(model, optimizer(trained), loader, nn.CrossEntropyLoss())


def seed_by_hand(seed: int, loader: Any) -> None:
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    if getattr(loader, "generator", None) is not None:
        loader.generator.manual_seed(seed)


def forever(data: Any) -> Iterator[Any]:
    while True:
        yield from data


def settle(training: Training, batches: Iterable[Any]) -> None:
    """BatchNorm's running statistics become a mean of those of these batches, in which every batch weighs 0.9 of the next one."""
    norm, seen = training.model[1], []
    norm.momentum = 1.0  # its statistics are those of the last batch
    with torch.no_grad():
        for batch in batches:
            training.loss(batch)
            seen.append((norm.running_mean.clone(), norm.running_var.clone()))
    norm.momentum = 0.1
    for value, each in zip((norm.running_mean, norm.running_var), zip(*seen, strict=True), strict=True):
        value.copy_(torch.tensor(np.average(torch.stack(each), axis=0, weights=0.9 ** np.arange(len(seen))[::-1])))


def train(
    training: Training, steps: int, lr: Callable[[int], list[Any]] | None = None, after: Callable[[Any], Any] | None = None
) -> list[float]:
    """An ordinary loop: the losses of ``steps`` steps, with every group's LR from ``lr(step)``; None leaves the LRs alone.

    ``after(batch)`` is called after each step with its batch.
    """
    losses = []
    source = forever(training.data)
    for step in range(steps):
        batch = next(source)
        if lr is not None:
            for group, value in zip(training.optimizer.param_groups, lr(step), strict=True):
                group["lr"] = value
        training.optimizer.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        training.optimizer.step()
        losses.append(loss.item())
        if after is not None:
            after(batch)
    return losses
