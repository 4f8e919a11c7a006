"""The two sweeps: where the fine one looks, and that the differences between batches are taken out of both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from curves import make_curve, piecewise
from hypothesis import given
from hypothesis import strategies as st
from oracles import Quadratic, symmetric
from torch import Tensor
from trainings import make

import lrfinder
from hessian.errors import NoSuggestionError
from hessian.problem import Problem
from lrfinder import search as search_module
from lrfinder.basin import find_basin
from lrfinder.budget import Spent, split_budget
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.progress import Progress
from lrfinder.search import FEWEST, Baseline, fine_end, fine_start, spaced, two_speed_sweep
from lrfinder.sweep import Recorded, sweep

RAMP = (1e-7, 100.0)
ALONE = 110  # gradients: too few for short trainings, enough for two sweeps
SPEND = replace(split_budget(ALONE), coarse=4.0, fine=20.0, finest=110)
COUNT = 12  # batches of the made-up data

# Where the fine sweep looks -----------------------------------------------------------------------------------------------------


@given(
    start=st.floats(-8, 0),
    decades=st.floats(0.1, 10),
    per_decade=st.floats(2, 30),
    most=st.integers(FEWEST, 200) | st.just(math.inf),
)
def test_a_sweep_has_its_points_a_decade_and_ends_early_rather_than_have_too_many(start, decades, per_decade, most):
    ramp = spaced(10**start, 10 ** (start + decades), per_decade, most)
    planned = max(FEWEST, round(per_decade * decades) + 1)
    assert ramp.start_lr == 10**start
    assert ramp.num_iter == min(planned, most)
    assert ramp.end_lr <= 10 ** (start + decades)
    if planned > most:
        assert ramp.num_iter == most
        assert math.log10(ramp.end_lr / ramp.start_lr) == pytest.approx(min(decades, (most - 1) / per_decade))
    elif planned > FEWEST:
        spacing = math.log10(ramp.lrs[1] / ramp.lrs[0])
        assert spacing == pytest.approx(1 / per_decade, rel=0.5 / (planned - 1) + 1e-6)  # rounded to whole points


X = np.linspace(-7, 2, 37)  # a coarse sweep


def coarse_curve(points: list[tuple[float, float]], end: float, status: str = "diverged") -> LRCurve:
    x = X[: np.searchsorted(X, end + 1e-9)]
    return make_curve(piecewise(points, x), 10**x, status=status, num_iter=len(X), end_lr=100.0)


@given(start=st.integers(-24, -8), fall=st.integers(2, 8), depth=st.floats(0.1, 10))
def test_the_fine_sweep_starts_below_where_half_was_gained_and_well_below_the_end(start, fall, depth):
    """Grid steps of a quarter decade: the loss falls by ``depth`` from ``start`` on."""
    left, right = start / 4, (start + fall) / 4
    curve = coarse_curve([(left, 3.0), (right, 3.0 - depth), (0.5, 3.0 - depth), (0.75, 99.0)], end=0.75)
    half = left + CONSTANTS.lead_depth * (right - left)
    expected = max(-7.0, min(0.75 - CONSTANTS.lead, half - CONSTANTS.lead_left))
    assert math.log10(fine_start(curve)) == pytest.approx(expected, abs=1e-6)


def test_without_a_fall_the_end_alone_decides_where_it_starts():
    flat = make_curve(np.ones(37), 10**X)
    assert math.log10(fine_start(flat)) == pytest.approx(2 - CONSTANTS.lead)


@pytest.mark.parametrize("points", range(FEWEST))
def test_too_few_points_decide_nothing(points):
    curve = make_curve(np.ones(points), 10 ** X[:points], start_lr=1e-7, num_iter=37, end_lr=100.0, status="nonfinite")
    assert fine_start(curve) == 1e-7


def test_the_fine_sweep_ends_beyond_the_break_and_never_beyond_the_end_asked_for():
    fall = [(-3, 1.0), (-2, 0.0)]
    assert fine_end(coarse_curve(fall, end=-1.0)) == pytest.approx(10 ** (-1 + CONSTANTS.beyond))
    assert fine_end(coarse_curve(fall, end=2.0)) == 100.0
    assert fine_end(coarse_curve(fall, end=-1.0, status="completed")) == 100.0  # it did not break


# Real sweeps --------------------------------------------------------------------------------------------------------------------


@dataclass
class Descent:
    """Gradient descent on a quadratic whose batches may differ in what they cost, and in nothing else: the gradient is the same."""

    change: Callable[[Tensor, float], Tensor] = lambda loss, cost: loss
    data: Any = field(default_factory=lambda: [torch.tensor([cost]) for cost in np.geomspace(1, 10, COUNT)])
    calls: list[tuple[float, bool]] = field(default_factory=list)

    def loss(self, model: Any, batch: Tensor) -> Tensor:
        cost = float(batch)
        self.calls.append((cost, torch.is_grad_enabled()))
        loss = model(batch) + 1.0
        return loss + (self.change(loss, cost) - loss).detach()

    @contextmanager
    def problem(self) -> Iterator[tuple[Problem, Any]]:
        model = Quadratic(symmetric([1.0, 3.0, 10.0, 30.0]))
        problem = Problem(model, torch.optim.SGD(model.parameters(), lr=0.1), self.data, loss_fn=self.loss)
        with problem.preserved() as snapshot:
            yield problem, snapshot

    def search(self, spend: Any = SPEND, spent: Spent | None = None, recorded: Recorded | None = None) -> LRCurve:
        with self.problem() as (problem, snapshot):
            first = problem.batches.take(1)[0]
            return two_speed_sweep(problem, snapshot, RAMP, spend, 0, Progress(False), first, spent or Spent(), recorded or Recorded())


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[LRCurve]:
    """The sweeps that are made."""
    made: list[LRCurve] = []

    def noting(*args: Any) -> LRCurve:
        made.append(sweep(*args))
        return made[-1]

    monkeypatch.setattr(search_module, "sweep", noting)
    return made


@pytest.mark.parametrize("budget", [ALONE, "standard", 60])
def test_the_fine_sweep_is_placed_by_the_coarse_one(sweeps, budget):
    spend = split_budget(budget)
    found = Descent().search(spend)
    coarse, fine = sweeps
    assert found is fine
    assert (coarse.start_lr, coarse.end_lr) == RAMP
    assert coarse.num_iter == round(9 * spend.coarse) + 1
    assert fine.num_iter <= spend.finest
    assert fine.start_lr == fine_start(coarse) <= coarse.lrs[-1] / 10 ** (CONSTANTS.lead - 1e-9)
    assert fine.end_lr <= fine_end(coarse) == coarse.break_lr * 10**CONSTANTS.beyond
    assert fine.status == "diverged"
    assert fine.break_lr < coarse.break_lr  # it rises more slowly, so it sees the break earlier
    for curve, per_decade in ((coarse, spend.coarse), (fine, spend.fine)):
        assert curve.window == max(1, round(CONSTANTS.smoothing * per_decade))  # over the same stretch of LRs


def test_a_fine_sweep_has_at_most_so_many_points(sweeps):
    Descent().search(replace(SPEND, finest=25))
    coarse, fine = sweeps
    assert fine.num_iter == 25
    assert fine.end_lr == pytest.approx(fine.start_lr * 10 ** (24 / SPEND.fine))  # no sparser for that
    assert fine.end_lr < fine_end(coarse)


def test_both_sweeps_see_the_batches_of_the_baseline_and_each_is_measured_once(sweeps):
    descent, spent = Descent(), Spent()
    descent.search(spent=spent)
    coarse, fine = sweeps
    measured = [cost for cost, gradients in descent.calls if not gradients]
    trained = [cost for cost, gradients in descent.calls if gradients]
    costs = list(itertools.islice(itertools.cycle(float(batch) for batch in descent.data), 200))
    assert measured == costs[: max(coarse.num_iter, fine.num_iter)]
    assert trained == costs[: len(coarse.losses)] + costs[: len(fine.losses)]
    assert (spent.steps, spent.forwards, spent.products) == (len(trained), len(measured), 0)


def ten_fold(loss: Tensor, cost: float) -> Tensor:
    return loss * cost


def test_a_control_variate_takes_the_differences_between_batches_out():
    """Batches that differ ten-fold give the curve and the basin that batches without differences give, in other units."""
    plain, found = Descent().search(), Descent(ten_fold).search()
    scale = float(found.baseline.mean() / plain.baseline.mean())
    assert found.steadied
    assert (found.status, found.break_lr) == (plain.status, plain.break_lr)
    assert found.corrected == pytest.approx(scale * plain.losses, rel=1e-7)  # rounding grows with the losses where they blow up
    assert found.initial == pytest.approx(scale * plain.initial)
    expected, basin = find_basin(plain), find_basin(found)
    assert (basin.left, basin.right, basin.points) == pytest.approx((expected.left, expected.right, expected.points), abs=1e-9)
    assert (basin.decrease, basin.noise) == pytest.approx((scale * expected.decrease, scale * expected.noise))
    assert (basin.open_left, basin.open_right) == (expected.open_left, expected.open_right)


def test_without_it_the_differences_would_be_noise():
    """The check above can fail."""
    found = Descent(ten_fold).search()
    bare = make_curve(found.losses, found.lrs, num_iter=found.num_iter, smoothing=found.smoothing, status=found.status)
    assert not bare.steadied
    without, basin = find_basin(bare), find_basin(found)
    assert without.noise / without.decrease > 5 * basin.noise / basin.decrease


def test_losses_below_zero_are_corrected_by_differences():
    plain, found = Descent().search(), Descent(lambda loss, cost: loss - 100 * cost).search()
    shift = float(found.baseline.mean() - plain.baseline.mean())
    count = min(len(found.losses), len(plain.losses)) - 1  # where losses are not all positive, a break is seen by another rule
    assert count > FEWEST
    assert found.steadied
    assert found.corrected[:count] == pytest.approx(plain.losses[:count] + shift, rel=1e-6)  # rounding grows as the descent does


class Reordered:
    """Batches that come in another order each pass, by a generator that nobody can seed, nor find to put it back."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.tensor([cost]) for cost in SHUFFLER.permutation(np.geomspace(1, 10, COUNT)))


SHUFFLER = np.random.default_rng(0)


def test_data_in_another_order_each_time_are_not_corrected():
    found = Descent(ten_fold, Reordered()).search()
    assert len(found.baseline) == len(found.losses)
    assert not found.steadied
    assert found.corrected is found.losses


def test_data_that_run_out_have_no_baseline_and_the_coarse_sweep_is_all_there_is(sweeps):
    class Once:
        def __init__(self, count: int) -> None:
            self.batches = iter([torch.tensor([1.0])] * count)

        def __iter__(self) -> Iterator[Tensor]:
            return self.batches

    points = round(9 * SPEND.coarse) + 1
    found = Descent(data=Once(points + 15)).search()
    assert len(sweeps) == 1
    assert found.status == "data_ended"
    assert len(found.losses) == 14  # one was looked at before
    found = Descent(data=Once(20)).search()
    assert (found.status, len(found.losses), len(found.baseline)) == ("data_ended", 0, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_baseline_that_is_not_finite_is_none(sweeps, bad):
    Descent(lambda loss, cost: loss * (bad if cost > 9 and not torch.is_grad_enabled() else 1.0)).search()
    assert [len(curve.baseline) for curve in sweeps] == [0, 0]


def test_an_interrupted_coarse_sweep_leaves_what_it_has():
    stopped = []

    def interrupting(loss: Tensor, cost: float) -> Tensor:
        if torch.is_grad_enabled():
            stopped.append(1)
        if len(stopped) == 8:
            raise KeyboardInterrupt
        return loss

    recorded = Recorded()
    with pytest.raises(KeyboardInterrupt):
        Descent(interrupting).search(recorded=recorded)
    found = recorded.curve
    assert (found.status, found.start_lr, len(found.losses)) == ("interrupted", RAMP[0], 7)


# The baseline -------------------------------------------------------------------------------------------------------------------


def test_the_baseline_is_what_each_batch_costs_at_the_initial_weights():
    """Of a model with dropout and BatchNorm in train mode, read in the order of a seeded loader."""
    training = make()
    problem = Problem(training.model, training.optimizer, training.data, training.criterion)
    with problem.preserved() as snapshot:
        baseline = Baseline(problem, snapshot, 3, Spent())
        first = baseline.first(20)
        snapshot.restore()
        problem.seed(3)
        with torch.no_grad():
            by_hand = [problem.loss(batch).item() for batch in itertools.islice(problem.batches, 20)]
        assert first.tolist() == by_hand
        assert baseline.first(5).tolist() == by_hand[:5]
        assert baseline.spent.forwards == 20
        more = baseline.first(30)
        assert baseline.spent.forwards == 30
    assert more[:20].tolist() == by_hand
    assert len(more) == 30
    assert training.model.training


def test_a_loss_that_stays_nan_hands_over_the_sweep_that_went_further():
    """From the seventh step on; the fine sweep sees one loss and the coarse one several."""
    training, calls = make(), [0]

    def turns_nan(model, batch):
        calls[0] += torch.is_grad_enabled()
        return training.loss(batch) * (math.nan if calls[0] > 7 else 1.0)

    with pytest.raises(
        NoSuggestionError, match=r"\(status nonfinite\), too few to judge; .*: check the data and the loss for NaN"
    ) as caught:
        lrfinder.find_lr(training.model, training.optimizer, training.data, loss_fn=turns_nan, total_steps=100, progress=False)
    assert caught.value.curve.clean == 6  # the first of the seven is the check
