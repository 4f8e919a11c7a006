"""The soft minimum: between its points, indifferent to units, and not moved by points that are no better than the start."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.basin import soft_minimum
from lrfinder.constants import CONSTANTS

BEFORE = 64  # whole numbers, so that scaling by powers of two and shifting by whole numbers rounds nothing
outcomes = st.integers(0, 128) | st.just(math.inf)
places = st.integers(-28, 8).map(lambda quarter: quarter / 4)
points = st.lists(st.tuples(places, outcomes), min_size=1, max_size=10)
better = points.filter(lambda drawn: min(loss for _, loss in drawn) < BEFORE)


def minimum_of(drawn, before: float = BEFORE) -> float:
    return soft_minimum([x for x, _ in drawn], [loss for _, loss in drawn], before)


@given(drawn=better)
def test_it_lies_between_the_outermost_points_that_got_better(drawn):
    inside = [x for x, loss in drawn if loss < BEFORE]
    assert min(inside) - 1e-12 <= minimum_of(drawn) <= max(inside) + 1e-12


@given(drawn=points, shift=st.integers(-10, 10))
def test_it_moves_with_its_points(drawn, shift):
    moved = [(x + shift, loss) for x, loss in drawn]
    assert minimum_of(moved) == pytest.approx(minimum_of(drawn) + shift, abs=1e-12)


@given(drawn=points, scale=st.sampled_from([0.125, 1.0, 1024.0]), shift=st.integers(-(10**6), 10**6))
def test_the_units_of_the_loss_do_not_matter(drawn, scale, shift):
    other = [(x, scale * loss + shift) for x, loss in drawn]
    assert minimum_of(other, scale * BEFORE + shift) == pytest.approx(minimum_of(drawn), abs=1e-12)


@given(drawn=better, where=places, loss=st.integers(BEFORE, 10**6) | st.just(math.inf))
def test_a_point_at_the_initial_loss_or_above_has_no_weight(drawn, where, loss):
    assert minimum_of([*drawn, (where, loss)]) == pytest.approx(minimum_of(drawn), abs=1e-12)


@given(
    best=places,
    others=st.lists(st.tuples(places, st.integers(BEFORE, 200) | st.just(math.inf)), max_size=9),
    loss=st.integers(0, BEFORE - 1),
)
def test_the_best_point_stands_alone_where_the_others_are_at_the_start(best, others, loss):
    assert minimum_of([(best, loss), *others]) == pytest.approx(best, abs=1e-12)


@given(drawn=st.lists(st.tuples(places, st.integers(BEFORE, 200) | st.just(math.inf)), min_size=1, max_size=9))
def test_where_nothing_got_better_it_lies_half_a_decade_below_the_lowest(drawn):
    assert minimum_of(drawn) == min(x for x, _ in drawn) - 0.5


@given(drawn=points, seed=st.integers(0, 100))
def test_the_order_of_the_points_does_not_matter(drawn, seed):
    mixed = [drawn[index] for index in np.random.default_rng(seed).permutation(len(drawn))]
    assert minimum_of(mixed) == pytest.approx(minimum_of(drawn), abs=1e-12)


@given(drawn=better, index=st.integers(0, 9))
def test_a_point_that_gets_better_draws_it_nearer(drawn, index):
    index %= len(drawn)
    place, loss = drawn[index]
    lowest = min(value for _, value in drawn)
    if loss > lowest:  # the scale is that of the best: it must stay the best
        closer = [*drawn[:index], (place, max(lowest, min(loss, BEFORE) - 1)), *drawn[index + 1 :]]
        assert abs(minimum_of(closer) - place) <= abs(minimum_of(drawn) - place) + 1e-12


@given(xs=st.lists(places, min_size=1, max_size=8))
def test_points_that_are_equally_good_share_the_answer(xs):
    assert minimum_of([(x, 3) for x in xs]) == pytest.approx(np.mean(xs), abs=1e-12)


def test_two_points_by_hand():
    """One misses as much of the decrease as the softness: it counts for 1/e, less what a point without any decrease counts."""
    none = math.exp(-1 / CONSTANTS.softness)
    weights = 1 - none, math.exp(-1) - none
    assert soft_minimum([-3.0, -2.0], [1.0, 1.0 + CONSTANTS.softness], 2.0) == pytest.approx(-3 + weights[1] / sum(weights))
