"""How a number of gradients is spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.errors import BadArgument, BadType
from lrfinder.budget import (
    BOTH,
    BUDGETS,
    COARSE_ONLY,
    ENOUGH,
    FEW,
    FINEST,
    LEAST,
    LONGER,
    MANY,
    ONE_SWEEP,
    TWO_SWEEPS,
    Budget,
    split_budget,
)

budgets = st.integers(LEAST, 3000)


@pytest.mark.parametrize(("name", "gradients"), BUDGETS.items())
def test_names_are_numbers_in_words(name, gradients):
    assert split_budget(name) == split_budget(gradients)


def test_names_are_in_order():
    assert sorted(BUDGETS.values()) == list(BUDGETS.values())
    quick, standard, thorough = map(split_budget, BUDGETS)
    assert (quick.fine, quick.large, standard.large, thorough.large) == (0, False, False, True)
    assert 0 < quick.length < standard.length < thorough.length


@given(gradients=budgets)
def test_short_trainings_get_what_the_sweeps_leave_and_no_more(gradients):
    spend, left = split_budget(gradients), gradients - (TWO_SWEEPS if gradients >= BOTH else ONE_SWEEP)
    assert (spend.length > 0) == (left >= ENOUGH)
    trainings = MANY if spend.large else FEW
    assert spend.length * trainings <= max(left, 0) + trainings / 2  # rounded to a step


@given(gradients=budgets, more=st.integers(0, 1000))
def test_more_gradients_never_buy_less(gradients, more):
    less, spend = split_budget(gradients), split_budget(gradients + more)
    assert spend.finest >= less.finest
    assert spend.trial >= less.trial
    assert spend.batches >= less.batches
    assert spend.large >= less.large
    trained, before = (each.length * (MANY if each.large else FEW) for each in (spend, less))
    sweep = TWO_SWEEPS - ONE_SWEEP if gradients < BOTH <= gradients + more else 0  # a fine sweep is bought with some of it
    assert trained >= before - MANY - sweep  # of all short trainings together, but for rounding


@given(gradients=budgets)
def test_every_part_can_be_measured_with(gradients):
    spend = split_budget(gradients)
    assert 0 < spend.coarse <= COARSE_ONLY
    assert 10 <= spend.finest <= FINEST  # as many points as a curve must have
    assert spend.coarse < spend.fine or (spend.fine == 0 and spend.length > 0)
    assert spend.trial >= 12
    assert spend.products >= 2
    assert spend.longer == LONGER * spend.length


@given(gradients=budgets, steps=st.none() | st.integers(1, 500))
def test_no_training_is_longer_than_the_planned_one(gradients, steps):
    spend = split_budget(gradients)
    held = spend.held_to(steps)
    longest = steps or 10**9
    trained = {"length", "longer", "trial"}
    assert held == Budget(**{name: min(value, longest) if name in trained else value for name, value in vars(spend).items()})


def test_what_is_no_budget():
    with pytest.raises(BadArgument, match=r"budget='huge' is unknown; choose 'quick', 'standard', 'thorough', or a number of gradients"):
        split_budget("huge")
    with pytest.raises(BadArgument, match=rf"budget={LEAST - 1} is too small; pass at least {LEAST}"):
        split_budget(LEAST - 1)
    with pytest.raises(BadType, match=r"budget=99\.5 is not a whole number"):
        split_budget(99.5)
