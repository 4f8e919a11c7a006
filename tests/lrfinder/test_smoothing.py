"""The smoothed curve lags behind nothing, smears no explosion, and bends no straight line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrfinder.smoothing import capped, clean_length, initial_level, smooth

half_widths = st.integers(0, 12)
levels = st.floats(-1e6, 1e6, allow_subnormal=False)  # below 1e-307 numbers have fewer digits than the tolerances need
losses_of_any_kind = arrays(np.float64, st.integers(1, 60), elements=levels)


def symmetric_valley(wings: int, width: float) -> np.ndarray:
    return 1 - np.exp(-0.5 * (np.arange(-wings, wings + 1) / width) ** 2)


def running_mean(losses: np.ndarray, decay: float = 0.98) -> np.ndarray:
    """What most finders smooth with: an exponential mean, corrected for its start at zero."""
    means = np.zeros(len(losses))
    mean = 0.0
    for i, loss in enumerate(losses):
        mean = decay * mean + (1 - decay) * loss
        means[i] = mean / (1 - decay ** (i + 1))
    return means


@given(wings=st.integers(20, 80), width=st.floats(1, 6), half_width=half_widths)
def test_a_symmetric_valley_stays_where_it_is(wings, width, half_width):
    losses = symmetric_valley(wings, width)
    curve = smooth(losses, half_width, len(losses))
    assert curve.argmin() == wings
    assert curve == pytest.approx(curve[::-1], abs=1e-12)  # sums of at most 25 numbers below 1, taken in the other order


def test_a_running_mean_would_shift_it():
    losses = symmetric_valley(50, 5.0)
    assert running_mean(losses).argmin() > 50 + 5  # a whole width too late: the check above can fail


@given(values=losses_of_any_kind, half_width=half_widths, blow_up=st.floats(1e2, 1e300))
def test_an_explosion_reaches_no_further_than_the_window_and_no_higher_than_the_cap(values, half_width, blow_up):
    planned = len(values) + 1
    initial = initial_level(values, planned)
    assume(values.min() < initial - 1e-3 and len(values) > 5)  # the loss fell, and the explosion is not part of the initial level
    exploded = np.append(values, abs(values).max() * 3 + blow_up)
    calm = np.append(values, 2 * initial - values.min())
    assert smooth(exploded, half_width, planned) == pytest.approx(smooth(calm, half_width, planned), rel=1e-9, abs=1e-9)
    reached = max(len(values) - half_width, 0)
    without = smooth(values, half_width, planned)
    assert smooth(exploded, half_width, planned)[:reached] == pytest.approx(without[:reached], rel=1e-9, abs=1e-6)


@given(level=levels, points=st.integers(1, 80), half_width=half_widths)
def test_constants_stay_constant(level, points, half_width):
    curve = smooth(np.full(points, level), half_width, points)
    assert curve == pytest.approx(np.full(points, level), rel=1e-14, abs=1e-300)
    assert np.ptp(curve) == 0  # exactly: rules look for falls between neighbours


@given(start=levels, slope=st.floats(-100, 0), points=st.integers(30, 90), half_width=half_widths)
def test_a_falling_line_stays_straight_inside(start, slope, points, half_width):
    line = start + slope * np.arange(points)
    inside = slice(half_width, points - half_width)
    assert smooth(line, half_width, points)[inside] == pytest.approx(line[inside], rel=1e-12, abs=1e-8)  # 1e6 times 1e-14


@given(
    values=arrays(np.float64, st.integers(1, 60), elements=st.integers(-1000, 1000)),  # whole numbers: no rounding decides what fell
    half_width=half_widths,
    scale=st.sampled_from([0.25, 4.0, 1024.0]),
    shift=st.integers(-1000, 1000),
)
def test_the_curve_follows_the_units_of_the_loss(values, half_width, scale, shift):
    curve = smooth(values, half_width, len(values))
    tolerance = 1e-12 * scale * (abs(values).max() + abs(shift) + 1)
    assert smooth(scale * values + shift, half_width, len(values)) == pytest.approx(scale * curve + shift, rel=0, abs=tolerance)


@given(values=losses_of_any_kind, half_width=half_widths)
def test_the_curve_stays_between_its_lowest_and_highest_loss(values, half_width):
    curve = smooth(values, half_width, len(values))
    shown = capped(values, len(values))
    rounding = 1e-12 * abs(values).max() + 1e-300
    assert curve.shape == values.shape
    assert shown.min() - rounding <= curve.min() <= curve.max() <= shown.max() + rounding


@given(values=losses_of_any_kind)
def test_no_window_means_the_losses_themselves(values):
    assert np.array_equal(smooth(values, 0, len(values)), capped(values, len(values)))


def test_weights_by_hand():
    impulse = np.full(20, 1.0)
    impulse[10] = 0.0  # a window of half-width 2 weighs 1 2 3 2 1, over 9
    assert smooth(impulse, 2, 20)[7:14] == pytest.approx(1 - np.array([0, 1, 2, 3, 2, 1, 0]) / 9, abs=1e-15)


def test_the_end_is_a_mean_too():
    """The last loss weighs as much as in a window cut in half, not as much as all others together."""
    curve = smooth(np.array([1.0] * 20 + [0.0]), 4, 21)
    # Mirrored, the window 1 2 3 4 5 4 3 2 1 over 25 falls on the last loss twice: at its centre, 5, and one beside it, 4.
    assert curve[-1] == pytest.approx(1 - 9 / 25, abs=1e-15)


@given(values=losses_of_any_kind, half_width=half_widths, bad=st.sampled_from([np.nan, np.inf, -np.inf]), tail=losses_of_any_kind)
def test_from_the_first_loss_that_is_not_finite_on_there_is_no_curve(values, half_width, bad, tail):
    planned = len(values) + 1 + len(tail)
    losses = np.concatenate([values, [bad], tail])
    curve = smooth(losses, half_width, planned)
    assert clean_length(losses) == len(values)
    assert np.isnan(curve[len(values) :]).all()
    assert np.array_equal(curve[: len(values)], smooth(values, half_width, planned))


def test_nothing_recorded_is_no_trouble():
    assert smooth(np.array([]), 3, 100).shape == (0,)
    assert np.isnan(smooth(np.array([np.nan, 1.0]), 3, 100)).all()


@pytest.mark.parametrize(("planned", "count"), [(10, 5), (50, 5), (60, 6), (100, 10), (228, 23)])
def test_the_initial_level_is_the_median_of_a_tenth_and_at_least_five(planned, count):
    losses = np.full(planned, -50.0)
    losses[:count] = np.arange(count)
    assert initial_level(losses, planned) == np.median(np.arange(count))
    losses[count - 1] = 1e9  # one unlucky batch
    assert initial_level(losses, planned) == np.median(np.arange(count))


@given(values=losses_of_any_kind)
def test_a_loss_that_never_fell_is_not_capped(values):
    rising = np.sort(values)
    planned = 10
    if rising[0] == initial_level(rising, planned):
        assert np.array_equal(capped(rising, planned), rising)
