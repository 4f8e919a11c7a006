"""What the finders are let loose on: a small training whose every part can be made to fail at any of its calls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from oracles import bits
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from trainings import forever, points, seed_by_hand
from versions import muon, with_muon

from hessian import SharpnessMonitor, preserve, stable_lr
from lrfinder import LRSweep, find_lr, range_test

PLACES = ("loss", "forward", "data", "collate", "step", "forward hook", "backward hook", "restore")


class Wire:
    """Through it goes every call of the user's code; at some of them, counted by place, it pulls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.pulls: dict[tuple[str, int], Callable[[], None]] = {}
        self.from_loss = 0
        self.bend: Callable[[Tensor, Tensor], Tensor] | None = None

    def arm(self, place: str, index: int, pull: Callable[[], None]) -> None:
        self.pulls[place, index] = pull

    def arm_loss(self, index: int, bend: Callable[[Tensor, Tensor], Tensor]) -> None:
        """From that call on the loss is what ``bend(loss, output)`` makes of it."""
        self.from_loss, self.bend = index, bend

    def disarm(self) -> None:
        self.pulls.clear()
        self.bend = None

    def touch(self, place: str, *args: Any) -> None:
        pull = self.pulls.get((place, self.calls[place]))
        self.calls[place] += 1
        if pull is not None:
            pull()

    def criterion(self, output: Tensor, target: Tensor) -> Tensor:
        self.touch("loss")
        loss = nn.functional.cross_entropy(output, target)
        return loss if self.bend is None or self.calls["loss"] <= self.from_loss else self.bend(loss, output)


class Points(Dataset[Any]):
    """Three classes of points in six dimensions, with noise from the global generators, as augmentation draws it."""

    def __init__(self, wire: Wire) -> None:
        self.wire, (self.inputs, self.classes) = wire, points(40)

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.wire.touch("data")
        return self.sample(index)

    def sample(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index] + 0.1 * random.random() * float(np.random.normal()), self.classes[index]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restoring calls the user's code here."""
        self.wire.touch("restore")

    def collate(self, samples: Any) -> Any:
        self.wire.touch("collate")
        return torch.utils.data.default_collate(samples)


class Together(Points):
    """Its samples are asked for a batch at a time, as torch does where a data set can: fewer calls, each of which can fail."""

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        self.wire.touch("data")
        return [self.sample(index) for index in indices]


class Net(nn.Module):
    """Every kind of thing that a forward pass changes, in about a hundred parameters."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.frozen = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(8))  # assigned anew
        self.register_buffer("total", torch.zeros(8), persistent=False)  # changed in place
        self.recent = torch.zeros(8)
        self.calls = 0
        self.frozen.requires_grad_(False)
        self.frozen.eval()
        self.norm.register_forward_hook(partial(wire.touch, "forward hook"))
        self.last.register_full_backward_hook(partial(wire.touch, "backward hook"))

    def forward(self, inputs: Tensor) -> Tensor:
        self.wire.touch("forward")
        inner = torch.relu(self.norm(self.first(inputs)))
        self.calls += 1
        self.seen = 0.9 * self.seen + 0.1 * inner.detach().mean(0)
        self.total.add_(inner.detach().sum(0))
        self.recent.mul_(0.5).add_(inner.detach()[0])
        return self.last(self.drop(torch.relu(self.frozen(inner))))


@dataclass
class Subject:
    """One training."""

    wire: Wire
    model: Net
    optimizer: Any
    loader: Any
    scheduler: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "data": self.loader, "criterion": self.wire.criterion}

    def train(self, steps: int) -> list[float]:
        """The user's own loop."""
        losses, source = [], forever(self.loader)
        for _ in range(steps):
            inputs, target = next(source)
            self.optimizer.zero_grad()
            loss = self.wire.criterion(self.model(inputs), target)
            loss.backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            losses.append(loss.item())
        return losses

    def ten_steps(self) -> str:
        """Ten steps of training, and all that they leave behind, as text."""
        losses = self.train(10)
        state = [self.optimizer.state[parameter] for parameter in self.model.parameters() if parameter in self.optimizer.state]
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        schedule = None if self.scheduler is None else self.scheduler.get_last_lr()
        values = [*self.model.parameters(), *self.model.buffers(), self.model.recent, self.model.calls]
        return bits([losses, values, state, groups, schedule, torch.random.get_rng_state()]) + repr((random.random(), np.random.random()))


def matrices(model: Net) -> list[nn.Parameter]:
    """What Muon takes."""
    return [model.first.weight, model.last.weight]


def trained(model: Net) -> list[nn.Parameter]:
    return list(model.parameters())


def schedule_free(parameters: Any) -> Any:
    optimizer = AdamWScheduleFree(parameters, lr=0.01)
    optimizer.train()
    return optimizer


def one_cycle(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=40)


def cosine(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)


@dataclass(frozen=True)
class Kind:
    """How to make a subject.

    Attributes:
        make: The optimizer of these parameters.
        parameters: Which ones it gets.
        schedule: The scheduler of the optimizer, which is then in the middle of its training, gradients waiting.
        along: For ``stable_lr``: those without a stability limit are measured along their update.
    """

    make: Callable[..., Any]
    parameters: Callable[[Net], list[nn.Parameter]] = trained
    schedule: Callable[[Any], Any] | None = None
    along: str = "hessian"


OPTIMIZERS = {
    "sgd": Kind(partial(torch.optim.SGD, lr=0.05)),
    "sgd momentum": Kind(partial(torch.optim.SGD, lr=0.02, momentum=0.9)),
    "adam": Kind(partial(torch.optim.Adam, lr=0.01)),
    "adamw amsgrad": Kind(partial(torch.optim.AdamW, lr=0.01, amsgrad=True)),
    "rmsprop": Kind(partial(torch.optim.RMSprop, lr=0.01, momentum=0.5, centered=True)),
    "adagrad": Kind(partial(torch.optim.Adagrad, lr=0.05)),
    "adafactor": Kind(partial(torch.optim.Adafactor, lr=0.05)),
    "nadam": Kind(partial(torch.optim.NAdam, lr=0.01)),
    **with_muon({"muon": Kind(partial(muon, lr=0.02), matrices, along="update")}),
    "schedule-free": Kind(schedule_free),
    "adam tensor lr": Kind(lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(0.01))),
    "sgd mid-training cosine": Kind(partial(torch.optim.SGD, lr=0.02, momentum=0.9), schedule=cosine),
    "adam mid-training onecycle": Kind(partial(torch.optim.Adam, lr=0.01), schedule=one_cycle),
}


def make_subject(kind: Kind, data: Callable[[Wire], Points] = Points, **loading: Any) -> Subject:
    """The same training every time, the global generators included."""
    wire = Wire()
    seed_by_hand(1, None)
    model = Net(wire)
    optimizer = kind.make(kind.parameters(model))
    optimizer.register_step_pre_hook(partial(wire.touch, "step"))
    dataset = data(wire)
    loader = DataLoader(
        dataset, batch_size=4, shuffle=True, collate_fn=dataset.collate, generator=torch.Generator().manual_seed(5), **loading
    )
    subject = Subject(wire, model, optimizer, loader)
    if kind.schedule is not None:
        subject.scheduler = kind.schedule(optimizer)
        subject.train(5)
        subject.wire.criterion(model(dataset.inputs[:4]), dataset.classes[:4]).backward()  # gradients that wait for a step
        model.first.bias.grad = None
    wire.calls.clear()
    return subject


# The entry points, as short as they can be made ---------------------------------------------------------------------------------------

Entry = Callable[[Subject, Kind], Any]


def short_find(subject: Subject, kind: Kind) -> Any:
    """Of the smallest budget that has everything: two sweeps, short trainings, curvature."""
    return find_lr(**subject.arguments, total_steps=2, budget=250, start_lr=0.1, end_lr=1.0, progress=False)


def short_range(subject: Subject, kind: Kind) -> Any:
    return range_test(**subject.arguments, start_lr=1e-3, end_lr=1.0, num_iter=12, progress=False)


def short_loop(subject: Subject, kind: Kind) -> Any:
    with LRSweep(subject.model, subject.optimizer, start_lr=1e-3, end_lr=1.0, num_iter=12, progress=False) as sweep:
        for inputs, target in sweep(subject.loader):
            subject.optimizer.zero_grad()
            loss = subject.wire.criterion(subject.model(inputs), target)
            loss.backward()
            subject.optimizer.step()
            sweep.report(loss)
    return sweep.curve


def short_limit(subject: Subject, kind: Kind) -> Any:
    return stable_lr(**subject.arguments, num_batches=2, max_hvps=4, along=kind.along)  # type: ignore[arg-type]


def short_watch(subject: Subject, kind: Kind) -> Any:
    """Two readings on one batch, which is read without a trace: the user's loop would have read it anyway."""
    watch = SharpnessMonitor(subject.model, subject.optimizer, subject.wire.criterion, every=1, along=kind.along)  # type: ignore[arg-type]
    with preserve(subject.loader):
        batch = next(iter(subject.loader))
        watch.step(batch)
        watch.step(batch)
    return watch.record


ENTRIES: dict[str, Entry] = {
    "find_lr": short_find,
    "range_test": short_range,
    "LRSweep": short_loop,
    "stable_lr": short_limit,
    "SharpnessMonitor": short_watch,
}
UNCALLED = {"SharpnessMonitor": {"step"}}  # it asks the optimizer for its state only


def subject_of(optimizer: str, entry: str) -> Subject:
    """The training on which an entry point is tried; a search, which is the longest, reads its data a batch at a time."""
    return make_subject(OPTIMIZERS[optimizer], Together if entry == "find_lr" else Points)
