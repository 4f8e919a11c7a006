"""A step is made as the user's training makes it: accumulation, lower precision, clipping, a scaler, or the user's own step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from oracles import assert_untouched, fingerprint
from torch import nn
from trainings import ADAM, SGD, Training, batches, forever, make, seed_by_hand

from hessian import HessianOperator, Problem, stable_lr
from hessian.doubts import CurvatureDoubt
from hessian.nested import Window
from lrfinder import LRSweep, find_lr, range_test

RANGE = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 24, "progress": False}
BRIEF = {"budget": 60, "total_steps": 40, "progress": False}
SEARCH = {"budget": 250, "total_steps": 40, "progress": False}


def watched(function: Callable[..., Any], training: Training, **settings: Any) -> Any:
    """A call, and the check that it left no trace."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        return function(**{**training.arguments, **settings})
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


def by_hand(
    training: Training, *, accumulate: int = 1, context: Any = nullcontext, before_step: Callable[[], Any] = lambda: None
) -> list[float]:
    """The losses of a sweep over ``RANGE`` in an ordinary loop with accumulation, a context and something between gradient and step."""
    seed_by_hand(0, training.data)
    losses, source = list[float](), in_windows(training.data, accumulate)
    for lr, window in zip(np.geomspace(1e-4, 1.0, 24), source, strict=False):
        for group in training.optimizer.param_groups:
            group["lr"] = float(lr)
        training.optimizer.zero_grad()
        total = 0.0
        for batch in window:
            with context():
                loss = training.loss(batch)
            (loss / accumulate if accumulate > 1 else loss).backward()
            total += loss.item() / len(window)
        before_step()
        training.optimizer.step()
        losses.append(total)
    return losses


def in_windows(data: Any, size: int) -> Iterator[list[Any]]:
    while True:
        source = iter(data)
        while window := list(islice(source, size)):
            yield window


# Accumulation -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 4, 5, 20])
def test_accumulation_is_that_of_a_loop_written_by_hand(accumulate: int):
    """Twelve batches a pass: with five the last window of a pass has two, with twenty all have twelve."""
    curve = watched(range_test, make(), accumulate=accumulate, **RANGE)
    losses = by_hand(make(), accumulate=accumulate)
    assert curve.losses.tolist() == losses[: len(curve.losses)]
    assert len(curve.losses) > 15
    assert curve.batch_size == 8 * min(accumulate, 12)


def test_an_accumulated_sweep_says_so():
    curve = watched(range_test, make(), accumulate=4, clip_norm=1.0, **RANGE)
    assert curve.recipe == "4 micro-batches a step, clip_norm 1"
    assert "batch 32 (4 micro-batches a step, clip_norm 1), seed 0" in " ".join(str(curve).split())


def as_they_come(training: Training) -> Any:
    return training.data


def as_a_list(training: Training) -> Any:
    return batches()


def one_batch(training: Training) -> Any:
    return batches(96)


def as_a_function(training: Training) -> Any:
    source = forever(batches())
    return lambda: next(source)


@pytest.mark.parametrize("data", [as_they_come, as_a_list, one_batch, as_a_function])
def test_a_search_accumulates_over_any_data(data: Callable[[Training], Any]):
    training = make(ADAM)
    found = watched(find_lr, training, data=data(training), accumulate=3, **SEARCH)
    assert found.curve.recipe == "3 micro-batches a step"
    assert found.confirmation is not None
    assert found.confirmation.passed
    assert found.limit is not None


def test_the_curvature_of_a_window_is_that_of_all_its_samples():
    """Micro-batches of one size: the mean of their losses is the loss of the whole batch. To rounding in float64."""
    model, (inputs, target) = small_net(), batches(32)[0]
    criterion, parts = nn.CrossEntropyLoss(), list(zip(inputs.double().split(8), target.split(8), strict=True))
    whole = HessianOperator(Problem(model, None, [(inputs.double(), target)], criterion), [(inputs.double(), target)])
    window = HessianOperator(Problem(model, None, parts, criterion, accumulate=4), [Window(parts)])
    vector = torch.randn(whole.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(window @ vector, whole @ vector, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(window.start_hint(), whole.start_hint(), rtol=1e-12, atol=1e-14)


def small_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


@pytest.mark.parametrize("method", ["autograd", "finite_difference"])
@pytest.mark.parametrize("make_optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_the_limit_of_an_accumulating_training_is_that_of_large_batches(make_optimizer: Any, method: Any):
    def limit(size: int, accumulate: int) -> Any:
        model = small_net()
        data = [(inputs.double(), target) for inputs, target in batches(size)]
        return stable_lr(
            model, make_optimizer(model.parameters()), data, nn.CrossEntropyLoss(), accumulate=accumulate, num_batches=3, method=method
        )

    large, small = limit(32, 1), limit(8, 4)
    assert small.sharpness == pytest.approx(large.sharpness, rel=1e-3 if method == "finite_difference" else 1e-9)
    assert small.batch_size == large.batch_size == 32
    assert small.num_batches == large.num_batches == 3


def test_the_batch_noise_of_a_window_is_that_of_one_micro_batch_over_their_number():
    """Known: with curvature a_i of micro-batch i along the only direction, ``1 / lr = a / 2 + variance(a_i) / accumulate / 2a``."""
    model, data = nn.Linear(1, 1, bias=False), [(torch.full((1, 1), scale), torch.zeros(1, 1)) for scale in (1.0, 2.0, 2.0, 3.0)]
    half_square = lambda output, target: (output**2).mean() / 2  # noqa: E731 - its curvature is the square of the input
    curvatures = np.array([1.0, 4.0, 4.0, 9.0])
    limit = stable_lr(
        model.double(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        [(x.double(), y) for x, y in data],
        half_square,
        accumulate=2,
        num_batches=2,
    )
    mean, variance = curvatures.mean(), curvatures.var(ddof=1) / 2
    assert limit.noise_lr == pytest.approx(1 / (mean / 2 + variance / (2 * mean)), rel=1e-9)


# Lower precision ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [torch.bfloat16, partial(torch.autocast, "cpu", dtype=torch.bfloat16)], ids=["dtype", "factory"])
def test_autocast_is_that_of_a_loop_written_by_hand(autocast: Any):
    curve = watched(range_test, make(), autocast=autocast, **RANGE)
    losses = by_hand(make(), context=partial(torch.autocast, "cpu", dtype=torch.bfloat16))
    assert curve.losses.tolist() == losses[: len(curve.losses)]
    assert curve.losses.tolist() != watched(range_test, make(), **RANGE).losses.tolist()


def test_curvature_is_measured_in_the_precision_of_the_weights_and_says_so():
    plain, lower = (watched(stable_lr, make(), autocast=autocast) for autocast in (None, torch.bfloat16))
    assert lower.sharpness == plain.sharpness
    assert CurvatureDoubt.AUTOCAST in lower.doubts
    assert CurvatureDoubt.AUTOCAST not in plain.doubts


def test_a_search_runs_in_lower_precision():
    seen = list[bool]()
    training = make()
    training.model.register_forward_hook(lambda *args: seen.append(torch.is_autocast_enabled("cpu")))
    found = watched(find_lr, training, autocast=torch.bfloat16, **SEARCH)
    assert found.confirmation is not None
    assert any(seen)
    assert not all(seen)  # curvature


# The scaler ---------------------------------------------------------------------------------------------------------------------


def scaler_of(scale: float, **settings: Any) -> Any:
    return torch.amp.GradScaler("cpu", init_scale=scale, **settings)


def test_a_scale_changes_nothing_but_what_overflows():
    """Scaling by a power of two is exact, so the losses are those without; every growth and no skip is seen on the way."""
    scaler = scaler_of(2.0**10, growth_interval=5)
    state = scaler.state_dict()
    curve = watched(range_test, make(dropout=0.0), scaler=scaler, **RANGE)
    assert curve.losses.tolist() == watched(range_test, make(dropout=0.0), **RANGE).losses.tolist()
    assert scaler.state_dict() == state


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_skipped_step_is_made_again_at_the_same_lr(accumulate: int):
    """The first steps overflow until the scale is low enough; the sweep does not move on meanwhile, and every LR has its loss."""
    steps = Counting()
    training = make(dropout=0.0)
    training.model = nn.Sequential(*[part for part in training.model if not isinstance(part, nn.BatchNorm1d)])
    training.optimizer = SGD(training.model.parameters())
    training.optimizer.register_step_pre_hook(steps)
    plain = watched(range_test, training, accumulate=accumulate, **RANGE)
    made, steps.calls = steps.calls, 0
    scaled = watched(range_test, training, accumulate=accumulate, scaler=scaler_of(2.0**127), **RANGE)
    assert scaled.losses.tolist() == plain.losses.tolist()  # repeated forward passes change nothing in this net
    assert scaled.lrs.tolist() == plain.lrs.tolist()
    assert steps.calls == made


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any) -> None:
        self.calls += 1


def test_a_gradient_that_no_scale_saves_ends_the_sweep():
    training = make()
    training.criterion = lambda output, target: nn.functional.cross_entropy(output, target) + (output.sum() * 0).sqrt()
    curve = watched(range_test, training, scaler=scaler_of(2.0**16), **RANGE)
    assert curve.status == "nonfinite"
    assert np.isnan(curve.losses).tolist() == [True]


def test_a_search_with_a_scaler_finds_what_it_finds_without():
    scaler = scaler_of(2.0**12)
    state = scaler.state_dict()
    found = watched(find_lr, make(ADAM, dropout=0.0), scaler=scaler, **SEARCH)
    assert float(found) == float(watched(find_lr, make(ADAM, dropout=0.0), **SEARCH))
    assert scaler.state_dict() == state


# Clipping -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [{"clip_norm": 0.3}, {"clip_value": 0.02}, {"clip_norm": 0.05, "clip_value": 0.02}], ids=str)
@pytest.mark.parametrize("scaler", [None, 2.0**8])
def test_clipping_is_that_of_a_loop_written_by_hand(clip: dict[str, float], scaler: float | None):
    mine = make(dropout=0.0)

    def clipped() -> None:
        if "clip_value" in clip:
            nn.utils.clip_grad_value_(mine.model.parameters(), clip["clip_value"])
        if "clip_norm" in clip:
            nn.utils.clip_grad_norm_(mine.model.parameters(), clip["clip_norm"])

    losses = by_hand(mine, before_step=clipped)
    curve = watched(range_test, make(dropout=0.0), **clip, scaler=None if scaler is None else scaler_of(scaler), **RANGE)
    assert curve.losses.tolist() == losses[: len(curve.losses)]
    assert curve.losses.tolist() != watched(range_test, make(dropout=0.0), **RANGE).losses.tolist()


def test_clipping_moves_the_break_up():
    """Steps of a bounded length break the loss later: SGD without momentum, clipped to a tenth of its usual gradient."""
    plain, clipped = (
        watched(range_test, make(dropout=0.0), clip_norm=norm, end_lr=1e4, num_iter=100, progress=False) for norm in (None, 0.05)
    )
    assert plain.break_lr is not None
    assert clipped.break_lr is None or clipped.break_lr > 3 * plain.break_lr


def test_adams_history_is_that_of_clipped_gradients():
    """Clipped to one magnitude everywhere, Adam's preconditioner is that magnitude times one, so its limit is SGD's times it."""
    model, (inputs, target) = nn.Linear(6, 1, bias=False).double(), batches(96)[0]
    data, criterion = [(inputs.double(), target[:, None].double())], nn.MSELoss()
    sharpness = stable_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), data, criterion, tol=1e-6).sharpness
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, eps=0.0)
    clipped = stable_lr(model, adam, data, criterion, clip_value=1e-3, tol=1e-6)
    assert clipped.sharpness == pytest.approx(sharpness / 1e-3, rel=1e-5)


# The user's own step ------------------------------------------------------------------------------------------------------------


def own_step(training: Training) -> Callable[[Any], Any]:
    def step(batch: Any) -> Any:
        training.optimizer.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        training.optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_an_ordinary_step_of_the_user_gives_the_same_curve(optimizer: Any):
    training = make(optimizer)
    curve = watched(range_test, training, criterion=None, step_fn=own_step(training), **RANGE)
    assert curve.losses.tolist() == watched(range_test, make(optimizer), **RANGE).losses.tolist()
    assert curve.recipe == "own step"


@pytest.mark.parametrize("settings", [BRIEF, SEARCH], ids=["brief", "search"])
def test_an_ordinary_step_beside_its_loss_gives_the_same_suggestion(settings: Any):
    training = make(ADAM)
    mine, ours = watched(find_lr, training, step_fn=own_step(training), **settings), watched(find_lr, make(ADAM), **settings)
    assert (float(mine), mine.interval, mine.gradients) == (float(ours), ours.interval, ours.gradients)
    assert mine.limit.lr == ours.limit.lr  # type: ignore[union-attr]


def test_a_step_alone_scores_at_lr_zero_and_says_that_there_is_no_curvature():
    """Without dropout and batch norm a training step tells the loss that evaluating would: the same suggestion but for its cost."""

    def without_noise() -> Training:
        training = make(ADAM, dropout=0.0)
        training.model = nn.Sequential(*[part for part in training.model if not isinstance(part, nn.BatchNorm1d)])
        training.optimizer = ADAM(training.model.parameters())
        return training

    training = without_noise()
    mine = watched(find_lr, training, criterion=None, step_fn=own_step(training), **SEARCH)
    ours = watched(find_lr, without_noise(), curvature=False, **SEARCH)
    assert float(mine) == float(ours)
    assert mine.confirmation.after == ours.confirmation.after  # type: ignore[union-attr]
    assert mine.limit is None
    assert "step_fn gives no loss to differentiate" in mine.no_limit  # type: ignore[operator]
    assert mine.gradients > ours.gradients


def test_an_optimizer_that_needs_a_closure_is_searched_by_its_own_step():
    model, data = small_net(), [(inputs.double(), target) for inputs, target in batches(32)]
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)

    def step(batch: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    training = Training(model, optimizer, data, None)
    found = watched(find_lr, training, step_fn=step, **SEARCH)
    assert found.confirmation.passed  # type: ignore[union-attr]


def test_two_models_with_two_optimizers_are_searched_together():
    """An encoder and a head; both LRs rise in their ratio, and both come back."""
    whole = make(dropout=0.0).model
    encoder, head = nn.Sequential(*whole[:3]), whole[4]
    slow, fast = torch.optim.SGD(encoder.parameters(), lr=0.01), torch.optim.Adam(head.parameters(), lr=0.001)
    rates = set[float]()

    def step(batch: Any) -> Any:
        rates.add(round(slow.param_groups[0]["lr"] / fast.param_groups[0]["lr"], 6) if fast.param_groups[0]["lr"] else 10.0)
        loss = nn.functional.cross_entropy(head(encoder(batch[0])), batch[1])
        slow.zero_grad()
        fast.zero_grad()
        loss.backward()
        slow.step()
        fast.step()
        return loss.item()

    before = [fingerprint(encoder, slow), fingerprint(head, fast)]
    found = find_lr([encoder, head], [slow, fast], batches(), step_fn=step, **SEARCH)
    for old, new in zip(before, [fingerprint(encoder, slow), fingerprint(head, fast)], strict=True):
        assert_untouched(old, new)
    assert rates == {10.0}
    assert found.curve.model == "Sequential and Linear"
    assert found.curve.optimizer.startswith("SGD")
    assert " and Adam" in found.curve.optimizer


@pytest.mark.parametrize("result", [None, "0.3", torch.ones(2)], ids=str)
def test_a_step_that_tells_no_loss_is_refused_with_a_sentence(result: Any):
    training = make()
    with pytest.raises((TypeError, ValueError), match=r"step_fn returned a .*, not one number; "):
        watched(range_test, training, criterion=None, step_fn=lambda batch: result, **RANGE)


def test_the_users_step_gets_its_window():
    training, seen = make(), list[tuple[type, int]]()

    def step(window: Any) -> Any:
        seen.append((type(window), len(window)))
        return own_step(training)(window[0])

    watched(range_test, training, criterion=None, step_fn=step, accumulate=5, **RANGE)
    assert seen[:4] == [(Window, 5), (Window, 5), (Window, 2), (Window, 5)]


# Skipped steps of the user's own loop -----------------------------------------------------------------------------------------------


def test_a_skipped_step_of_the_users_loop_comes_again_at_the_same_lr():
    training, lrs = make(), list[float]()
    with LRSweep(training.model, training.optimizer, **{**RANGE, "num_iter": 10}) as sweep:
        for number, batch in enumerate(sweep(training.data)):
            lrs.append(training.optimizer.param_groups[0]["lr"])
            skipped = number in (0, 1, 7)
            sweep.report(training.loss(batch).item() if skipped else own_step(training)(batch), skipped=skipped)
    assert len(sweep.curve.losses) == 10
    assert len(lrs) == 13
    assert lrs[0] == lrs[1] == lrs[2] == sweep.curve.lrs[0]
    assert lrs[7] == lrs[8]
    assert sorted(set(lrs)) == sweep.curve.lrs.tolist()


def test_a_loop_in_which_every_step_is_skipped_ends():
    training, steps = make(), 0
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for _ in sweep(training.data):
            steps += 1
            sweep.report(1.0, skipped=True)
    assert steps == 40
    assert sweep.curve.status == "nonfinite"


def test_windows_that_the_data_make_themselves_are_left_as_they_are():
    windows = [Window(batches()[:3]), Window(batches()[3:4])]
    problem = Problem(**{**make().arguments, "data": windows}, accumulate=3)
    assert [len(window) for window in islice(problem.batches, 3)] == [3, 1, 3]
    assert all(type(window) is Window for window in problem.batches.take(2))


# Found by review ----------------------------------------------------------------------------------------------------------------------


class CountingGraphs(torch.autograd.Function):
    """The identity, which knows how many of its graphs are alive: made in forward passes, spent in backward passes."""

    alive = most = 0

    @staticmethod
    def forward(ctx: Any, value: Any) -> Any:
        CountingGraphs.alive += 1
        CountingGraphs.most = max(CountingGraphs.most, CountingGraphs.alive)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        CountingGraphs.alive -= 1
        return gradient


def test_no_two_micro_batches_are_in_memory_at_once():
    """The graph of the first check is dropped, not run backward: hence two and not one."""
    training = make()
    CountingGraphs.alive = CountingGraphs.most = 0
    training.criterion = lambda output, target: nn.functional.cross_entropy(CountingGraphs.apply(output), target)
    watched(range_test, training, accumulate=6, **RANGE)
    assert CountingGraphs.most == 2


def test_a_list_too_short_for_its_windows_still_trains_with_whole_gradients():
    """One of two batches is set aside: what is left is a window by itself, divided by one."""
    from hessian.batches import Batches
    from lrfinder.setaside import set_aside

    aside = set_aside(Batches(batches(48), accumulate=2), None, 0)
    assert aside.training.accumulate == 1
    assert len(aside.scored) == 1


def test_scores_are_means_over_samples():
    from lrfinder.scoring import mean_loss

    training = make(dropout=0.0)
    training.model.eval()
    (inputs, target) = batches(96)[0]
    uneven = [(inputs[:90], target[:90]), (inputs[90:], target[90:])]
    problem = Problem(**training.arguments)
    assert mean_loss(problem, uneven, 0) == pytest.approx(mean_loss(problem, [(inputs, target)], 0), rel=1e-6)
