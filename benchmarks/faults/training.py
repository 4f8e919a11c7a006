"""One small real training with all that a finder can leave changed: digits of scikit-learn, a conv net with batch norm, Adam."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.utils.data import DataLoader, Dataset

from faults.fault import Fault
from faults.scenarios import Scenario

SAMPLES, BATCH = 256, 16
BEFORE = 5  # steps that a training has behind it when it is no longer fresh

Pair = tuple[Tensor, Tensor]


class Net(nn.Module):
    """Two convolutions with batch norm, and dropout. No output depends on the buffer that is not saved, nor on the plain attributes."""

    brightness: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.dropout, self.scores = nn.Dropout(0.2), nn.Linear(64, 10)
        self.register_buffer("brightness", torch.zeros(()), persistent=False)
        self.calls = 0
        self.sizes: list[int] = []
        self.first.bias.requires_grad_(False)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(images))
        self.brightness.lerp_(images.mean(), 0.1)
        hidden = F.max_pool2d(F.relu(self.first_norm(self.first(images))), 2)
        hidden = F.max_pool2d(F.relu(self.second_norm(self.second(hidden))), 2)
        scores: Tensor = self.scores(self.dropout(hidden.flatten(1)))
        return scores


@cache
def digits() -> Pair:
    images, targets = load_digits(return_X_y=True)
    return torch.tensor(images[:SAMPLES] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(targets[:SAMPLES])


class Digits(Dataset[Pair]):
    """Images moved and brightened at random, by the generators of Python and of NumPy."""

    def __init__(self, fault: Fault) -> None:
        self.images, self.targets = digits()
        self.fault = fault

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Pair:
        self.fault.hit_reading()
        moved = self.images[index].roll(random.choice((-1, 0, 1)), 2)
        return moved * np.random.uniform(0.9, 1.1), self.targets[index]


@dataclass
class Training:
    """What a user has in hand; ``criterion`` passes every loss to the fault."""

    model: Net
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    loader: DataLoader[Pair]
    fault: Fault
    frozen: bool
    trained_frozen: bool = field(default=False)

    def criterion(self, scores: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(scores, target)
        if not loss.requires_grad:
            return loss
        self.trained_frozen |= self.frozen and self.model.second_norm.training
        return self.fault.hit_loss(loss)


def build(scenario: Scenario) -> Training:
    """The training as it stands when the finder is called; every call builds the same, bit for bit."""
    fault = Fault()
    loader = DataLoader(Digits(fault), BATCH, shuffle=True, generator=torch.Generator())
    seed(loader, 0)
    model = Net()
    model.second_norm.train(not scenario.frozen)
    head = [*model.scores.parameters()]
    body = [parameter for parameter in model.parameters() if all(parameter is not other for other in head)]
    optimizer = torch.optim.Adam([{"params": body, "lr": 1e-3, "part": "body"}, {"params": head, "lr": 3e-3, "part": "head"}])
    scheduler = CosineAnnealingLR(optimizer, 50) if scenario.scheduler else None
    training = Training(model, optimizer, scheduler, loader, fault, scenario.frozen)
    if scenario.underway:
        train(training, BEFORE)
    fault.arm(scenario.fault)
    return training


def seed(loader: DataLoader[Pair], number: int) -> None:
    """Seed every generator there is."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)
    loader.generator.manual_seed(number)


def train(training: Training, steps: int) -> list[float]:
    """The user's own loop; returns its losses. The last gradients stay where they are."""
    losses = []
    for _, batch in zip(range(steps), endless(training.loader), strict=False):
        losses.append(update(training, batch))
        if training.scheduler:
            training.scheduler.step()
    return losses


def endless(loader: DataLoader[Pair]) -> Iterator[Pair]:
    while True:
        yield from loader


def update(training: Training, batch: Pair) -> float:
    """One step of the optimizer; returns the loss before it."""
    images, target = batch
    training.optimizer.zero_grad()
    loss = training.criterion(training.model(images), target)
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    return loss.item()
