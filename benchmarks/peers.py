"""The other packages, each behind the same two calls. They are imported when called, so that ``--help`` needs none of them."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
from models import Task, Training
from timing import Run
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

START_LR, STEPS = 1e-7, 100
NEVER = 1e9  # times the best loss: no sweep stops early


class MissingPeer(Exception):
    """A package to compare with is not installed."""


def load(module: str) -> Any:
    """A peer's module, or the command that installs it."""
    try:
        with quiet():
            return import_module(module)
    except ImportError as missing:
        raise MissingPeer(f"{module} cannot be imported ({missing}); pip install -r benchmarks/requirements.txt") from missing


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No prints, no warnings, no log lines."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def torch_lr_finder(task: Task, training: Training) -> Run:
    """davidtvs/pytorch-lr-finder: copies of the state, sweep, reset. Returns the number of steps."""
    package = load("torch_lr_finder")

    def run() -> int:
        with quiet():
            finder = package.LRFinder(training.model, training.optimizer, training.criterion)
            finder.range_test(training.loader, start_lr=START_LR, end_lr=task.end_lr, num_iter=STEPS, diverge_th=NEVER)
            finder.reset()
        return len(finder.history["loss"])

    return run


def lightning_lr_find(task: Task, training: Training) -> Run:
    """Lightning's ``Tuner.lr_find`` on a ``Trainer`` that exists already. Returns the number of steps."""
    tuner = load("lightning.pytorch.tuner").Tuner
    module, trainer, folder = lightning_parts(training)

    def run() -> int:
        with quiet():
            found = tuner(trainer).lr_find(
                module,
                train_dataloaders=training.loader,
                min_lr=START_LR,
                max_lr=task.end_lr,
                num_training=STEPS,
                early_stop_threshold=None,
                update_attr=False,
            )
            folder.cleanup()
        return len(found.results["loss"])

    return run


def lightning_fit(task: Task, training: Training) -> Run:
    """Lightning's own loop for as many steps, without a finder. Returns the number of steps."""
    module, trainer, folder = lightning_parts(training)

    def run() -> int:
        with quiet():
            trainer.fit(module, train_dataloaders=training.loader)
            folder.cleanup()
        return int(trainer.global_step)

    return run


def lightning_parts(training: Training) -> tuple[Any, Any, tempfile.TemporaryDirectory[str]]:
    """The training as a ``LightningModule``, a ``Trainer`` that writes, draws and logs nothing, and its folder."""
    lightning = load("lightning.pytorch")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = training.model

        def training_step(self, batch: Any, index: int) -> Tensor:
            inputs, target = batch
            loss: Tensor = training.criterion(self.model(inputs), target)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return training.optimizer

    folder = tempfile.TemporaryDirectory()
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with quiet():
        trainer = lightning.Trainer(accelerator="cpu", max_steps=STEPS, default_root_dir=folder.name, **off)
    return Module(), trainer, folder


def curvlinops_eigsh(training: Training, batch: Any, seed: int, tol: float = 1e-2) -> Run:
    """curvlinops' Hessian in SciPy's ``eigsh``, without the check of determinism that would cost extra. Returns the eigenvalue."""
    package = load("curvlinops")
    eigsh = import_module("scipy.sparse.linalg").eigsh
    parameters = list(training.model.parameters())
    start = np.random.default_rng(seed).standard_normal(sum(parameter.numel() for parameter in parameters))

    def run() -> float:
        with quiet(), sdpa_kernel(SDPBackend.MATH):
            operator = package.HessianLinearOperator(training.model, training.criterion, parameters, [batch], check_deterministic=False)
            values = eigsh(operator.to_scipy(), k=1, which="LA", tol=tol, v0=start.astype(np.float32), return_eigenvectors=False)
        return float(values[0])

    return run


def eigenthings(training: Training, batch: Any, seed: int, solver: str, **settings: Any) -> Run:
    """A solver of hessian-eigenthings on its own operator. Returns the eigenvalue."""
    operators = load("hessian_eigenthings.operators")
    algorithm = getattr(load("hessian_eigenthings.algorithms"), solver)

    def loss(model: torch.nn.Module, batch: Any) -> Tensor:
        inputs, target = batch
        value: Tensor = training.criterion(model(inputs), target)
        return value

    def run() -> float:
        with quiet(), sdpa_kernel(SDPBackend.MATH):
            operator = operators.HessianOperator(training.model, [batch], loss)
            return float(algorithm(operator, k=1, seed=seed, **settings).eigenvalues[0])

    return run
