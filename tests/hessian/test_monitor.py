"""The monitor: its sharpness against dense matrices, its sentences, its cost, and a training that cannot tell it was there."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Quadratic, assert_untouched, dense_hessian, fingerprint, loss_itself, symmetric
from subjects import OPTIMIZERS, make_subject
from test_writers import Run
from torch import nn
from trainings import forever

import lrfinder
from hessian import CurvatureDoubt, CurvatureError, Problem, SharpnessMonitor, SharpnessReading, SharpnessRecord
from hessian.errors import BadArgument, BadType
from hessian.following import Follower
from hessian.limits import limits_of
from hessian.operators.base import DenseOperator

SPECTRUM = [-3.0, 0.5, 1.0, 2.0, 8.0, 20.0]


def quadratic_training(lr: float = 0.01, every: int = 2, **settings: Any) -> tuple[Quadratic, Any, SharpnessMonitor]:
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **settings)
    return model, optimizer, SharpnessMonitor(model, optimizer, loss_fn=loss_itself, every=every)


def train(model: nn.Module, optimizer: Any, monitor: SharpnessMonitor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(None).backward()
        optimizer.step()
        monitor.step(None)


class Regression:
    """A tanh net on sixty points, all in one batch, float64: small enough for its dense Hessian."""

    def __init__(self, optimizer: Any, **settings: Any) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
            inputs = torch.randn(60, 4, dtype=torch.float64)
        self.batch = (inputs, torch.sin(2 * inputs.sum(1, keepdim=True)))
        self.optimizer = optimizer(self.model.parameters())
        self.monitor = SharpnessMonitor(self.model, self.optimizer, nn.MSELoss(), **settings)

    def train(self, steps: int) -> list[SharpnessReading]:
        """Readings of this many steps."""
        read = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(self.batch[0]), self.batch[1]).backward()
            self.optimizer.step()
            read.append(self.monitor.step(self.batch))
        return [reading for reading in read if reading is not None]

    def sharpness(self) -> float:
        """By the whole matrix, scaled by hand for Adam."""
        problem = Problem(self.model, self.optimizer, [self.batch], nn.MSELoss())
        hessian = dense_hessian(problem, self.batch)
        if isinstance(self.optimizer, torch.optim.Adam):
            states = [self.optimizer.state[parameter] for parameter in self.model.parameters()]
            roots = [(state["exp_avg_sq"] / (1 - 0.999 ** state["step"])).sqrt() + 1e-8 for state in states]
            scale = torch.cat([root.reshape(-1) for root in roots]).rsqrt()
            hessian = scale[:, None] * hessian * scale
        return float(torch.linalg.eigvalsh(hessian)[-1])


def descent(lr: float) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


# The numbers ------------------------------------------------------------------------------------------------------------------------


def test_on_a_quadratic_every_reading_is_right():
    model, optimizer, monitor = quadratic_training(momentum=0.9)
    train(model, optimizer, monitor, 9)
    assert [reading.step for reading in monitor.readings] == [2, 4, 6, 8]
    for reading in monitor.readings:
        assert 20 - reading.error <= reading.sharpness <= 20 + 1e-6
        assert 0 <= reading.error <= 0.08 * reading.sharpness
        assert reading.sharpness == pytest.approx(20.0, rel=0.02)
        assert reading.limit_lr == pytest.approx(3.8 / reading.sharpness)
        assert reading.ratio == pytest.approx(0.01 / reading.limit_lr)
        assert reading.lr == 0.01


def test_at_the_edge_of_stability_it_agrees_with_the_dense_hessian():
    """Full-batch descent sharpens until ``sharpness = 2 / lr`` and stays there (Cohen et al. 2021)."""
    training = Regression(descent(0.4), every=20)
    ratios = []
    for _ in range(30):
        (reading,) = training.train(20)
        assert reading.sharpness == pytest.approx(training.sharpness(), rel=0.03)
        assert reading.limit_lr == pytest.approx(2 / reading.sharpness)
        ratios.append(reading.ratio)
    assert ratios[0] < 0.9
    assert ratios[-10:] == pytest.approx([1.0] * 10, abs=0.2)  # catapults
    assert np.median(ratios[-10:]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("lr", [0.1, 0.2, 0.4])
def test_a_training_that_moves_slowly_costs_three_products_a_reading(lr):
    readings = Regression(descent(lr), every=25).train(500)
    assert len(readings) == 20
    assert all(1 <= reading.hvps <= 3 for reading in readings[1:])
    assert readings[0].hvps > 3


def test_adams_sharpness_is_preconditioned_by_its_present_state():
    training = Regression(lambda parameters: torch.optim.Adam(parameters, lr=3e-3), every=20)
    for _ in range(10):
        (reading,) = training.train(20)
        assert reading.sharpness == pytest.approx(training.sharpness(), rel=0.02)
        assert reading.limit_lr == pytest.approx(38 / reading.sharpness)
        assert reading.hvps <= (20 if reading.step == 20 else 5)


def test_a_direction_that_overtakes_the_followed_one_is_seen():
    """Where the first direction flattens and another sharpens, the training's gradient comes to lie in the other."""
    model, _, monitor = quadratic_training(every=1)
    values, vectors = torch.linalg.eigh(model.hessian)
    weights = torch.cat([model.first.detach().reshape(-1), model.second.detach()])
    assert abs(weights @ vectors[:, 4]) > 0.01  # it has a gradient, as a direction that has become unstable must
    monitor.step(None)
    swapped = values.clone()
    swapped[4], swapped[5] = 30.0, 1.0
    model.hessian = (vectors * swapped) @ vectors.T
    assert monitor.step(None).sharpness == pytest.approx(30.0, rel=1e-3)


@pytest.mark.parametrize("lr", [0.05, 0.2])
def test_far_from_the_limit_the_stated_error_covers_the_dense_hessian(lr):
    training = Regression(descent(lr), every=10)
    for _ in range(30):
        (reading,) = training.train(10)
        true = training.sharpness()
        assert true - reading.error <= reading.sharpness <= true * (1 + 1e-9)
        assert reading.sharpness == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.8)], ids=["steady", "apart"])
def test_near_the_limit_it_looks_closer_unless_the_readings_are_far_apart_anyway(scales):
    """Each Hessian is a new one of the same spectrum, times the scale."""
    spectrum = [*np.linspace(-1, 1, 40), 15.0, 20.0]
    model = Quadratic(symmetric(spectrum))
    monitor = SharpnessMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn=loss_itself, every=1)  # the limit is 2 / 20
    shares = []
    for seed in range(16):
        model.hessian = symmetric(spectrum, seed=seed) * scales[seed % len(scales)]
        reading = monitor.step(None)
        shares.append(reading.error / reading.sharpness)
    assert max(shares) <= 0.08
    assert (max(shares[2:]) <= 0.02) == (scales == (1.0,))


def test_the_gradient_gets_the_share_in_the_start_that_it_had_in_what_was_found():
    """With a new Hessian each time whose top is the gradient, the direction before is worth nothing."""
    model, _, monitor = quadratic_training(every=1)
    hvps = []
    for seed in range(12):
        model.hessian = symmetric(SPECTRUM, seed=seed)
        top = torch.linalg.eigh(model.hessian)[1][:, -1]
        with torch.no_grad():
            model.first.copy_(top[:2].reshape(model.first.shape))
            model.second.copy_(top[2:])
        reading = monitor.step(None)
        assert reading.sharpness == pytest.approx(20.0, abs=max(reading.error, 1e-6))
        hvps.append(reading.hvps)
    assert max(hvps[6:]) <= 3
    assert sum(hvps[6:]) < sum(hvps[1:6]) * 6 / 5


def test_group_lrs_are_those_of_the_moment():
    """A scheduler may change their ratio: with the second group at rest only the first one's curvature counts."""
    model = Quadratic(torch.diag(torch.tensor(SPECTRUM, dtype=torch.float64)))
    optimizer = torch.optim.SGD([{"params": [model.first]}, {"params": [model.second]}], lr=0.01)
    monitor = SharpnessMonitor(model, optimizer, loss_fn=loss_itself, every=1)
    assert monitor.step(None).sharpness == pytest.approx(20.0)
    optimizer.param_groups[1]["lr"] = 0.0
    assert monitor.step(None).sharpness == pytest.approx(0.5)
    optimizer.param_groups[0]["lr"] = 0.0
    assert monitor.step(None).sharpness == pytest.approx(20.0, rel=0.02)  # all at rest: by the LRs at first, which were equal


def test_layers_may_be_frozen_and_thawed_on_the_way():
    model, _, monitor = quadratic_training(every=1)
    monitor.step(None)
    model.second.requires_grad_(False)
    block = torch.linalg.eigvalsh(model.hessian[:2, :2])[-1]
    assert monitor.step(None).sharpness == pytest.approx(float(block))
    model.second.requires_grad_(True)
    assert monitor.step(None).sharpness == pytest.approx(20.0, rel=1e-3)


# The sentences ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 0.999, 1.001, 3.0])
def test_it_warns_exactly_above_the_limit(factor, caplog):
    _, optimizer, monitor = quadratic_training()
    optimizer.param_groups[0]["lr"] = lr = 0.1 * factor  # the limit is 2 / 20
    with caplog.at_level(logging.WARNING, logger="hessian"):
        monitor.step(None)
        reading = monitor.step(None)
    assert (f"Step 2: the lr {lr:.3g} is above its limit 0.1 (2 / sharpness, sharpness 20)" in reading.advice) == (factor > 1)
    assert [record.message for record in caplog.records] == ([reading.advice] if factor > 1 else [])
    assert reading.advice.count(".\n") == 0


def test_at_the_edge_of_stability_every_reading_above_says_so_and_the_log_only_when_it_begins(caplog):
    training = Regression(descent(0.4), every=10)
    with caplog.at_level(logging.WARNING, logger="hessian"):
        readings = training.train(600)
    above = [reading.lr > reading.limit_lr for reading in readings]
    assert [bool(reading.advice) for reading in readings] == above
    begins = sum(now and not before for before, now in zip([False, *above], above, strict=False))
    assert len(caplog.records) == begins >= 1
    assert not all(above)


def test_it_says_when_the_lr_could_be_raised():
    model, _, monitor = quadratic_training(lr=0.005, every=1)
    hessian = model.hessian
    readings = []
    for factor in (1.0, 0.6, 0.3, 0.1):  # limits 0.1, 0.17, 0.33, 1
        model.hessian = hessian * factor
        readings.append(monitor.step(None))
    assert [bool(reading.advice) for reading in readings] == [False, False, True, True]
    assert readings[-1].advice == (
        "Step 4: the sharpness has fallen from 20 to 2, and its limit 1 is 200 times the largest lr; it could be raised."
    )


def test_it_does_not_advise_to_raise_what_the_schedule_lowers():
    model, optimizer, monitor = quadratic_training(lr=0.05, every=1)
    hessian = model.hessian
    monitor.step(None)
    model.hessian = hessian * 0.3
    optimizer.param_groups[0]["lr"] = 1e-5  # as at the end of a cosine: the limit is 30,000 times that, but 7 times the peak
    assert monitor.step(None).advice == ""
    optimizer.param_groups[0]["max_lr"] = 10.0  # as at the start of 1cycle
    model.hessian = hessian * 0.01
    assert monitor.step(None).advice == ""


def test_a_loss_that_blew_up_does_not_stop_the_training(caplog):
    training = Regression(descent(0.1), every=1)
    training.train(2)
    with torch.no_grad():
        training.model[0].weight.fill_(math.nan)
    with caplog.at_level(logging.WARNING, logger="hessian"):
        readings = training.train(2)
    assert all(math.isnan(value) for reading in readings for value in (reading.sharpness, reading.limit_lr, reading.ratio))
    assert readings[0].advice.startswith("Step 3: Hessian-vector product 1 is not finite")
    assert [record.message for record in caplog.records] == [readings[0].advice]  # once


def test_no_upward_curvature_is_no_limit():
    model = Quadratic(symmetric([-3.0, -1.0, -0.5]))
    monitor = SharpnessMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn=loss_itself, every=1)
    reading = monitor.step(None)
    assert (reading.limit_lr, reading.ratio, reading.advice) == (math.inf, 0.0, "")
    assert reading.sharpness == pytest.approx(-0.5)


def test_a_young_adaptive_optimizer_is_doubted():
    training = Regression(lambda parameters: torch.optim.Adam(parameters, lr=1e-3), every=1)
    readings = training.train(20)
    assert [CurvatureDoubt.YOUNG in reading.doubts for reading in readings] == [True] * 15 + [False] * 5
    fresh = Regression(lambda parameters: torch.optim.Adam(parameters, lr=1e-3), every=1)
    reading = fresh.monitor.step(fresh.batch)  # before the first step it knows nothing, and nothing is said
    assert (reading.sharpness, reading.limit_lr, reading.advice) == (0.0, math.inf, "")


class Signed(torch.optim.SGD):
    """No limit is known for it."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad.sign(), alpha=-group["lr"])


def test_an_optimizer_without_a_limit_is_refused_at_once_and_can_be_followed_along_its_updates():
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = Signed(model.parameters(), lr=1e-3)
    with pytest.raises(CurvatureError, match=r"no linear stability limit is known for Signed .*; pass along='update' to follow"):
        SharpnessMonitor(model, optimizer, loss_fn=loss_itself)
    monitor = SharpnessMonitor(model, optimizer, loss_fn=loss_itself, every=1, along="update")
    before = fingerprint(model, optimizer)
    reading = monitor.step(None)
    assert_untouched(before, fingerprint(model, optimizer))
    weights = torch.cat([model.first.detach().reshape(-1), model.second.detach()])
    gradient = model.hessian @ weights
    step = -gradient.sign()
    assert reading.limit_lr == pytest.approx(float(-2 * (gradient @ step) / (step @ model.hessian @ step)))
    assert reading.hvps == 1
    assert limits_of(torch.optim.SGD(model.parameters(), lr=0.1))


class Opaque(torch.autograd.Function):
    """A square without a second derivative."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(value)
        return value**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * upstream


def test_without_a_second_derivative_gradients_are_differenced():
    model = nn.Linear(3, 1, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = SharpnessMonitor(model, optimizer, loss_fn=lambda model, batch: Opaque.apply(model(batch)).mean(), every=1)
    batch = torch.eye(3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])
    for _ in range(2):
        reading = monitor.step(batch)
        assert reading.sharpness == pytest.approx(2 * 9 / 3, rel=1e-3)  # of the mean of (w_i x_i)^2
        assert CurvatureDoubt.FINITE_DIFFERENCE in reading.doubts


# Harmless -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_with_it_are_ten_steps_without(name):
    """Dropout, batch norm, buffers, counters, gradients left from before, schedulers, generators; called between backward and step."""
    kind = OPTIMIZERS[name]
    with_it, without = make_subject(kind), make_subject(kind)

    def run(subject: Any, monitored: bool) -> str:
        monitor = None
        if monitored:
            monitor = SharpnessMonitor(subject.model, subject.optimizer, subject.wire.criterion, every=2, along=kind.along)  # type: ignore[arg-type]
        source = forever(subject.loader)
        for _ in range(10):
            batch = next(source)
            subject.optimizer.zero_grad()
            subject.wire.criterion(subject.model(batch[0]), batch[1]).backward()
            if monitor is not None:
                before = fingerprint(subject.model, subject.optimizer)
                monitor.step(batch)
                assert_untouched(before, fingerprint(subject.model, subject.optimizer))
            subject.optimizer.step()
            if subject.scheduler is not None:
                subject.scheduler.step()
        assert monitor is None or len(monitor.readings) == 5
        return subject.ten_steps()

    state = torch.random.get_rng_state(), np.random.get_state()
    first = run(without, monitored=False)
    with_it = make_subject(kind)  # the generators start anew
    second = run(with_it, monitored=True)
    torch.random.set_rng_state(state[0])
    np.random.set_state(state[1])
    assert first == second


def test_an_error_of_the_loss_comes_out_and_leaves_no_trace():
    training = Regression(descent(0.1), every=1)
    training.train(1)
    before = fingerprint(training.model, training.optimizer)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        training.monitor.step((training.batch[0][:, :2], training.batch[1]))
    assert_untouched(before, fingerprint(training.model, training.optimizer))


def test_it_measures_under_no_grad_and_in_the_mode_the_model_is_in():
    training = Regression(descent(0.1), every=1)
    training.model.eval()
    with torch.no_grad():
        reading = training.monitor.step(training.batch)
    assert reading.sharpness == pytest.approx(training.sharpness(), rel=0.01)
    assert not training.model.training


# Where it goes --------------------------------------------------------------------------------------------------------------------------


class TensorBoard:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, value: float, global_step: int) -> None:
        self.scalars.append((tag, value, global_step))


def test_tensorboard_and_wandb_get_every_later_reading_over_its_own_step():
    model, optimizer, monitor = quadratic_training()
    train(model, optimizer, monitor, 2)
    board, run = TensorBoard(), Run()
    monitor.log_to(board)
    monitor.log_to(run)
    train(model, optimizer, monitor, 3)
    (reading,) = monitor.readings[1:]
    values = {"sharpness": reading.sharpness, "lr": reading.lr, "limit_lr": reading.limit_lr, "ratio": reading.ratio}
    assert board.scalars == [(f"sharpness/{name}", value, 4) for name, value in values.items()]
    assert run.axes == {"sharpness/step": None, "sharpness/*": "sharpness/step"}
    assert run.logged == [{"sharpness/step": 4, **{f"sharpness/{name}": value for name, value in values.items()}}]


def test_all_readings_are_saved_and_read_back(tmp_path):
    training = Regression(descent(0.2), every=20)
    readings = training.train(200)
    read = lrfinder.load(training.monitor.save(tmp_path / "sharpness.json"))
    assert read == training.monitor.record
    assert isinstance(read, SharpnessRecord)
    assert list(read.readings) == readings
    table = training.monitor.save(tmp_path / "sharpness.csv").read_text().splitlines()
    assert table[0] == "step,lr,sharpness,error,limit_lr,ratio,hvps"
    assert len(table) == 11
    assert str(read).startswith("10 readings of the sharpness under SGD")
    assert f"step {readings[0].step}: lr 0.2 is" in str(readings[0])
    assert f"(sharpness {readings[1].sharpness:.3g} +- {readings[1].error:.1g})" in str(readings[1])


def test_the_picture_has_the_lr_and_its_limit(tmp_path):
    training = Regression(descent(0.2), every=20)
    assert training.monitor.plot().axes  # before the first reading
    readings = training.train(400)
    figure = training.monitor.plot(tmp_path / "sharpness.png")
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["lr"].get_ydata().tolist() == [0.2] * 20
    assert lines["limit of the curvature"].get_ydata().tolist() == [reading.limit_lr for reading in readings]
    assert lines["lr"].get_xdata().tolist() == [reading.step for reading in readings]
    assert (tmp_path / "sharpness.png").read_bytes().startswith(b"\x89PNG")


# Refusals -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"every": 0}, BadArgument, "every=0 is too small; pass at least 1"),
        ({"seed": -1}, BadArgument, "seed=-1 is too small; pass at least 0"),
        ({"along": "gradient"}, BadArgument, "along='gradient' is unknown; choose 'hessian' or 'update'"),
        ({"method": "guess"}, BadArgument, "method='guess' is unknown; choose 'auto'"),
        ({"keep": 3}, BadType, "keep is a int, not a list; pass keep="),
        ({"snapshot": "disk"}, BadArgument, "snapshot='disk' is unknown; choose 'device' or 'cpu'"),
        ({"optimizer": None}, BadType, "optimizer is None"),
        ({"model": 3}, BadType, "model is a int, not a torch.nn.Module; pass the module"),
        ({"criterion": nn.MSELoss()}, BadArgument, "criterion and loss_fn are both given; pass one"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_refused_at_once(changes, error, sentence):
    model = Quadratic(symmetric(SPECTRUM))
    arguments = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "loss_fn": loss_itself}
    with pytest.raises(error) as caught:
        SharpnessMonitor(**{**arguments, **changes})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_writer_that_cannot_write_is_refused():
    with pytest.raises(BadType, match="writer is a list without add_scalar, log and log_metrics; pass a TensorBoard SummaryWriter"):
        quadratic_training()[2].log_to([])


def test_where_weights_came_or_went_on_another_rank_all_start_anew():
    operator, follower = DenseOperator(torch.diag(torch.linspace(1.0, 20.0, 40, dtype=torch.float64))), Follower(0)
    first, warm = (follower.top(operator, 0.02, bool).hvps for _ in range(2))
    assert warm < first == follower.top(operator, 0.02, lambda same: False).hvps
