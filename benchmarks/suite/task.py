"""What a task is: a training that can be started anew, always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from suite import datasets
from suite.optimizers import MakeOptimizer
from suite.samples import Batch, Split, loader

LossFn = Callable[[nn.Module, Any], Tensor]
BASIC = ("constant", "onecycle")
ALL = (*BASIC, "cosine", "linear")


@dataclass
class Setup:
    """A training about to start."""

    model: nn.Module
    loss_fn: LossFn
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Any]
    val: Batch


@dataclass(frozen=True)
class Task:
    """A small real training.

    Attributes:
        name: Begins with the data set's.
        data: Makes the samples, always the same.
        net: Makes the model from the global generator.
        optimizer: Takes the parameters and a learning rate.
        batch: Samples in a batch; more than there are means all.
        steps: Updates in the training.
        schedules: Those whose truth is known.
        start: log10 of the learning rate at which the brute force begins.
        fine_tuning: Whether the model was trained before.
    """

    name: str
    data: Callable[[], Split]
    net: Callable[[], nn.Module]
    loss_fn: LossFn
    optimizer: MakeOptimizer
    batch: int
    steps: int
    schedules: tuple[str, ...] = BASIC
    start: float = -2.5
    fine_tuning: bool = False

    @property
    def data_set(self) -> str:
        return self.name.split("-", maxsplit=1)[0]

    @property
    def unseen(self) -> bool:
        """Whether no constant may be fitted on it."""
        return self.data_set in datasets.UNSEEN

    def build(self, seed: int, lr: float) -> Setup:
        """The seed decides first weights, the order of the batches and all draws while training."""
        data = self.data()
        torch.manual_seed(seed)
        model = self.net()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return Setup(model, self.loss_fn, self.optimizer(trainable, lr), loader(data.train, self.batch, seed), data.val)
