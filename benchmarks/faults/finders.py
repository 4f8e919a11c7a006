"""Every finder as its own documentation calls it, on one training; its defaults but for the lowest learning rate, which all share.

Imported when called: a package that is not installed hides its own cells only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peers import load
from torch import Tensor

from faults.training import Training, endless, update

START_LR, END_LR, STEPS = 1e-7, 10.0, 100


def nothing() -> str:
    return ""


@dataclass(frozen=True)
class Call:
    """``run`` is the call; ``recorded`` how many losses it hands over, also after an error; ``says`` its own word on how it ended."""

    run: Callable[[], Any]
    recorded: Callable[[], int]
    says: Callable[[], str] = nothing


Finder = Callable[[Training], Call]


def bare_loop(training: Training) -> Call:
    """A ramp of as many steps, and nothing put back: what there is to be put back."""
    losses: list[float] = []

    def run() -> None:
        for number, batch in zip(range(STEPS), endless(training.loader), strict=False):
            for group in training.optimizer.param_groups:
                group["lr"] = START_LR * (END_LR / START_LR) ** (number / STEPS)
            losses.append(update(training, batch))

    return Call(run, lambda: len(losses))


def range_test(training: Training) -> Call:
    import lrfinder

    return ours(lambda: lrfinder.range_test(*arguments(training), start_lr=START_LR, progress=False))


def find_lr(training: Training) -> Call:
    import lrfinder

    return ours(lambda: lrfinder.find_lr(*arguments(training), start_lr=START_LR, progress=False))


def arguments(training: Training) -> tuple[Any, ...]:
    return training.model, training.optimizer, training.loader, training.criterion


def ours(ask: Callable[[], Any]) -> Call:
    """The curve is the result, or lies on it, or on the error."""
    curves: list[Any] = []

    def run() -> None:
        try:
            found = ask()
            curves.append(getattr(found, "curve", found))
        except BaseException as error:
            curves.append(getattr(error, "curve", None))
            raise

    return Call(run, lambda: len(curves[-1].losses) if curves[-1] else 0, lambda: str(curves[-1].status) if curves[-1] else "")


def torch_lr_finder(training: Training) -> Call:
    """Its README: ``range_test``, then ``reset``."""
    finder = torch_lr_finder_parts(training)

    def run() -> None:
        finder.range_test(training.loader, start_lr=START_LR)
        finder.reset()

    return Call(run, lambda: len(finder.history["loss"]))


def torch_lr_finder_finally(training: Training) -> Call:
    """As somebody careful calls it: ``reset`` whatever happens."""
    finder = torch_lr_finder_parts(training)

    def run() -> None:
        try:
            finder.range_test(training.loader, start_lr=START_LR)
        finally:
            finder.reset()

    return Call(run, lambda: len(finder.history["loss"]))


def torch_lr_finder_parts(training: Training) -> Any:
    return load("torch_lr_finder").LRFinder(training.model, training.optimizer, training.criterion)


def lightning(training: Training) -> Call:
    """``Tuner(trainer).lr_find(module)``; logger and checkpoints, which write files of their own, are off."""
    package = load("lightning.pytorch")

    class Module(package.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = training.model

        def training_step(self, batch: Any, index: int) -> Tensor:
            images, target = batch
            return training.criterion(self.model(images), target)

        def configure_optimizers(self) -> Any:
            return training.optimizer if training.scheduler is None else ([training.optimizer], [training.scheduler])

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    tuner = load("lightning.pytorch.tuner").Tuner(package.Trainer(accelerator="cpu", **off))
    module, found = Module(), []

    def run() -> None:
        found.append(tuner.lr_find(module, train_dataloaders=training.loader, min_lr=START_LR, update_attr=False))

    return Call(run, lambda: len(found[-1].results["loss"]) if found else 0)


def ignite(training: Training) -> Call:
    """``with finder.attach(trainer, to_save) as run: run.run(loader)``, around an ``Engine`` with the user's own step."""
    finder, attached = ignite_parts(training)

    def run() -> None:
        with attached() as trainer:
            trainer.run(training.loader)

    return Call(run, lambda: len(finder.get_results()["loss"]))


def ignite_caught(training: Training) -> Call:
    """As somebody careful calls it: the error is caught inside the ``with``, whose exit then puts back, and raised after it."""
    finder, attached = ignite_parts(training)

    def run() -> None:
        caught: BaseException | None = None
        with attached() as trainer:
            try:
                trainer.run(training.loader)
            except BaseException as error:
                caught = error
        if caught is not None:
            raise caught

    return Call(run, lambda: len(finder.get_results()["loss"]))


def ignite_parts(training: Training) -> tuple[Any, Callable[[], contextlib.AbstractContextManager[Any]]]:
    engine = load("ignite.engine").Engine(lambda engine, batch: update(training, batch))
    finder = load("ignite.handlers").FastaiLRFinder()
    saved: dict[str, Any] = {"model": training.model, "optimizer": training.optimizer}
    if training.scheduler:
        saved["scheduler"] = training.scheduler
    return finder, lambda: finder.attach(engine, to_save=saved, num_iter=STEPS, start_lr=START_LR)


def fastai(training: Training) -> Call:
    """``Learner.lr_find`` of a learner that has the user's optimizer already, as it has after a ``fit``; it wants to know the LRs, too."""
    learners, core = load("fastai.learner"), load("fastai.data.core")
    load("fastai.callback.schedule")  # gives Learner its lr_find
    loaders = core.DataLoaders(training.loader, training.loader)
    lrs = [group["lr"] for group in training.optimizer.param_groups]
    learner = learners.Learner(loaders, training.model, loss_func=training.criterion, lr=lrs)
    learner.opt = load("fastai.optimizer").OptimWrapper(opt=training.optimizer)

    def run() -> None:
        with learner.no_bar():
            learner.lr_find(start_lr=START_LR, show_plot=False)

    return Call(run, lambda: len(learner.recorder.losses))


FINDERS: dict[str, Finder] = {
    "range_test": range_test,
    "find_lr": find_lr,
    "torch-lr-finder": torch_lr_finder,
    "torch-lr-finder, `reset` in `finally`": torch_lr_finder_finally,
    "Lightning": lightning,
    "ignite": ignite,
    "ignite, error caught inside": ignite_caught,
    "fastai": fastai,
    "no finder, nothing put back": bare_loop,
}
