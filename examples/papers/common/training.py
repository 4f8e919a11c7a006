"""Trains one small net from several seeds at once; every seed has weights, batches and, where asked, labelled samples of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from common.data import DATA, Data
from common.nets import NETS

Schedule = Callable[[Optimizer, float, int], LRScheduler]


class Curve(NamedTuple):
    """Validation accuracy in the course of a training, in percent, one row a check and one column a seed."""

    steps: list[int]
    accuracy: list[list[float]]

    @property
    def final(self) -> list[float]:
        return self.accuracy[-1]


def constant(optimizer: Optimizer, lr: float, steps: int) -> LRScheduler:
    """The same learning rate to the end."""
    return piecewise(optimizer, lr, steps, drops=())


def piecewise(optimizer: Optimizer, lr: float, steps: int, drops: Sequence[float] = (1 / 2, 3 / 4), factor: float = 0.1) -> LRScheduler:
    """Times ``factor`` at every one of ``drops``, which are shares of the training."""
    return MultiStepLR(optimizer, [round(steps * share) for share in drops], factor)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training from each of several seeds, SGD with Nesterov momentum 0.9.

    Attributes:
        data, net: Names in ``DATA`` and ``NETS``.
        seeds: Of the weights, the order of the batches and the choice of labels.
        steps, batch: Length, and samples in a batch.
        lr: The peak of the schedule.
        schedule: Called with the optimizer, the peak and the length.
        checks: After how many steps the net is validated; the last step is always one.
        weight_decay, dropout: The other regularization.
        labels: Share of the training samples that are used.
        shares: Of ``lr``, one for each seed, where they train at several learning rates side by side.
    """

    data: str
    net: str
    seeds: tuple[int, ...]
    steps: int
    lr: float
    schedule: Schedule
    batch: int = 64
    checks: tuple[int, ...] = field(default=(), repr=False)
    weight_decay: float = 5e-4
    dropout: float = 0.0
    labels: float = 1.0
    shares: tuple[float, ...] = ()


class Stack:
    """Nets of one architecture side by side."""

    def __init__(self, name: str, seeds: Sequence[int], dropout: float) -> None:
        nets = [make_net(name, seed, dropout) for seed in seeds]
        self.weights, self.buffers = stack_module_state(nets)
        self.net = copy.deepcopy(nets[0]).to("meta")

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def __call__(self, inputs: Tensor, *, shared: bool = False) -> Tensor:
        """Scores, (nets, batch, classes), for a batch of each net's own or for one batch that all of them get."""
        forward = vmap(self.forward, in_dims=(0, 0, None if shared else 0), randomness="different")
        scores: Tensor = forward(self.weights, self.buffers, inputs)
        return scores

    def forward(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        scores: Tensor = functional_call(self.net, (weights, buffers), (inputs,))
        return scores

    @torch.no_grad()
    def accuracy(self, data: Data) -> list[float]:
        """Percent of the validation samples that each net gets right."""
        self.net.eval()
        right = [(self(inputs, shared=True).argmax(-1) == targets) for inputs, targets in data.validation()]
        self.net.train()
        return [100 * float(share) for share in torch.cat(right, 1).float().mean(1)]


def make_net(name: str, seed: int, dropout: float) -> nn.Module:
    """A net whose weights depend on ``seed`` alone."""
    torch.manual_seed(seed)
    return NETS[name](dropout)


def sgd(parameters: Iterable[Tensor], plan: Training) -> SGD:
    """With Nesterov momentum 0.9, as in Loshchilov and Hutter 2017."""
    return SGD(parameters, plan.lr, 0.9, weight_decay=plan.weight_decay, nesterov=True)


def train(plan: Training) -> Curve:
    """Train from every seed, and say how accurate the nets were at the checks."""
    data, stack = DATA[plan.data](), Stack(plan.net, plan.seeds, plan.dropout)
    optimizer = sgd(stack.parameters(), plan)
    scheduler = plan.schedule(optimizer, plan.lr, plan.steps)
    orders = [Order(len(data.inputs), plan.labels, plan.batch, seed) for seed in plan.seeds]
    own = OwnRates(stack.parameters(), plan.shares)
    curve = Curve([], [])
    for step in range(1, plan.steps + 1):
        chosen = torch.stack([next(order) for order in orders])
        losses = F.cross_entropy(stack(data.inputs[chosen]).flatten(0, 1), data.targets[chosen].flatten(), reduction="sum")
        optimizer.zero_grad()
        (losses / plan.batch).backward()
        with own:
            optimizer.step()
        if step < plan.steps:
            scheduler.step()
        if step in plan.checks or step == plan.steps:
            curve.steps.append(step)
            curve.accuracy.append(stack.accuracy(data))
    return curve


class OwnRates:
    """Lets every net of a stack make only its share of a step: what SGD adds to a weight is proportional to the learning rate."""

    def __init__(self, stacked: list[Tensor], shares: Sequence[float]) -> None:
        self.stacked = stacked if shares else []
        self.shares = [torch.tensor(shares).reshape(-1, *[1] * (weight.ndim - 1)) for weight in self.stacked]
        self.before: list[Tensor] = []

    def __enter__(self) -> None:
        self.before = [weight.detach().clone() for weight in self.stacked]

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for weight, before, share in zip(self.stacked, self.before, self.shares, strict=True):
            weight.copy_(torch.lerp(before, weight, share))


class Order:
    """Numbers of the samples, batch by batch, in a new order every epoch."""

    def __init__(self, samples: int, share: float, batch: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.chosen = torch.randperm(samples, generator=self.generator)[: round(share * samples)]
        self.batch, self.rest = min(batch, len(self.chosen)), torch.empty(0, dtype=torch.int64)

    def __next__(self) -> Tensor:
        if len(self.rest) < self.batch:
            self.rest = self.chosen[torch.randperm(len(self.chosen), generator=self.generator)]
        taken, self.rest = self.rest[: self.batch], self.rest[self.batch :]
        return taken
