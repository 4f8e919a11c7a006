"""Which data, net, loss and optimizer make up each demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hessian.losses import LossFn
from hessian.snapshot import preserve
from lrfinder.demo import data, models

Parameters = Iterable[nn.Parameter]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One demo."""

    data: Callable[[str], data.Split]  # takes the demo's name, for its error message
    model: Callable[[], nn.Module]  # from the global generator
    loss_fn: LossFn | None = None  # where the batches are not (inputs, classes)
    optimizer: str = "sgd"  # the one this net is usually trained with
    batch_size: int = 64
    epochs: int = 10


RECIPES: dict[str, Recipe] = {
    "digits-mlp": Recipe(data=data.digits, model=models.mlp),
    "digits-cnn": Recipe(data=data.digits, model=models.cnn),
    "mnist1d": Recipe(data=data.mnist1d, model=models.signal_cnn, optimizer="adam", batch_size=100),
    "chars": Recipe(
        data=data.characters,
        model=models.CharTransformer,
        loss_fn=models.next_character_loss,
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
    """``lrfinder.demo.make`` with names that are known to be right."""
    recipe = RECIPES[name]
    with preserve():
        split = recipe.data(name)
        # Not torch.manual_seed: it also seeds GPUs, and where none has started yet, preserve() cannot take that back.
        torch.default_generator.manual_seed(seed)
        model = recipe.model()
    train = data.batches(split.train, recipe.batch_size, shuffle=True, seed=seed)
    return {
        "model": model,
        "optimizer": MAKE_OPTIMIZER[optimizer or recipe.optimizer](model.parameters()),
        "data": train,
        **({"loss_fn": recipe.loss_fn} if recipe.loss_fn else {"criterion": nn.CrossEntropyLoss()}),
        "val_data": data.batches(split.val, 256, shuffle=False),
        "total_steps": recipe.epochs * len(train),
        "schedule": "onecycle",
    }
