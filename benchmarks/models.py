"""The trainings whose cost is measured: real data that ship with scikit-learn and Python, nets small enough for one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.demo import data
from lrfinder.demo.models import ASCII, Block

Pair = tuple[Tensor, Tensor]
WIDTH = 128


def mlp() -> nn.Module:
    """64 pixels to ten classes through three hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a 1x1 convolution of what comes in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.path(images) + self.shortcut(images))


def resnet() -> nn.Module:
    """Three residual blocks on 8x8 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 16, 1),
        Residual(16, 32, 2),
        Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class GPT(nn.Module):
    """Two transformer blocks of width 128 over characters; the scores reuse the embedding of the characters."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(ASCII, WIDTH)
        self.positions = nn.Embedding(data.CONTEXT, WIDTH)
        self.blocks = nn.Sequential(Block(WIDTH, 4), Block(WIDTH, 4))
        self.norm = nn.LayerNorm(WIDTH)
        for embedding in (self.characters, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """(batch, length) codes -> (batch, 128, length) scores, the order that cross-entropy takes."""
        places = torch.arange(codes.shape[1], device=codes.device)
        hidden = self.norm(self.blocks(self.characters(codes) + self.positions(places)))
        return F.linear(hidden, self.characters.weight).transpose(1, 2)


@dataclass
class Training:
    """One training, about to start."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Pair]
    criterion: nn.Module

    def backward(self, inputs: Tensor, target: Tensor) -> Tensor:
        """One gradient, as every training step computes it; returns the loss."""
        self.optimizer.zero_grad()
        loss: Tensor = self.criterion(self.model(inputs), target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


@dataclass(frozen=True)
class Task:
    """A training that can be made anew, always the same.

    Attributes:
        end_lr: Where sweeps end: below the LR at which this training breaks, so that each makes all of its steps.
        ready: Whether batches lie ready in memory, or the loader puts them together sample by sample, as it usually does.
    """

    model: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    samples: Callable[[], Pair]
    batch_size: int
    end_lr: float
    ready: bool = False

    def training(self, seed: int = 0) -> Training:
        torch.manual_seed(seed)
        model = self.model()
        return Training(model, self.optimizer(model.parameters()), self.loader(seed), nn.CrossEntropyLoss())

    def loader(self, seed: int) -> DataLoader[Pair]:
        data: Any = self.ready_batches() if self.ready else TensorDataset(*self.samples())
        batching: dict[str, Any] = {"batch_size": None} if self.ready else {"batch_size": self.batch_size, "drop_last": True}
        return DataLoader(data, shuffle=True, generator=torch.Generator().manual_seed(seed), **batching)

    def ready_batches(self) -> list[Pair]:
        """Whole batches, put together beforehand."""
        inputs, target = self.samples()
        ends = range(self.batch_size, len(inputs) + 1, self.batch_size)
        return [(inputs[end - self.batch_size : end], target[end - self.batch_size : end]) for end in ends]


def digits() -> Pair:
    """Images of handwritten digits and their classes."""
    images, classes = data.digits("benchmark").train.tensors
    return images, classes


@cache
def characters() -> Pair:
    """Windows of text, and the same windows one character on."""
    (windows,) = data.characters("benchmark").train.tensors
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
ADAMW = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01)

TASKS = {
    "MLP": Task(mlp, SGD, digits, 64, 1e-1),
    "ResNet": Task(resnet, SGD, digits, 64, 1e-1),
    "GPT": Task(GPT, ADAMW, characters, 8, 1e-2),
}
