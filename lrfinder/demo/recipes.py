"""Which data, net, loss and optimizer make up each demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hessian.snapshot import preserve
from lrfinder.demo import data, models

Parameters = Iterable[nn.Parameter]


def class_loss() -> dict[str, Any]:
    """For batches ``(inputs, classes)``."""
    return {"criterion": nn.CrossEntropyLoss()}


def character_loss() -> dict[str, Any]:
    """For batches of windows, whose targets are in the windows themselves."""
    return {"loss_fn": models.next_character_loss}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One demo.

    Attributes:
        data: Takes the demo's name, for its error message.
        model: Makes the net, from the global generator.
        loss: Makes the argument of ``find_lr`` that says what is minimized.
        optimizer: The one this net is usually trained with.
        batch_size: Samples in a batch.
        epochs: Passes over the data that are planned.
    """

    data: Callable[[str], data.Split]
    model: Callable[[], nn.Module]
    loss: Callable[[], dict[str, Any]] = class_loss
    optimizer: str = "sgd"
    batch_size: int = 64
    epochs: int = 10


RECIPES: dict[str, Recipe] = {
    "digits-mlp": Recipe(data=data.digits, model=models.mlp),
    "digits-cnn": Recipe(data=data.digits, model=models.cnn),
    "mnist1d": Recipe(data=data.mnist1d, model=models.signal_cnn, optimizer="adam", batch_size=100),
    "chars": Recipe(
        data=data.characters,
        model=models.CharTransformer,
        loss=character_loss,
        optimizer="adamw",
        batch_size=32,
        epochs=5,
    ),
}


MAKE_OPTIMIZER: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-3),
}


def build(name: str, optimizer: str | None, seed: int) -> dict[str, Any]:
    """The keyword arguments of ``find_lr`` for the demo ``name``; both names are known to be right."""
    recipe = RECIPES[name]
    with preserve():
        split = recipe.data(name)
        # Not torch.manual_seed: it also seeds GPUs, and where none has started yet, preserve() cannot take that back.
        torch.default_generator.manual_seed(seed)
        model = recipe.model()
    train = data.shuffled(split.train, recipe.batch_size, seed)
    return {
        "model": model,
        "optimizer": MAKE_OPTIMIZER[optimizer or recipe.optimizer](model.parameters()),
        "data": train,
        **recipe.loss(),
        "val_data": data.in_order(split.val),
        "total_steps": recipe.epochs * len(train),
        "schedule": "onecycle",
    }
