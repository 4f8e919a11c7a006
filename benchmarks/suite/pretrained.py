"""Models that the suite trains itself before it fine-tunes them. Each is trained once per process, always the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import nn

from suite import datasets, losses, nets, training
from suite.optimizers import ADAMW, using
from suite.samples import Split, loader
from suite.task import LossFn, Setup

Net = TypeVar("Net", bound=nn.Module)


def language_model() -> nn.Module:
    """A transformer that has read Python source."""
    return copy.deepcopy(read_source())


def language_model_top() -> nn.Module:
    """The same, of which only the last norm and the scores will train."""
    model = language_model()
    model.requires_grad_(False)
    for part in ("norm", "scores"):
        model.get_submodule(part).requires_grad_(True)
    return model


def digit_net() -> nn.Sequential:
    """A net that knows the digits 0 to 4, with a fresh head for five other classes."""
    model: nn.Sequential = copy.deepcopy(low_digits())
    head = model[-1]
    assert isinstance(head, nn.Linear)
    model[-1] = nn.Linear(head.in_features, 5)
    return model


def frozen_digit_net() -> nn.Sequential:
    """The same, of which only the head will train."""
    model = digit_net()
    model.requires_grad_(False)
    model[-1].requires_grad_(True)
    return model


@cache
def read_source() -> nn.Module:
    return pretrain(nets.transformer, datasets.source(), losses.next_character_loss, batch=32, steps=1200, lr=4e-3)


@cache
def low_digits() -> nn.Sequential:
    return pretrain(lambda: nets.conv(nets.group_norm, 5), datasets.digits_of(0, 4), losses.classes, batch=32, steps=200, lr=4e-3)


def pretrain(net: Callable[[], Net], data: Split, loss_fn: LossFn, *, batch: int, steps: int, lr: float) -> Net:
    """Trained with one cycle of AdamW; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = net()
        setup = Setup(model, loss_fn, using(ADAMW)(model.parameters(), lr), loader(data.train, batch, 0), data.val)
        training.fit(setup, steps, training.make_schedule("onecycle", setup.optimizer, steps))
    return model
