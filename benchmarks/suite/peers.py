"""What the other packages, and habit, suggest for a task. Every package runs with its own defaults, as its users call it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from time import perf_counter
from typing import Any

import torch
from peers import load, quiet
from torch import Tensor, nn

from suite import fastai
from suite.optimizers import Lion
from suite.records import ANY, Records
from suite.task import LossFn, Setup, Task
from suite.training import fit, make_schedule, take, update

SEEDS = (1, 2)
START_LR, STEPS = 1e-7, 100
BATCHES = 8  # for the Hessian
PRODUCTS = 20
THUMB: dict[type[torch.optim.Optimizer], float] = {Lion: 1e-4, torch.optim.Adagrad: 1e-2}
MOMENTUM_THUMB, PLAIN_THUMB, ADAPTIVE_THUMB = 1e-2, 1e-1, 1e-3

PACKAGES = (
    "torch_lr_finder",
    "lightning.pytorch.tuner",
    "ignite.handlers",
    "hessian_eigenthings.operators",
    "prodigyopt",
)  # all that are asked

Record = dict[str, Any]
Suggest = Callable[[Task, int], float | None]


class Whole(nn.Module):
    """Model and loss as one module, for packages that want ``criterion(model(inputs), target)``."""

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self.loss_fn(self.model, batch)


def torch_lr_finder(task: Task, seed: int) -> float:
    """Steepest point of its range test; it suggests while it plots, and nowhere else."""
    package, plot = load("torch_lr_finder"), load("matplotlib.pyplot")
    plot.switch_backend("Agg")
    setup = task.build(seed, START_LR)

    class Pairs(load("torch_lr_finder.lr_finder").TrainDataLoaderIter):  # type: ignore[misc]
        def inputs_labels_from_batch(self, batch_data: Any) -> tuple[Any, Tensor]:
            return batch_data, torch.zeros(1)

    finder = package.LRFinder(Whole(setup.model, setup.loss_fn), setup.optimizer, lambda loss, _: loss)
    finder.range_test(Pairs(setup.loader), end_lr=10, num_iter=STEPS)
    figure, axes = plot.subplots()
    _, lr = finder.plot(suggest_lr=True, ax=axes)
    plot.close(figure)
    return float(lr)


def lightning(task: Task, seed: int) -> float | None:
    """``Tuner.lr_find`` with its defaults."""
    package = load("lightning.pytorch")
    setup = task.build(seed, START_LR)

    class Module(package.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = setup.model

        def training_step(self, batch: Any, index: int) -> Tensor:
            return setup.loss_fn(self.model, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return setup.optimizer

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = package.Trainer(accelerator="cpu", max_steps=STEPS, default_root_dir=folder, **off)
        tuner = load("lightning.pytorch.tuner").Tuner(trainer)
        lr: float | None = tuner.lr_find(Module(), train_dataloaders=setup.loader, update_attr=False).suggestion()
    return lr


def ignite(task: Task, seed: int) -> float:
    """``FastaiLRFinder``: the steepest point before the minimum."""
    engines, handlers = load("ignite.engine"), load("ignite.handlers")
    setup = task.build(seed, START_LR)
    trainer = engines.Engine(lambda engine, batch: update(setup, batch))
    finder = handlers.FastaiLRFinder()
    with finder.attach(trainer, {"model": setup.model, "optimizer": setup.optimizer}, num_iter=STEPS, end_lr=10.0) as run:
        run.run(Repeated(setup), max_epochs=1, epoch_length=STEPS)
    return float(finder.lr_suggestion())


class Repeated:
    """Enough batches for one sweep, however few an epoch has."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        return take(self.setup.loader, STEPS)


@cache
def fastai_sweep(task: Task, seed: int) -> tuple[fastai.Numbers, fastai.Numbers]:
    return fastai.sweep(task.build(seed, START_LR))


def fastai_rule(name: str) -> Suggest:
    return lambda task, seed: fastai.RULES[name](*fastai_sweep(task, seed))


def two_over_sharpness(task: Task, seed: int) -> float:
    """2 / the largest eigenvalue of the Hessian, by hessian-eigenthings."""
    setup = task.build(seed, START_LR)
    batches = list(take(setup.loader, BATCHES))
    operator = load("hessian_eigenthings.operators").HessianOperator(setup.model, batches, setup.loss_fn)
    lanczos = load("hessian_eigenthings.algorithms").lanczos
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = lanczos(operator, k=1, seed=seed, max_iter=PRODUCTS, which="LA")
    return float(2 / found.eigenvalues[0])


def fixed(lr: float) -> Suggest:
    return lambda task, seed: lr


def thumb(task: Task, seed: int) -> float:
    """What one tries first with this optimizer."""
    optimizer = task.build(seed, START_LR).optimizer
    if isinstance(optimizer, torch.optim.SGD):
        return MOMENTUM_THUMB if optimizer.defaults["momentum"] else PLAIN_THUMB
    return THUMB.get(type(optimizer), ADAPTIVE_THUMB)


SWEEPS: dict[str, Suggest] = {
    "torch-lr-finder": torch_lr_finder,
    "Lightning": lightning,
    "ignite": ignite,
    **{f"fastai {rule}": fastai_rule(rule) for rule in fastai.RULES},
}
METHODS: dict[str, Suggest] = {
    **SWEEPS,
    "2 / sharpness": two_over_sharpness,
    "1e-3": fixed(1e-3),
    "3e-4": fixed(3e-4),
    "rule of thumb": thumb,
}
PRODIGY = "Prodigy"


def measure(task: Task, records: Records, seeds: Iterable[int] = SEEDS) -> None:
    """Fill in what is missing for one task."""
    for seed in seeds:
        for method, suggest in METHODS.items():
            if records.find(method, task.name, ANY, seed) is None:
                records.add(method, task.name, ANY, seed, asked(suggest, task, seed))
        for schedule in task.schedules:
            if records.find(PRODIGY, task.name, schedule, seed) is None:
                records.add(PRODIGY, task.name, schedule, seed, prodigy(task, seed, schedule))


def warm_up(task: Task) -> None:
    """Ask everyone once: the first call of a package pays for its import."""
    for suggest in METHODS.values():
        asked(suggest, task, 0)


def asked(suggest: Suggest, task: Task, seed: int) -> Record:
    """The suggestion, or what the package said instead of one; and its time in seconds and in gradients."""
    fastai_sweep.cache_clear()
    began = perf_counter()
    try:
        with quiet():
            found: Record = {"lr": suggest(task, seed)}
    except Exception as error:  # any refusal counts as none; which one is in the record
        found = {"lr": None, "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    seconds = perf_counter() - began
    return {**found, "seconds": round(seconds, 4), "gradients": round(seconds / step_seconds(task), 1)}


def prodigy(task: Task, seed: int, schedule: str) -> Record:
    """A training with Prodigy at its learning rate of 1, which it multiplies itself, in place of the task's own optimizer."""
    setup = task.build(seed, 1.0)
    trained = [parameter for group in setup.optimizer.param_groups for parameter in group["params"]]
    warming = schedule in ("onecycle", "cosine", "warm_linear")  # its authors: keep what is learned during warm-up out of the estimate
    setup.optimizer = load("prodigyopt").Prodigy(trained, lr=1.0, safeguard_warmup=warming)
    outcome = fit(setup, task.steps, make_schedule(schedule, setup.optimizer, task.steps))
    return {"reached": [None if outcome.diverged else outcome.final, outcome.best], "seconds": 0.0, "gradients": 0.0}


@cache
def step_seconds(task: Task) -> float:
    """What one training step of the task takes: the best of a few rounds."""
    setup = task.build(0, START_LR)
    return min(ten_steps(setup) for _ in range(4)) / 10


def ten_steps(setup: Setup) -> float:
    began = perf_counter()
    for batch in take(setup.loader, 10):
        update(setup, batch)
    return perf_counter() - began
