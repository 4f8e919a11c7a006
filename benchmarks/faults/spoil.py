"""Every check must be able to fail: each item is spoiled by hand, and must be seen to have changed."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faults.items import ITEMS
from faults.scenarios import Scenario
from faults.training import Training, build
from faults.trial import workplace

FULL = Scenario(underway=True, scheduler=True, frozen=True)  # has every item


def replace_storage(training: Training) -> None:
    training.model.scores.weight.data = training.model.scores.weight.data.clone()


def add_to_gradient(training: Training) -> None:
    gradient = training.model.scores.weight.grad
    assert gradient is not None
    gradient.add_(1e-6)


def step_scheduler(training: Training) -> None:
    assert training.scheduler is not None
    training.scheduler.step()


def run_frozen(training: Training) -> None:
    training.model.second_norm.train()
    training.criterion(training.model(training.loader.dataset[0][0][None]), torch.tensor([0]))


def first_state(training: Training) -> Any:
    return training.optimizer.state[training.model.scores.weight]


def group(training: Training) -> dict[str, Any]:
    return training.optimizer.param_groups[1]


SPOILS: dict[str, Callable[[Training], Any]] = {
    "parameter values": lambda it: it.model.scores.bias.data.mul_(1 + 1e-6),
    "parameters: same objects and storage": replace_storage,
    "buffers (batch-norm statistics)": lambda it: it.model.get_buffer("first_norm.running_mean").add_(1e-6),
    "non-persistent buffer": lambda it: it.model.brightness.add_(1e-6),
    "plain attribute: a counter": lambda it: setattr(it.model, "calls", -1),
    "plain attribute: a list that grows": lambda it: it.model.sizes.append(1),
    "gradients: values": add_to_gradient,
    "gradients: which are None": lambda it: setattr(it.model.scores.bias, "grad", None),
    "requires_grad": lambda it: it.model.get_parameter("first.bias").requires_grad_(),
    "train/eval flag of every submodule": lambda it: it.model.dropout.eval(),
    "frozen batch norm is frozen during the sweep": run_frozen,
    "optimizer state: values": lambda it: first_state(it)["exp_avg"].add_(1e-6),
    "optimizer state: step counters": lambda it: first_state(it)["step"].add_(1),
    "optimizer state: no new entries": lambda it: first_state(it).update(new=0),
    "param groups: lr": lambda it: group(it).update(lr=1.0),
    "param groups: other entries": lambda it: group(it).update(new=1.0),
    "scheduler state": step_scheduler,
    "optimizer.step as it was": lambda it: setattr(it.optimizer, "step", lambda: None),
    "generator of torch": lambda it: torch.rand(1),
    "generator of NumPy": lambda it: np.random.rand(),
    "generator of Python": lambda it: random.random(),
    "generator of the loader": lambda it: torch.rand(1, generator=it.loader.generator),
    "no hooks left": lambda it: it.model.scores.register_forward_hook(lambda *_: None),
    "no files left": lambda it: Path("left").touch(),
    "handler of Ctrl-C": lambda it: signal.signal(signal.SIGINT, signal.SIG_IGN),
}


def check() -> None:
    """Raise if an item cannot tell that it was spoiled, or sees a change where there is none."""
    for name, item in ITEMS.items():
        with workplace():
            training = build(FULL)
            before = item(training)
            if before is None or item(training) != before:
                raise AssertionError(f"{name} sees a change where there is none")
            SPOILS[name](training)
            if item(training) == before:
                raise AssertionError(f"{name} was spoiled, and looks as before")
