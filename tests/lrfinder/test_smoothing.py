"""The smoothed curve lags behind nothing, smears no explosion, and bends no straight line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrfinder.smoothing import (
    LEAST_COMPARED,
    SAFE_RATIO,
    capped,
    clean_length,
    corrected,
    initial_level,
    smooth,
    steadies,
)

half_widths = st.integers(0, 12)
levels = st.floats(-1e6, 1e6, allow_subnormal=False)  # below 1e-307 numbers have fewer digits than the tolerances need
losses_of_any_kind = arrays(np.float64, st.integers(1, 60), elements=levels)


def level_of(losses: np.ndarray, planned: int) -> float:
    """The initial level that a curve without a baseline has."""
    clean = losses[: clean_length(losses)]
    return initial_level(clean, planned) if len(clean) else np.nan


def smoothed(losses: np.ndarray, half_width: int, planned: int) -> np.ndarray:
    return smooth(losses, half_width, level_of(losses, planned))


def cut(losses: np.ndarray, planned: int) -> np.ndarray:
    return capped(losses, level_of(losses, planned))


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
    curve = smoothed(losses, half_width, len(losses))
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
    assert smoothed(exploded, half_width, planned) == pytest.approx(smoothed(calm, half_width, planned), rel=1e-9, abs=1e-9)
    reached = max(len(values) - half_width, 0)
    without = smoothed(values, half_width, planned)
    assert smoothed(exploded, half_width, planned)[:reached] == pytest.approx(without[:reached], rel=1e-9, abs=1e-6)


@given(level=levels, points=st.integers(1, 80), half_width=half_widths)
def test_constants_stay_constant(level, points, half_width):
    curve = smoothed(np.full(points, level), half_width, points)
    assert curve == pytest.approx(np.full(points, level), rel=1e-14, abs=1e-300)
    assert np.ptp(curve) == 0  # exactly: rules look for falls between neighbours


@given(start=levels, slope=st.floats(-100, 0), points=st.integers(30, 90), half_width=half_widths)
def test_a_falling_line_stays_straight_inside(start, slope, points, half_width):
    line = start + slope * np.arange(points)
    inside = slice(half_width, points - half_width)
    assert smoothed(line, half_width, points)[inside] == pytest.approx(line[inside], rel=1e-12, abs=1e-8)  # 1e6 times 1e-14


@given(
    values=arrays(np.float64, st.integers(1, 60), elements=st.integers(-1000, 1000)),  # whole numbers: no rounding decides what fell
    half_width=half_widths,
    scale=st.sampled_from([0.25, 4.0, 1024.0]),
    shift=st.integers(-1000, 1000),
)
def test_the_curve_follows_the_units_of_the_loss(values, half_width, scale, shift):
    curve = smoothed(values, half_width, len(values))
    tolerance = 1e-12 * scale * (abs(values).max() + abs(shift) + 1)
    assert smoothed(scale * values + shift, half_width, len(values)) == pytest.approx(scale * curve + shift, rel=0, abs=tolerance)


@given(values=losses_of_any_kind, half_width=half_widths)
def test_the_curve_stays_between_its_lowest_and_highest_loss(values, half_width):
    curve = smoothed(values, half_width, len(values))
    shown = cut(values, len(values))
    rounding = 1e-12 * abs(values).max() + 1e-300
    assert curve.shape == values.shape
    assert shown.min() - rounding <= curve.min() <= curve.max() <= shown.max() + rounding


@given(values=losses_of_any_kind)
def test_no_window_means_the_losses_themselves(values):
    assert np.array_equal(smoothed(values, 0, len(values)), cut(values, len(values)))


def test_weights_by_hand():
    impulse = np.full(20, 1.0)
    impulse[10] = 0.0  # a window of half-width 2 weighs 1 2 3 2 1, over 9
    assert smoothed(impulse, 2, 20)[7:14] == pytest.approx(1 - np.array([0, 1, 2, 3, 2, 1, 0]) / 9, abs=1e-15)


def test_the_end_is_a_mean_too():
    """The last loss weighs as much as in a window cut in half, not as much as all others together."""
    curve = smoothed(np.array([1.0] * 20 + [0.0]), 4, 21)
    # Mirrored, the window 1 2 3 4 5 4 3 2 1 over 25 falls on the last loss twice: at its centre, 5, and one beside it, 4.
    assert curve[-1] == pytest.approx(1 - 9 / 25, abs=1e-15)


@given(values=losses_of_any_kind, half_width=half_widths, bad=st.sampled_from([np.nan, np.inf, -np.inf]), tail=losses_of_any_kind)
def test_from_the_first_loss_that_is_not_finite_on_there_is_no_curve(values, half_width, bad, tail):
    planned = len(values) + 1 + len(tail)
    losses = np.concatenate([values, [bad], tail])
    curve = smoothed(losses, half_width, planned)
    assert clean_length(losses) == len(values)
    assert np.isnan(curve[len(values) :]).all()
    assert np.array_equal(curve[: len(values)], smoothed(values, half_width, planned))


def test_nothing_recorded_is_no_trouble():
    assert smoothed(np.array([]), 3, 100).shape == (0,)
    assert np.isnan(smoothed(np.array([np.nan, 1.0]), 3, 100)).all()


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
        assert np.array_equal(cut(rising, planned), rising)


# Batch noise taken out ------------------------------------------------------------------------------------------------------------

positive = st.floats(0.1, 10)
curves_of = st.integers(LEAST_COMPARED + 1, 60).flatmap(lambda n: arrays(np.float64, n, elements=positive))


@given(values=curves_of, data=st.data())
def test_what_every_batch_scales_by_drops_out(values, data):
    """Losses that are a trend times what the batch costs become the trend, on the level that the batches have together."""
    costs = data.draw(arrays(np.float64, len(values), elements=positive))
    assume(costs.min() > SAFE_RATIO * costs.mean())
    assert corrected(values * costs, costs) == pytest.approx(values * costs.mean(), rel=1e-12)


@given(trend=arrays(np.float64, 30, elements=levels), costs=arrays(np.float64, 30, elements=levels))
def test_what_every_batch_adds_drops_out_where_costs_may_be_zero_or_less(trend, costs):
    assume(not costs.min() > SAFE_RATIO * costs.mean() > 0)
    assert corrected(trend + costs, costs) == pytest.approx(trend + costs.mean(), rel=1e-9, abs=1e-9)  # 1e6 and less, to 1e-16


@given(costs=arrays(np.float64, 30, elements=levels))
def test_weights_that_did_not_move_give_a_level_curve(costs):
    assert corrected(costs, costs) == pytest.approx(np.full(30, costs.mean()), rel=1e-12, abs=1e-9)


def test_the_correction_is_for_batches_in_the_same_order():
    generator = np.random.default_rng(0)
    costs = generator.uniform(0.5, 5.0, 40)
    trend = np.linspace(1, 0.5, 40)
    assert steadies(trend * costs, costs)
    assert not steadies(trend * costs, generator.permutation(costs))  # it would add their noise to that of the losses
    assert steadies(np.ones(40), np.ones(40))  # nothing to correct: no harm done


def test_only_the_first_losses_are_compared():
    """Towards the end the losses move by more than batches differ, which says nothing about the order."""
    costs = np.random.default_rng(0).uniform(0.5, 5.0, 40)
    losses = costs.copy()
    losses[LEAST_COMPARED:] = np.geomspace(1, 1e9, 40 - LEAST_COMPARED)
    assert steadies(losses, costs)


@given(values=st.lists(st.floats(0.5, 2.0), min_size=2, max_size=20), shift=st.sampled_from([0.0, -1.2]))
def test_one_loss_is_corrected_as_among_all(values, shift):
    """While a sweep runs only the last loss is looked at, with the baseline of all batches beside it."""
    baseline = np.array(values) + shift
    losses = baseline[::-1] * 0.7
    whole = corrected(losses, baseline)
    single = [corrected(losses[i : i + 1], baseline[i : i + 1], baseline)[0] for i in range(len(losses))]
    assert single == pytest.approx(whole.tolist(), rel=1e-12)
