"""The fine-tuning tasks: a language model that the benchmark pretrains once, and what is trained on top of it."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suite import language
from suite.losses import classes
from suite.optimizers import ADAMW, using
from suite.reader import Classifier, LowRank, Reader, next_piece_loss
from suite.samples import Split, loader
from suite.task import Setup, Task
from suite.training import fit, make_schedule, validation

SCHEDULES = ("constant", "warm_linear")
DATA = {"families": (language.families, len(language.FAMILIES)), "swapped": (language.swapped, 2)}
VALIDATION = 512  # windows of the pretraining text that its loss is measured on


@dataclass(frozen=True)
class Recipe:
    """How the language model is made, and how it is fine-tuned; of ``every`` so many files of the library one is read."""

    pieces: int = 3000
    width: int = 128
    heads: int = 4
    depth: int = 2
    steps: int = 5000
    batch: int = 32
    lr: float = 3e-3
    epochs: int = 3
    fine_batch: int = 16
    every: int = 1

    @property
    def name(self) -> str:
        return "-".join(map(str, astuple(self)))

    def reader(self) -> Reader:
        return Reader(self.pieces, self.width, self.heads, self.depth, language.WINDOW)


RECIPE = Recipe()
TINY = Recipe(pieces=300, width=16, heads=2, depth=1, steps=40, epochs=1, fine_batch=8, every=40)


@dataclass(frozen=True)
class Pretrained:
    """The language model, the labelled sets in its vocabulary, and how well it reads: loss per word piece, before and after."""

    state: dict[str, Any]
    sets: dict[str, Any]
    losses: tuple[float, float]


@cache
def pretrained(recipe: Recipe, folder: Path) -> Pretrained:
    """Trained once and kept in ``folder``: other environments must start from the same weights."""
    path = folder / f"{recipe.name}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = pretrain(recipe)
        torch.save({"state": made.state, "sets": made.sets, "losses": made.losses}, path)
    return Pretrained(**torch.load(path, weights_only=True))


def pretrain(recipe: Recipe) -> Pretrained:
    """Trained on every text that is not fine-tuned on, with one cycle of AdamW."""
    texts, docstrings = language.library(recipe.every)
    words = language.vocabulary(texts, recipe.pieces)
    rows = windows(language.stream(texts, words))
    torch.manual_seed(0)
    model = recipe.reader()
    optimizer = using(ADAMW, weight_decay=0.01)(model.parameters(), recipe.lr)
    setup = Setup(model, next_piece_loss, optimizer, loader((rows[:-VALIDATION],), recipe.batch, 0), (rows[-VALIDATION:],))
    before = validation(setup)
    fit(setup, recipe.steps, make_schedule("onecycle", optimizer, recipe.steps))
    sets = {name: tuple(make(docstrings, words)) for name, (make, _) in DATA.items()}
    return Pretrained(model.state_dict(), sets, (before, validation(setup)))


def facts(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What the page says about the model."""
    made = pretrained(recipe, folder)
    losses = [round(loss, 4) for loss in made.losses]
    parameters = sum(parameter.numel() for parameter in recipe.reader().parameters())
    return {**asdict(recipe), "parameters": parameters, "losses": losses, "python": platform.python_version(), "torch": torch.__version__}


def windows(codes: Any) -> Any:
    """Windows, mixed; each has one word piece more than is read, which is only predicted."""
    size = language.WINDOW + 1
    rows = codes[: len(codes) // size * size].view(-1, size)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def samples(recipe: Recipe, folder: Path, data: str) -> Split:
    return Split(*pretrained(recipe, folder).sets[data])


def classifier(recipe: Recipe, folder: Path, data: str, known: bool = True, frozen: bool = False) -> Classifier:
    """With a fresh head; on what was read before, or on weights that never read anything."""
    reader = recipe.reader()
    if known:
        reader.load_state_dict(copy.deepcopy(pretrained(recipe, folder).state))
    reader.requires_grad_(not frozen)
    return Classifier(reader, DATA[data][1])


def adapted(recipe: Recipe, folder: Path, data: str, rank: int = 4) -> Classifier:
    """Of what was read before, only low-rank additions to what attention looks for will train, and the head."""
    model = classifier(recipe, folder, data, frozen=True)
    for block in model.reader.blocks:
        attention = block.attention[1]
        attention.qkv = LowRank(attention.qkv, rank)
    return model


def discriminative(params: Any, lr: float) -> torch.optim.Optimizer:
    """The head at ``lr``, all below it at a tenth."""
    *below, weight, bias = params
    return torch.optim.AdamW([{"params": below, "lr": lr / 10}, {"params": [weight, bias]}], lr=lr, weight_decay=0.01)


def tasks(recipe: Recipe, folder: Path) -> dict[str, Task]:
    """Every fine-tuning, and what it is compared with: the same net without what it read, and only its head trained."""
    whole, plain = using(ADAMW, weight_decay=0.01), ("warm_linear",)
    made = []
    for data in DATA:
        make = partial(task, recipe, folder, data)
        model = partial(classifier, recipe, folder, data)
        made += [
            make("finetune", model, whole, SCHEDULES, -3.0),
            make("scratch", partial(model, known=False), whole, plain, -2.5),
            make("frozen", partial(model, frozen=True), whole, plain, -1.5),
            make("discriminative", model, discriminative, plain, -2.5),
            make("lora", partial(adapted, recipe, folder, data), whole, plain, -2.0),
        ]
    return {one.name: one for one in made}


def task(
    recipe: Recipe,
    folder: Path,
    data: str,
    arm: str,
    net: Callable[[], nn.Module],
    optimizer: Any,
    schedules: tuple[str, ...],
    start: float,
) -> Task:
    """A training of ``recipe.epochs`` passes over the labelled set."""
    split = partial(samples, recipe, folder, data)
    steps = recipe.epochs * (len(split().train[0]) // recipe.fine_batch)
    return Task(f"{data}-{arm}", split, net, classes, optimizer, recipe.fine_batch, steps, schedules, start, fine_tuning=arm != "scratch")
