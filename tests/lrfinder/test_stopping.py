"""The sweep stops when the loss has broken, and only then."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lrfinder.ramp import StopRule


def verdicts(losses: list[float], stop_factor: float = 4.0) -> list[str | None]:
    rule = StopRule(stop_factor)
    return [rule.update(loss) for loss in losses]


def stopped_at(losses: list[float], stop_factor: float = 4.0) -> int | None:
    """Index of the first loss that ends the sweep."""
    return next((i for i, verdict in enumerate(verdicts(losses, stop_factor)) if verdict), None)


@given(st.lists(st.floats(1.0, 3.99), max_size=80), st.floats(1e-8, 1e8))
def test_scatter_within_the_factor_never_stops(losses, scale):
    assert stopped_at([scale * loss for loss in losses]) is None  # no median exceeds four times another


@given(st.lists(st.floats(0.001, 1.0), min_size=5, max_size=80))
def test_scatter_below_the_initial_loss_never_stops(rest):
    assert stopped_at([1.0] * 5 + rest) is None  # however far above the best: 1.2 times the initial loss is not exceeded


@given(st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=80))
def test_scatter_about_zero_never_stops(losses):
    assert stopped_at([1.0, -1.0, 0.0, 1.0, -1.0, *losses]) is None


def test_scatter_about_zero_is_the_unit_where_the_loss_has_not_fallen():
    first = [1.0, -1.0, 0.0, 1.0, -1.0]  # medians 1, 0, 0, 0, 0: initial and best loss are both 0, the range is 2, the threshold 0 + 3 * 2
    assert stopped_at(first + [5.9] * 20) is None
    assert stopped_at([*first, 6.1, 6.1]) == 6


@given(data=st.data(), base=st.lists(st.floats(1.0, 1.5), min_size=5, max_size=80), height=st.floats(1e3, 1e300))
def test_single_outliers_do_not_stop(data, base, height):
    at = data.draw(st.integers(0, 2))
    losses = list(base)
    while at < len(losses):
        losses[at] = height
        at += data.draw(st.integers(3, 9))  # no window of three holds two of them
    assert stopped_at(losses) is None


@given(st.lists(st.floats(1.0, 3.99), min_size=3, max_size=40))
def test_a_single_lucky_batch_is_not_the_best_loss(scatter):
    assert stopped_at([2.0] * 6 + [1e-9] + [2.0] * 2 + scatter) is None  # else anything above 1.2 times the initial loss would be a break


def test_two_outliers_in_a_row_do():
    assert stopped_at([1.0] * 10 + [100.0, 100.0]) == 11


def test_the_running_median_by_hand():
    # Medians of three after the level: 1, then of (1, 4.1, 4.1) = 4.1, more than 4 times the best and 1.2 times the initial loss.
    assert verdicts([1.0] * 6 + [4.1, 4.1]) == [None] * 7 + ["diverged"]
    assert stopped_at([1.0] * 6 + [3.9] * 50) is None


@given(st.floats(1.05, 3.0), st.floats(1e-3, 1e3))
def test_exponential_growth_stops_soon(ratio, level):
    losses = [level] * 10 + [level * ratio**k for k in range(1, 200)]
    # The median lags by one step: it exceeds 4 when ratio^(k-1) does, with one step of slack for rounding.
    expected = 10 + math.ceil(math.log(4) / math.log(ratio))
    assert abs(stopped_at(losses) - expected) <= 1


@given(st.lists(st.floats(1e-3, 1e3), max_size=60), st.sampled_from([2.0**-20, 0.5, 2.0**30]), st.floats(1.1, 20))
def test_the_unit_of_a_positive_loss_does_not_matter(losses, scale, stop_factor):
    assert verdicts([scale * loss for loss in losses], stop_factor) == verdicts(losses, stop_factor)  # powers of two: no rounding


def test_near_the_noise_floor_four_times_the_best_is_no_break():
    """Small data are fitted inside the sweep: the loss rises to many times its floor, and is still far below where it began."""
    fitted = [2.3] * 5 + [1.0, 0.3, 0.05, 0.01, 0.01, 0.01]
    assert stopped_at([*fitted, *[0.5] * 30, *[2.3] * 30]) is None  # 230 times the best
    assert stopped_at([*fitted, *[0.5] * 3, *[2.8] * 3]) == len(fitted) + 4  # 2.8 > 1.2 * 2.3, at the second of them


def test_a_loss_that_is_negative_stops_when_it_explodes():
    falling = [-1.0] * 5 + [-1.5, -2.0, -3.0, -3.0, -3.0]
    assert stopped_at([*falling, *[-1.0] * 20]) is None
    # Initial -1, best -3: the scale is 2, the threshold max(-3 + 3 * 2, -1 + 0.2 * 2) = 3.
    assert stopped_at([*falling, *[2.9] * 20]) is None
    assert stopped_at([*falling, 3.1, 3.1]) == len(falling) + 1


def test_a_loss_that_crosses_zero_is_judged_by_the_range_it_has_shown():
    crossing = [1.0] * 5 + [0.5, 0.0, -0.5, -1.0, -1.0, -1.0]
    # Initial 1, best -1: the scale is 2, the threshold max(-1 + 3 * 2, 1 + 0.2 * 2) = 5.
    assert stopped_at([*crossing, *[4.9] * 20]) is None
    assert stopped_at([*crossing, 5.1, 5.1]) == len(crossing) + 1


def test_a_loss_of_exactly_zero_does_not_make_every_later_one_a_break():
    assert stopped_at([1.0] * 5 + [0.0] * 5 + [0.9] * 20) is None


@given(losses=st.lists(st.floats(1.0, 2.0), max_size=20), bad=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_loss_that_is_not_finite_stops_at_once(losses, bad):
    assert verdicts([*losses, bad]) == [None] * len(losses) + ["nonfinite"]


def test_nothing_is_judged_before_the_initial_loss_is_known():
    assert stopped_at([1.0, 1.0, 50.0, 50.0]) is None


@given(st.lists(st.floats(0.1, 10), max_size=60), st.floats(1.5, 5))
def test_a_larger_factor_stops_no_earlier(losses, factor):
    early, late = stopped_at(losses, factor), stopped_at(losses, 2 * factor)
    assert late is None or (early is not None and early <= late)


@given(st.lists(st.floats(0.1, 10), max_size=60), st.floats(0.1, 10))
def test_an_initial_loss_that_is_known_is_not_guessed_from_the_first_ones(losses, initial):
    known, guessed = StopRule(4.0, initial), StopRule(4.0)
    told, found = ([rule.update(loss) for loss in [initial] * 5 + losses] for rule in (known, guessed))
    assert told == found
    known = StopRule(4.0, 100.0)
    assert [known.update(loss) for loss in [1.0] * 5 + [119.0] * 3 + [121.0] * 2] == [None] * 9 + ["diverged"]  # beyond 1.2 times
