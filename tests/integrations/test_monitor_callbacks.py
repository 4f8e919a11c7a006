"""The monitor's callbacks in real trainers: readings of the plain object, a training that does not notice, numbers in the trainer's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from test_lightning import HARMLESS, Net, loader, trainer
from test_transformers import make_trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from hessian import SharpnessMonitor, SharpnessReading
from hessian.errors import BadArgument, BadType
from hessian.nested import Window
from lrfinder.integrations import lightning as for_lightning
from lrfinder.integrations import transformers as for_transformers

pytestmark = [pytest.mark.filterwarnings(text) for text in HARMLESS]
NAMES = {"sharpness/sharpness", "sharpness/lr", "sharpness/limit_lr", "sharpness/ratio"}


def numbers(readings: list[SharpnessReading]) -> list[tuple[Any, ...]]:
    return [(reading.step, reading.lr, reading.sharpness, reading.limit_lr, reading.hvps) for reading in readings]


def weights(module: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in module.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


# Lightning ------------------------------------------------------------------------------------------------------------------------------


class Plain(pl.Callback):
    """The plain object, called by hand on the batches of each step."""

    def __init__(self, accumulate: int, every: int, fixed: bool) -> None:
        self.accumulate, self.every, self.fixed = accumulate, every, fixed
        self.parts: list[Any] = []
        self.first: Any = None
        self.monitor: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def loss_fn(module: Any, batch: Any) -> Tensor:
            return cross_entropy(module.body(batch[0]), batch[1])

        self.monitor = SharpnessMonitor(pl_module, trainer.optimizers[0], loss_fn=loss_fn, every=self.every)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.parts.append(batch)
        if len(self.parts) == self.accumulate:
            window = Window(self.parts)
            if self.fixed and self.monitor.steps + 1 >= self.every:
                self.first = self.first or window
            self.monitor.step(self.first or window)
            self.parts = []


def fit(*callbacks: pl.Callback, **options: Any) -> list[Tensor]:
    module = Net()
    torch.manual_seed(3)
    trainer(*callbacks, **options).fit(module, loader(shuffle=True))
    return weights(module)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("fixed", [False, True])
def test_in_lightning_it_reads_what_the_plain_object_reads_and_the_training_does_not_notice(accumulate: int, fixed: bool):
    options = {"accumulate_grad_batches": accumulate, "max_epochs": 4}
    follow, plain = for_lightning.SharpnessCallback(every=2, fixed=fixed), Plain(accumulate, 2, fixed)
    before = fit(**options)
    assert same(fit(follow, **options), before)
    assert same(fit(plain, **options), before)
    assert follow.monitor is not None
    assert len(follow.monitor.readings) == 24 // accumulate // 2
    assert numbers(follow.monitor.readings) == numbers(plain.monitor.readings)
    assert all(reading.sharpness > 0 for reading in follow.monitor.readings)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_in_lightning_lower_precision_trains_on_as_it_was(precision: str):
    follow = for_lightning.SharpnessCallback(every=5)
    assert same(fit(precision=precision), fit(follow, precision=precision))
    assert follow.monitor is not None
    assert [reading.sharpness > 0 for reading in follow.monitor.readings] == [True, True]


def test_in_lightning_the_numbers_go_to_every_logger(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board, table = TensorBoardLogger(tmp_path), CSVLogger(tmp_path)
    follow = for_lightning.SharpnessCallback(every=4)
    fit(follow, logger=[board, table], log_every_n_steps=1)
    assert follow.monitor is not None
    events = EventAccumulator(board.log_dir)
    events.Reload()
    assert set(events.Tags()["scalars"]) >= NAMES
    seen = [(event.step, event.value) for event in events.Scalars("sharpness/sharpness")]
    assert seen == [(reading.step, pytest.approx(reading.sharpness, rel=1e-6)) for reading in follow.monitor.readings]
    assert "sharpness/limit_lr" in Path(table.log_dir, "metrics.csv").read_text()


def test_in_lightning_a_second_fit_begins_anew():
    follow = for_lightning.SharpnessCallback(every=4)
    fit(follow)
    first = follow.monitor
    fit(follow)
    assert first is not None
    assert follow.monitor is not None
    assert first is not follow.monitor
    assert numbers(first.readings) == numbers(follow.monitor.readings)


class ByHand(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


def test_in_lightning_manual_optimization_is_refused_in_a_sentence():
    with pytest.raises(BadArgument, match="the module optimizes manually, so its training_step cannot be asked for a loss alone; call"):
        trainer(for_lightning.SharpnessCallback()).fit(ByHand(), loader())


# transformers ---------------------------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"max_steps": 6, "logging_strategy": "no"}


def trained(folder: Path, follow: bool, **options: Any) -> tuple[list[Tensor], Any, Any]:
    """Weights after ``train()``, the callback and the trainer."""
    hugging = make_trainer(folder, **{**OPTIONS, **options})
    callback = for_transformers.SharpnessCallback(hugging, every=2) if follow else None
    if callback is not None:
        hugging.add_callback(callback)
    torch.manual_seed(0)
    hugging.train()
    return weights(hugging.model), callback, hugging


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"optim": "sgd", "neftune_noise_alpha": 5.0}, {"bf16": True}])
def test_in_transformers_the_training_does_not_notice(options: dict[str, Any], tmp_path: Path):
    before, _, _ = trained(tmp_path, False, **options)
    after, follow, hugging = trained(tmp_path, True, **options)
    assert same(before, after)
    assert [reading.step for reading in follow.monitor.readings] == [2, 4, 6]
    assert all(reading.sharpness > 0 for reading in follow.monitor.readings)
    logged = [entry for entry in hugging.state.log_history if set(entry) >= NAMES]
    assert [entry["step"] for entry in logged] == [2, 4, 6]
    assert [entry["sharpness/sharpness"] for entry in logged] == [reading.sharpness for reading in follow.monitor.readings]


class PlainHugging(TrainerCallback):
    """The plain object, called by hand on one batch."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.monitor: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **_: Any) -> None:
        if self.monitor is None:
            self.monitor = SharpnessMonitor(model, optimizer.optimizer, every=2)
        self.monitor.step(self.batch)


def test_in_transformers_it_reads_what_the_plain_object_reads(tmp_path: Path):
    _, follow, _ = trained(tmp_path, True, optim="sgd", learning_rate=0.05, dropout=0.0)
    hugging = make_trainer(tmp_path, **OPTIONS, optim="sgd", learning_rate=0.05, dropout=0.0)
    plain = PlainHugging(dict(follow.batch))
    hugging.add_callback(plain)
    hugging.train()
    mine, theirs = follow.monitor.readings, plain.monitor.readings
    assert [reading.sharpness for reading in mine] == pytest.approx([reading.sharpness for reading in theirs], rel=1e-4)
    assert [reading.lr for reading in mine] == [reading.lr for reading in theirs] == [0.05] * 3


def test_in_transformers_what_is_no_trainer_is_refused():
    with pytest.raises(BadType, match=r"trainer is a Linear, not a transformers.Trainer; pass the one whose train\(\) you would call"):
        for_transformers.SharpnessCallback(nn.Linear(1, 1))
