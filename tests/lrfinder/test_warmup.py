"""The advised warm-up: how long, and from where."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_combine import bowl, make_limit

from lrfinder import suggest_lr
from lrfinder.horizon import SHARE, WarmUp, advised, warm_up

RATES = st.floats(1e-6, 10.0)
STEPS = st.integers(1, 100_000)


@pytest.fixture
def suggestion():
    return suggest_lr(bowl(), make_limit(0.5), total_steps=200, schedule="constant")


@given(lr=RATES, limit=RATES, steps=STEPS)
def test_no_warm_up_below_the_limit_and_one_that_starts_at_it_above(lr, limit, steps):
    found = warm_up(lr, limit, steps, "constant")
    if lr <= limit:
        assert found == WarmUp(0, lr)
    else:
        assert found.start_lr == limit
        assert 1 <= found.steps <= SHARE * steps + 1


@given(limit=RATES, steps=STEPS, ratio=st.floats(1.01, 100.0))
def test_it_is_a_usual_warm_up_from_zero_without_the_part_that_is_stable_anyway(limit, steps, ratio):
    """The slope is the same: ``SHARE * steps`` steps from zero to the suggestion."""
    found = warm_up(limit * ratio, limit, steps, None)
    assert abs(found.steps - SHARE * steps * (1 - 1 / ratio)) <= 1


@given(lr=RATES, limit=RATES, first=RATES, steps=STEPS)
def test_it_starts_at_the_limit_of_the_first_step_where_that_is_lower(lr, limit, first, steps):
    found = warm_up(lr, limit, steps, None, first)
    assert found.start_lr == (lr if lr <= limit else min(limit, first))
    assert found.steps >= warm_up(lr, limit, steps, None).steps
    assert warm_up(lr, limit, steps, "onecycle", first).start_lr == min(lr * (1 / 25), limit, first)


@pytest.mark.parametrize(("first", "start"), [(None, 0.0), (0.02, 0.02), (3.0, 0.1), (math.inf, 0.1)])
def test_an_adaptive_optimizer_starts_at_its_first_step_or_at_zero_if_that_was_not_measured(first, start):
    limit = make_limit(0.1, preconditioned=True, first_step_lr=first)
    assert advised(0.2, limit, 1000, None) == WarmUp(math.ceil(100 * (1 - start / 0.2)), start)
    assert advised(0.05, limit, 1000, None) == WarmUp(0, 0.05)
    assert advised(0.2, limit, 1000, "onecycle").start_lr == pytest.approx(min(0.2 / 25, first or 0.1))


def test_sgd_starts_at_its_limit():
    assert advised(0.2, make_limit(0.1), 1000, None) == WarmUp(50, 0.1)


@given(lr=RATES, limit=RATES)
def test_1cycle_warms_up_by_itself_from_where_the_first_steps_are_stable(lr, limit):
    found = warm_up(lr, limit, 100, "onecycle")
    assert found.own
    assert found.start_lr <= limit


def test_what_is_left_to_1cycle_is_what_torch_does():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=100)
    found = warm_up(0.5, 10.0, 100, "onecycle")
    assert schedule.get_last_lr() == [pytest.approx(found.start_lr)]
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < 100:
            schedule.step()
    assert rates.index(max(rates)) == found.steps - 1


def test_a_sharp_start_is_hardly_felt_behind_the_advised_warm_up():
    """Descent on a quadratic whose curvature falls tenfold after four steps: how far the weight is thrown out on the way."""
    limit, lr, steps = 2 / 10.0, 1.0, 400

    def thrown(rise: WarmUp) -> float:
        weight, farthest = 1.0, 1.0
        for step in range(steps):
            share = min(1.0, (step + 1) / (rise.steps + 1))
            weight -= (rise.start_lr + (lr - rise.start_lr) * share) * (10.0 if step < 4 else 1.0) * weight
            farthest = max(farthest, abs(weight))
        return farthest

    assert thrown(warm_up(lr, limit, steps, "constant")) < 10
    assert thrown(WarmUp(0, lr)) == pytest.approx(9.0**4)


def test_without_a_curvature_limit_there_is_no_advice(suggestion):
    assert suggestion.warmup is not None
    assert dataclasses.replace(suggestion, limit=None).warmup is None


def test_the_advice_is_printed_in_words(suggestion):
    assert "none needed: the suggestion is stable at step 0" in " ".join(str(suggestion).split())
    low = dataclasses.replace(suggestion.limit, curvature_lr=suggestion.lr / 4)
    text = " ".join(str(dataclasses.replace(suggestion, limit=low)).split())
    assert f"15 steps in a straight line from {low.curvature_lr:.2g}, the limit at step 0" in text
    steady = dataclasses.replace(low, preconditioned=True)
    assert "20 steps in a straight line from zero" in " ".join(str(dataclasses.replace(suggestion, limit=steady)).split())
    first = dataclasses.replace(steady, first_step_lr=suggestion.lr / 10)
    adaptive = dataclasses.replace(suggestion, limit=first)
    for text in (str(adaptive), adaptive.explain()):
        assert f"from {suggestion.lr / 10:.2g}, the limit of the first step" in " ".join(text.split())
    tiny = dataclasses.replace(suggestion.limit, curvature_lr=suggestion.lr / 50)
    text = " ".join(str(dataclasses.replace(suggestion, limit=tiny, schedule="onecycle")).split())
    assert "1cycle has its own" in text
    assert "pass div_factor=50" in text
