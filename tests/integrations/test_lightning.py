"""The Lightning adapter against real trainers: the same loss and weights as one step of ``fit``, and a ``fit`` that does not notice us."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from hessian import Problem
from hessian.step import train_step
from lrfinder.integrations.lightning import LRFinderCallback, from_trainer

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
FIND = {"budget": "quick", "curvature": False, "progress": False}
HARMLESS = (  # what Lightning says to every small CPU training
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:The 'val_dataloader' does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:`LightningModule.configure_optimizers` returned `None`",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",
)
pytestmark = [pytest.mark.filterwarnings(text) for text in HARMLESS]


class Net(pl.LightningModule):
    """A classifier with dropout, which logs, and an optimizer in any form that ``configure_optimizers`` may return."""

    def __init__(self, form: Callable[[Any], Any] = lambda optimizer: optimizer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.form = form
        self.lr = 0.05

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = cross_entropy(self.body(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True, prog_bar=True)
        self.log_dict({"twice": 2 * loss})
        return {"loss": loss, "more": 1}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", cross_entropy(self.body(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return self.form(torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9))


class Losses(Callback):
    """The loss of every batch, and the first one after which the weights are noted."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def loader(count: int = 96, **options: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 8, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=16, **options)


def trainer(*callbacks: Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(**{**QUIET, "max_epochs": 2, "callbacks": list(callbacks), **options})


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, weights(first), weights(second)))


# One step ----------------------------------------------------------------------------------------------------------------------------


def one_step_of_fit(module: pl.LightningModule, **options: Any) -> float:
    """One optimizer step of a real ``fit``; returns the mean loss."""
    seen = Losses()
    torch.manual_seed(3)
    trainer(seen, **{**options, "max_steps": 1}).fit(module, loader())
    return sum(seen.losses)  # Lightning divides each by their number


def one_step_of_ours(module: pl.LightningModule, **options: Any) -> float:
    """The same by the arguments of ``from_trainer``."""
    known = from_trainer(trainer(**options), module, loader())
    torch.manual_seed(3)
    return step_with(known)


def step_with(known: dict[str, Any]) -> float:
    """One training step of ``find_lr``, on the first window."""
    known = {key: value for key, value in known.items() if key not in ("total_steps", "val_data", "keep")}
    problem = Problem(**known)
    return train_step(problem, next(iter(problem.batches)))


ONE_STEP: list[dict[str, Any]] = [
    {},
    {"accumulate_grad_batches": 3},
    {"gradient_clip_val": 0.5},
    {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    {"gradient_clip_val": 0.05, "accumulate_grad_batches": 3},
    {"precision": "bf16-mixed"},
    {"precision": "bf16-mixed", "gradient_clip_val": 0.05},
]


@pytest.mark.parametrize("options", ONE_STEP, ids=str)
def test_one_step_is_that_of_fit(options: dict[str, Any]):
    fitted, ours = Net(), Net()
    loss = one_step_of_fit(fitted, **options)
    assert one_step_of_ours(ours, **options) == pytest.approx(loss, rel=1e-6)  # the sum of float32 thirds is not the mean
    assert same(fitted, ours)
    assert not same(fitted, Net())


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.05}], ids=str)
def test_an_epoch_with_a_last_window_of_fewer_batches_is_that_of_fit(options: dict[str, Any]):
    """Six batches: a window of four and one of two, whose gradients Lightning divides by four."""
    fitted, ours = Net(), Net()
    torch.manual_seed(3)
    trainer(max_epochs=1, accumulate_grad_batches=4, **options).fit(fitted, loader())
    known = from_trainer(trainer(accumulate_grad_batches=4, **options), ours, loader())
    problem = Problem(**{key: value for key, value in known.items() if key not in ("total_steps", "val_data", "keep")})
    torch.manual_seed(3)
    for window in islice(problem.batches, 2):
        train_step(problem, window)
    assert same(fitted, ours)


def test_one_scaled_step_is_that_of_fit():
    def plugins() -> list[Any]:
        return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]

    fitted, ours = Net(), Net()
    loss = one_step_of_fit(fitted, plugins=plugins(), gradient_clip_val=0.05)
    assert one_step_of_ours(ours, plugins=plugins(), gradient_clip_val=0.05) == pytest.approx(loss, rel=1e-6)
    assert same(fitted, ours)


class Scaled(Net):
    """Every hook of the step does something to it."""

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        (2 * loss).backward()

    def on_after_backward(self) -> None:
        self.body[0].bias.grad.zero_()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("norm", self.body[0].weight.grad.norm())
        self.body[3].weight.grad.mul_(3)

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="norm")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        with torch.no_grad():
            self.body[3].bias.add_(0.25)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_module_with_hooks_of_the_step_steps_through_them(accumulate: int):
    fitted, ours, plain = Scaled(), Scaled(), Net()
    loss = one_step_of_fit(fitted, accumulate_grad_batches=accumulate)
    assert one_step_of_ours(ours, accumulate_grad_batches=accumulate) == pytest.approx(loss, rel=1e-6)
    one_step_of_fit(plain, accumulate_grad_batches=accumulate)
    assert same(fitted, ours)
    assert not same(fitted, plain)


class Transferred(pl.LightningDataModule):
    """Data that are made in ``setup`` with the global generator, and changed on their way."""

    def setup(self, stage: str) -> None:
        self.scale = torch.rand(()) + 1
        self.loader = loader()

    def train_dataloader(self) -> Any:
        return self.loader

    def val_dataloader(self) -> Any:
        return loader(64)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 1, batch[1]]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device([batch[0] * 2, batch[1]], device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * self.scale, batch[1]]


def test_batches_take_the_way_of_a_data_module():
    seen, module = Losses(), Net()
    torch.manual_seed(5)
    trainer(seen, max_steps=1).fit(module, datamodule=Transferred())
    ours, data = Net(), Transferred()
    torch.manual_seed(5)
    known = from_trainer(trainer(), ours, datamodule=data)
    assert vars(data) == vars(Transferred())
    assert len(known["val_data"].dataset) == 64
    torch.manual_seed(5)
    torch.rand(())  # as drawn by setup
    assert step_with(known) == pytest.approx(seen.losses[0], rel=1e-6)


# The optimizer -----------------------------------------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Any], Any]] = {
    "one": lambda optimizer: optimizer,
    "list": lambda optimizer: [optimizer],
    "tuple": lambda optimizer: (optimizer,),
    "dict": lambda optimizer: {"optimizer": optimizer},
    "dict with a scheduler": lambda optimizer: {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3)},
    "dict with a configured scheduler": lambda optimizer: {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3), "interval": "step"},
    },
    "two lists": lambda optimizer: ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 3)]),
    "list of dicts": lambda optimizer: [{"optimizer": optimizer}],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_configure_optimizers_is_read(form: Callable[[Any], Any]):
    module = Net(form)
    optimizer = from_trainer(trainer(), module, loader())["optimizer"]
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["params"] == list(module.parameters())
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_a_scheduler_may_ask_the_trainer_for_its_steps():
    asked = []

    class Asking(Net):
        def configure_optimizers(self) -> Any:
            asked.append(self.trainer.estimated_stepping_batches)
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=asked[-1])]

    data = loader(shuffle=True, generator=torch.Generator().manual_seed(6))
    before = data.generator.get_state()
    assert from_trainer(trainer(max_epochs=3, accumulate_grad_batches=4), Asking(), data)["total_steps"] == 6
    assert asked == [6]
    assert torch.equal(data.generator.get_state(), before)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, 18),
        ({"max_epochs": None}, None),
        ({"max_epochs": -1}, None),
        ({"max_epochs": None, "max_steps": 7}, 7),
        ({"max_epochs": 3, "max_steps": 7}, 7),
        ({"max_epochs": 3, "limit_train_batches": 4}, 12),
        ({"max_epochs": 3, "limit_train_batches": 0.5, "accumulate_grad_batches": 2}, 6),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:`max_epochs` was not set")
def test_total_steps_are_those_that_fit_makes(options: dict[str, Any], steps: int | None):
    planned = trainer(**options)
    assert from_trainer(planned, Net(), loader())["total_steps"] == steps
    if steps is not None:
        planned.fit(Net(), loader())
        assert planned.global_step == steps


# Nothing left changed ----------------------------------------------------------------------------------------------------------------


def state_of(run: pl.Trainer) -> list[Any]:
    """Attributes of the trainer and of its parts, by identity."""
    holders = [run, run.state, run.strategy, run._data_connector, run._logger_connector, run.fit_loop, run.fit_loop.epoch_loop]
    return [(id(holder), [(name, id(value)) for name, value in vars(holder).items()]) for holder in holders]


def fit_after(prepare: Callable[[pl.Trainer, Net, Any], None]) -> tuple[Net, pl.Trainer, list[float]]:
    """A whole ``fit`` of two epochs with a shuffled loader, after something else."""
    seen = Losses()
    run, module, data = trainer(seen, accumulate_grad_batches=2), Net(), loader(shuffle=True)
    torch.manual_seed(7)
    prepare(run, module, data)
    run.fit(module, data, loader(32))
    return module, run, seen.losses


def find_first(run: pl.Trainer, module: Net, data: Any) -> None:
    before = state_of(run)
    known = from_trainer(run, module, data, loader(32), **FIND)
    assert state_of(run) == before
    found = lrfinder.find_lr(**known)
    assert found.total_steps == 6
    assert state_of(run) == before
    assert module._trainer is None
    assert not {"log", "log_dict"} & set(vars(module))


def test_fit_after_find_lr_equals_fit_without_it():
    module, run, losses = fit_after(find_first)
    untouched, other, expected = fit_after(lambda *_: None)
    assert losses == expected
    assert same(module, untouched)
    assert run.callback_metrics == other.callback_metrics
    assert set(run.callback_metrics) == {"loss", "loss_step", "loss_epoch", "twice", "val"}


def test_an_error_in_training_step_leaves_nothing_joined():
    class Failing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert self.trainer.training
            raise OSError("disk")

    run, module = trainer(), Failing()
    known = from_trainer(run, module, loader())
    before = state_of(run)
    with pytest.raises(OSError, match="disk"):
        known["loss_fn"](module, next(iter(loader())))
    assert state_of(run) == before
    assert module._trainer is None


def test_what_a_logger_is_told_while_finding_is_dropped():
    class Loud(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.logger.experiment.add_scalar("loss", 1.0, self.global_step)
            return super().training_step(batch, batch_idx)["loss"]

    class Counting(pl.loggers.logger.DummyLogger):
        calls = 0

        @property
        def experiment(self) -> Any:
            type(self).calls += 1
            return super().experiment

    run, module = trainer(logger=Counting()), Loud()
    loss = from_trainer(run, module, loader())["loss_fn"](module, next(iter(loader())))
    assert loss.requires_grad
    assert Counting.calls == 0
    assert isinstance(run.logger, Counting)


# The callback ------------------------------------------------------------------------------------------------------------------------


def test_a_callback_that_does_not_apply_changes_nothing_of_fit():
    def fitted(*callbacks: Callback) -> tuple[Net, list[float]]:
        seen, module = Losses(), Net(lambda optimizer: ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]))
        torch.manual_seed(9)
        trainer(*callbacks, seen, accumulate_grad_batches=2, gradient_clip_val=1.0).fit(module, loader(shuffle=True), loader(32))
        return module, seen.losses

    finder = LRFinderCallback(apply=False, **FIND)
    module, losses = fitted(finder)
    untouched, expected = fitted()
    assert losses == expected
    assert same(module, untouched)
    assert finder.suggestion.total_steps == 6
    assert finder.curve is finder.suggestion.curve


def test_a_callback_trains_on_with_what_it_found():
    finder, module = LRFinderCallback(**FIND), Net()
    run = trainer(finder)
    run.fit(module, loader())
    assert run.optimizers[0].param_groups[0]["lr"] == finder.suggestion.lr != 0.05
    assert run.global_step == 12


def test_a_callback_finds_what_from_trainer_finds():
    finder, module = LRFinderCallback(apply=False, **FIND), Net()
    outside = lrfinder.find_lr(**from_trainer(trainer(), Net(), loader(), **FIND))
    trainer(finder).fit(module, loader())
    assert finder.suggestion.lr == outside.lr
    assert finder.curve.losses.tolist() == outside.curve.losses.tolist()


def test_a_callback_does_not_apply_what_a_scheduler_would_undo():
    module = Net(lambda optimizer: ([optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]))
    with pytest.raises(ValueError, match="attaches CosineAnnealingLR, which sets the learning rate itself and would undo the suggestion"):
        trainer(LRFinderCallback(**FIND)).fit(module, loader())
    assert same(module, Net())


def test_a_module_made_inside_fit_is_found_by_the_callback_only():
    class Late(Net):
        def configure_model(self) -> None:
            if isinstance(self.body, nn.Sequential) and len(self.body) == 4:
                self.body.append(nn.Linear(3, 3))

    with pytest.raises(ValueError, match="has a configure_model hook, whose work is there inside fit only; use LRFinderCallback"):
        from_trainer(trainer(), Late(), loader())
    finder = LRFinderCallback(measure="range_test", apply=False, num_iter=20, progress=False)
    trainer(finder).fit(Late(), loader())
    assert finder.curve.model == "Late"
    assert finder.curve.clean >= 10


def test_a_module_in_another_precision_is_found_by_the_callback_only():
    run = trainer(precision="bf16-true")
    with pytest.raises(ValueError, match="precision='bf16-true' converts the module inside fit"):
        from_trainer(run, Net(), loader())
    finder = LRFinderCallback(apply=False, **FIND)
    trainer(finder, precision="64-true").fit(Net(), loader())
    assert finder.suggestion.lr > 0


# Manual optimization -----------------------------------------------------------------------------------------------------------------


def sweep(module: pl.LightningModule, run: Any = None, report: str | None = None, **settings: Any) -> Any:
    known = from_trainer(trainer() if run is None else run, module, loader(), measure="range_test", report=report)
    return lrfinder.range_test(**known, progress=False, **settings)


class Gan(pl.LightningModule):
    """Two optimizers and schedulers, stepped by ``training_step`` itself, which returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.generator, self.critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.seen: list[tuple[int, float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        opt_g, opt_d = self.optimizers()
        self.seen = [*self.seen, (batch_idx, opt_g.param_groups[0]["lr"], opt_d.param_groups[0]["lr"])]
        real = batch[0]
        fake = self.generator(torch.randn(len(real), 4))
        loss_d = softplus(-self.critic(real)).mean() + softplus(self.critic(fake.detach())).mean()
        opt_d.zero_grad()
        self.manual_backward(loss_d)
        opt_d.step()
        loss_g = softplus(-self.critic(fake)).mean()
        opt_g.zero_grad()
        self.manual_backward(loss_g)
        opt_g.step()
        for scheduler in self.lr_schedulers():
            scheduler.step()
        self.log_dict({"loss_d": loss_d, "loss_g": loss_g}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=1e-4)
        opt_d = torch.optim.Adam(self.critic.parameters(), lr=2e-4)
        return [opt_g, opt_d], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) for optimizer in (opt_g, opt_d)]


def test_a_gan_is_swept_by_its_own_steps_and_put_back():
    run, module = trainer(), Gan()
    before = weights(module), state_of(run)
    curve = sweep(module, run, "loss_d", start_lr=1e-5, end_lr=1.0, num_iter=40)
    assert curve.optimizer == "Adam and Adam"
    assert len(curve.losses) > 20
    assert curve.losses[0] != curve.losses[6]  # the same batch, later
    assert all(map(torch.equal, weights(module), before[0]))
    assert state_of(run) == before[1]
    assert module.seen == []


def test_the_lrs_of_a_gan_are_the_sweeps_whatever_its_schedulers_do():
    module, seen = Gan(), []

    class Telling(Gan):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)
            seen.append((batch_idx, *(optimizer.param_groups[0]["lr"] for optimizer in self.optimizers())))

    curve = sweep(Telling(), report="loss_d", num_iter=12)
    assert [index for index, _, _ in seen] == list(range(12))
    assert [lr for _, _, lr in seen] == pytest.approx(curve.lrs.tolist())
    assert [lr for _, lr, _ in seen] == pytest.approx((curve.lrs / 2).tolist())
    assert module.seen == []


def test_a_first_step_of_a_gan_is_that_of_fit():
    losses, fitted = [], Gan()

    class Telling(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            losses.append(float(trainer.callback_metrics["loss_d"]))

    torch.manual_seed(0)
    trainer(Telling(), max_steps=2, max_epochs=1).fit(fitted, loader())  # two optimizers: two steps a batch
    curve = sweep(Gan(), report="loss_d", num_iter=10, seed=0)
    assert curve.losses[0] == losses[0]


def test_a_callback_sweeps_a_gan_inside_fit():
    def fitted(*callbacks: Callback) -> tuple[Gan, pl.Trainer]:
        module, run = Gan(), trainer(*callbacks)
        torch.manual_seed(4)
        run.fit(module, loader(shuffle=True))
        return module, run

    finder = LRFinderCallback(measure="range_test", apply=False, report="loss_g", num_iter=30, progress=False)
    (module, run), (untouched, _) = fitted(finder), fitted()
    assert same(module, untouched)
    assert module.seen == untouched.seen
    assert [config.scheduler.last_epoch for config in run.lr_scheduler_configs] == [12, 12]  # those of the sweep went nowhere
    assert len(finder.curve.losses) >= 10


def test_the_lr_of_a_gan_is_found_and_applied_to_both_optimizers():
    class Still(Gan):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.lr_schedulers = list
            super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            return super().configure_optimizers()[0]

    finder, module = LRFinderCallback(report="loss_d", budget="quick", progress=False), Still()
    run = trainer(finder)
    run.fit(module, loader())
    assert finder.suggestion.limit is None
    assert [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers] == [finder.suggestion.lr / 2, finder.suggestion.lr]


class Manual(Net):
    """One optimizer, stepped by ``training_step``, which returns the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        loss = super().training_step(batch, batch_idx)["loss"]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


def test_a_manual_module_with_one_optimizer_is_found_by_its_own_steps():
    run, module = trainer(), Manual()
    found = lrfinder.find_lr(**from_trainer(run, module, loader(), budget="quick", progress=False))
    assert found.lr > 0
    assert found.limit is None
    assert same(module, Manual())
    finder = LRFinderCallback(budget="quick", progress=False)
    inside = trainer(finder)
    inside.fit(module, loader())
    assert finder.suggestion.lr == found.lr == inside.optimizers[0].param_groups[0]["lr"]


# Data --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, "min_size"])
def test_several_loaders_are_combined_as_fit_combines_them(mode: Any):
    batches = []

    class Two(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            batches.append([len(batch["a"][0]), len(batch["b"][0])])
            return cross_entropy(self.body(batch["a"][0]), batch["a"][1]) + self.body(batch["b"][0]).square().mean()

    data: Any = {"a": loader(40), "b": loader(96)}
    data = data if mode is None else CombinedLoader(data, mode)
    known = from_trainer(trainer(max_epochs=1), Two(), data)
    for batch in known["data"]:
        known["loss_fn"](known["model"], batch)
    ours, batches[:] = list(batches), []
    trainer(max_epochs=1).fit(Two(), data)
    assert ours == batches
    assert known["total_steps"] == len(batches) == (6 if mode is None else 3)


# What is refused ---------------------------------------------------------------------------------------------------------------------


class Nothing(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None


class Lossless(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)
        return {"accuracy": 1.0}


class Untrained(Net):
    def configure_optimizers(self) -> Any:
        return None


class Reading(Net):
    def training_step(self, dataloader_iter: Any) -> Any: ...


def prepare(module: Any, run: Any = None, **options: Any) -> Any:
    return from_trainer(trainer(**options) if run is None else run, module, loader())


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a module": (lambda: prepare(nn.Linear(1, 1)), "module is a torch.Linear, not a lightning.pytorch"),
    "a trainer": (lambda: prepare(Net(), "run"), "trainer is a builtins.str, not a lightning.pytorch.Trainer"),
    "several processes": (lambda: prepare(Net(), devices=2, strategy="ddp"), "strategy is DDPStrategy; find .* one device"),
    "overfitting": (lambda: prepare(Net(), overfit_batches=2), "overfit_batches=2 trains on a few batches only"),
    "another device": (lambda: prepare(Net().to("meta")), "module is on meta, but trains on cpu; move it first"),
    "an iterator": (lambda: prepare(Reading()), "training_step takes dataloader_iter and reads batches itself"),
    "no optimizer": (lambda: prepare(Untrained()), "configure_optimizers returned no optimizer, so there is no learning rate"),
    "no loss": (lambda: lrfinder.find_lr(**prepare(Nothing())), "training_step returned None; for a learning rate"),
    "an unknown name": (lambda: sweep(Gan(), report="d"), "report='d' was not logged .*, which logs loss_d, loss_g;"),
    "nothing to report": (lambda: sweep(Gan()), "returned None and logs loss_d, loss_g; return the loss to record"),
    "another output": (lambda: sweep(Lossless()), r"a dict without a loss \(it has accuracy\) and logs loss, twice;"),
    "a measure": (lambda: LRFinderCallback(measure="sweep"), "measure='sweep' is unknown; choose 'find_lr' or 'range_test'"),
    "a curve to apply": (lambda: LRFinderCallback(measure="range_test"), "gives a curve, not one LR to apply; pass apply=False"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_mirrored_is_refused_in_a_sentence(call: Callable[[], Any], message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
