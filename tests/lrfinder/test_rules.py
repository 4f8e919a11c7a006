"""Every rule, through ``LRCurve.suggest``: derived answers, a second implementation, and checks that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from curves import brute_slide, brute_valley, make_curve
from hypothesis import assume, given
from hypothesis import strategies as st

import lrfinder
from hessian.errors import BadArgument, NoSuggestionError
from lrfinder.curve import LRCurve
from lrfinder.rules import BREAKS, RULES, falling_lengths

EVERY_RULE = pytest.mark.parametrize("rule", list(RULES))
LOW, HIGH = -6.0, 1.0
Shape = Callable[[Any], Any]  # log10 of the LR -> loss


# Derived answers ----------------------------------------------------------------------------------------------------------------


@given(steepness=st.floats(0.8, 12), place=st.integers(25, 75), smoothing=st.sampled_from([0.0, 0.04]))
def test_steepest_is_the_centre_of_a_logistic_fall(steepness, place, smoothing):
    lrs = np.geomspace(1e-6, 1e1, 101)
    losses = 1 / (1 + (lrs / lrs[place]) ** steepness)  # a logistic in log LR; per unit of LR it would be steepest below the centre
    window = round(101 * smoothing)
    assume(steepness * np.log(10) * 0.07 * (min(place, 100 - place) - window) > 3)  # the fall is inside, the mirrored ends outside
    assert make_curve(losses, lrs, smoothing=smoothing).suggest("steepest") == pytest.approx(lrs[place], rel=1e-9)


@given(place=st.integers(5, 55), curvature=st.floats(0.01, 100), level=st.floats(-10, 10))
def test_minimum_is_a_tenth_of_a_parabolas_lowest_point(place, curvature, level):
    x = np.linspace(-4, 2, 61)
    curve = make_curve(level + curvature * (x - x[place]) ** 2, 10**x)
    assert curve.suggest("minimum") == pytest.approx(10 ** (x[place] - 1), rel=1e-12)


def test_valley_by_hand():
    losses = [9, 9, 9, 8, 7, 9, 6, 5, 9, 9, 9, 9]
    # The longest falling subsequence is 9 8 7 6 5: five members, ending at index 7. Start 7 - 5 = 2, a third of 5 is 1.67: 2 + 1 + 0.
    curve = make_curve(losses, np.arange(1.0, 13.0), mode="linear")
    assert curve.suggest("valley") == curve.lrs[3]


def test_valley_by_hand_of_a_loss_that_only_falls():
    curve = make_curve(np.arange(20.0, 0.0, -1.0), np.arange(1.0, 21.0), mode="linear")
    # All twenty are members and the last has index 19: start -1, a third 6.67, half of that 3.33: -1 + 6 + 3.
    assert curve.suggest("valley") == curve.lrs[8]


@given(st.lists(st.integers(0, 12) | st.floats(0, 12), min_size=10, max_size=70))
def test_valley_is_that_of_a_quadratic_search(losses):
    curve = make_curve(losses)
    if np.diff(curve.smooth).min() < 0:
        assert curve.suggest("valley") == brute_valley(curve.lrs, curve.smooth)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_lengths_of_falling_subsequences(values):
    expected = []
    for i, value in enumerate(values):
        expected.append(1 + max((expected[j] for j in range(i) if values[j] > value), default=0))
    assert falling_lengths(np.array(values, dtype=float)).tolist() == expected


def test_slide_by_hand():
    losses = np.interp(np.arange(30), [10, 20], [1.0, 0.0])  # level, a fall of 0.1 a point, level
    # The window's right end stands on the level part throughout. Its left end starts at 14, on the slope, and moves until the slope
    # there is level too: at 10 it is still -0.05 (half of it falls), at 9 it is 0. The answer is the last place before that.
    curve = make_curve(losses)
    assert curve.suggest("slide") == curve.lrs[10]


def test_slide_by_hand_where_both_ends_are_level_at_once():
    losses = np.interp(np.arange(40), [3, 6], [1.0, 0.0])
    curve = make_curve(losses)  # ends 24 and 39 both lie on the level part: the window stays where it starts
    assert curve.suggest("slide") == curve.lrs[24]


@given(st.lists(st.floats(0, 1), min_size=10, max_size=60), st.sampled_from([0.0, 0.05, 0.1]))
def test_slide_is_that_of_a_second_implementation(losses, smoothing):
    curve = make_curve(losses, smoothing=smoothing)
    if np.diff(curve.smooth).min() < 0:
        assert curve.suggest("slide") == brute_slide(curve.lrs, curve.smooth)


# Common checks ------------------------------------------------------------------------------------------------------------------


def valley_shape(centre: float = -3.0, width: float = 0.5, depth: float = 2.0, rise: float = -0.5) -> Shape:
    """A logistic fall, then an exponential rise. No stretch is so level that rounding decides what falls."""
    return lambda x: 2.3 - depth / (1 + np.exp(-(x - centre) / width)) + 0.05 * depth * np.exp((x - rise) / 0.4)


def rough_shape(x: Any) -> Any:
    """A slow decline, a fall, a rise, and noise that changes sign from step to step, as batches do whatever the LR."""
    losses = np.interp(x, [-6, -2, -1, 1], [1.1, 1.0, 0.0, 3.0])
    fall = (x > -2) & (x < -1)
    losses[fall] = (1 + np.cos(np.pi * (x[fall] + 2))) / 2
    return losses + 7e-4 * (-1.0) ** np.arange(len(x))


SHAPES: dict[str, Shape] = {
    "wide": valley_shape(),
    "narrow": valley_shape(width=0.3, centre=-4.0),
    "late": valley_shape(centre=-2.0, rise=0.2),
    "shallow": valley_shape(depth=0.2),
    "rough": rough_shape,
}


def sample(shape: Shape, points: int = 71, *, a: float = 1.0, b: float = 0.0, k: float = 1.0) -> LRCurve:
    x = np.linspace(LOW, HIGH, points)
    return make_curve(a * shape(x) + b, k * 10**x, smoothing=0.0 if shape is rough_shape else 0.04)


def steps_apart(rule: str, one: LRCurve, other: LRCurve, k: float = 1.0) -> float:
    """Distance of two answers in grid steps of ``one``."""
    ratio = other.suggest(rule) / (k * one.suggest(rule))
    return float(abs(np.log(ratio)) / np.log(one.lrs[1] / one.lrs[0]))


def in_other_loss_units(rule: str, shape: Shape, a: float = 100.0, b: float = -7.0) -> float:
    return steps_apart(rule, sample(shape), sample(shape, a=a, b=b))


def in_other_lr_units(rule: str, shape: Shape, k: float = 37.0) -> float:
    return steps_apart(rule, sample(shape), sample(shape, k=k), k)


def on_a_finer_grid(rule: str, shape: Shape, factor: int = 3) -> float:
    return steps_apart(rule, sample(shape), sample(shape, 70 * factor + 1))


def with_a_nan_tail(rule: str, shape: Shape, tail: int = 4) -> float:
    whole = sample(shape)
    losses = np.concatenate([whole.losses[:-tail], [np.nan, 0.0, np.inf, -1.0][:tail]])
    cut = make_curve(whole.losses[:-tail], whole.lrs[:-tail], num_iter=71, smoothing=whole.smoothing)
    return steps_apart(rule, cut, make_curve(losses, whole.lrs, smoothing=whole.smoothing))


# The check, and how many grid steps apart two answers may be: two neighbours that tie may be told apart by rounding, and on a finer grid
# each answer is rounded to its own grid, while the smoothing window is a whole number of points.
CHECKS: dict[str, tuple[Callable[..., float], float]] = {
    "loss_units": (in_other_loss_units, 1.01),
    "lr_units": (in_other_lr_units, 1.01),
    "finer_grid": (on_a_finer_grid, 2.01),
    "nan_tail": (with_a_nan_tail, 0.0),
}
MAY_BREAK = {"loss_units", "finer_grid"}  # as the docstring of ``rule`` says; no rule may break the others


def failed_checks(rule: str) -> set[str]:
    """Checks that the rule fails on some shape."""
    return {name for name, (check, most) in CHECKS.items() if any(check(rule, shape) > most for shape in SHAPES.values())}


@EVERY_RULE
def test_a_rule_fails_exactly_the_checks_it_declares(rule):
    assert set(BREAKS[rule]) <= MAY_BREAK
    assert failed_checks(rule) == set(BREAKS[rule])


shapes = st.builds(valley_shape, centre=st.floats(-4.5, -2), width=st.floats(0.25, 0.8), depth=st.floats(0.1, 3), rise=st.floats(-1, 0))


@EVERY_RULE
@given(shape=shapes, a=st.floats(1e-3, 1e3), b=st.floats(-100, 100))
def test_answers_do_not_depend_on_the_units_of_the_loss(rule, shape, a, b):
    if "loss_units" not in BREAKS[rule]:
        assert in_other_loss_units(rule, shape, a, b) <= CHECKS["loss_units"][1]


@EVERY_RULE
@given(shape=shapes, k=st.floats(1e-4, 1e4))
def test_answers_scale_with_the_learning_rates(rule, shape, k):
    assert in_other_lr_units(rule, shape, k) <= CHECKS["lr_units"][1]


@EVERY_RULE
@given(shape=shapes, factor=st.integers(2, 8))
def test_answers_are_steady_under_a_finer_grid(rule, shape, factor):
    if "finer_grid" not in BREAKS[rule]:
        assert on_a_finer_grid(rule, shape, factor) <= CHECKS["finer_grid"][1]


@EVERY_RULE
@given(shape=shapes, tail=st.integers(1, 4))
def test_answers_ignore_what_follows_the_first_nan(rule, shape, tail):
    assert with_a_nan_tail(rule, shape, tail) == 0


@EVERY_RULE
@given(level=st.floats(-1e6, 1e6), points=st.integers(10, 120), smoothing=st.sampled_from([0.0, 0.04, 0.2, 0.5]))
def test_a_flat_curve_gives_no_suggestion(rule, level, points, smoothing):
    curve = make_curve(np.full(points, level), smoothing=smoothing)
    with pytest.raises(NoSuggestionError, match=r"never falls.*raise end_lr") as caught:
        curve.suggest(rule)
    assert caught.value.curve is curve


@EVERY_RULE
@given(
    rises=st.lists(st.floats(1e-6, 1e6), min_size=10, max_size=80),
    start=st.floats(-1e3, 1e3),
    smoothing=st.sampled_from([0.0, 0.04, 0.2]),
)
def test_a_rising_curve_gives_no_suggestion(rule, rises, start, smoothing):
    with pytest.raises(NoSuggestionError, match=r"never falls"):
        make_curve(start + np.cumsum(rises), smoothing=smoothing).suggest(rule)


@EVERY_RULE
def test_a_hundred_thousand_points_are_no_trouble(rule):
    curve = sample(valley_shape(), 100_001)
    assert curve.lrs[0] / 10 <= curve.suggest(rule) <= curve.lrs[-1]


# Rules of one's own -------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def registry(monkeypatch) -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    for table in (RULES, BREAKS):
        for name, value in list(table.items()):
            monkeypatch.setitem(table, name, value)
    known = set(RULES)
    yield
    for name in set(RULES) - known:
        del RULES[name], BREAKS[name]


def test_a_rule_of_ones_own_runs_through_the_same_checks():
    @lrfinder.rule("halfway")
    def halfway(lr, loss):
        """Where half of the fall is done."""
        low = loss.argmin()
        if low == 0:
            raise NoSuggestionError("it never falls.")
        return float(np.interp(-(loss[0] + loss[low]) / 2, -loss[: low + 1], lr[: low + 1])) if loss[low] < loss[0] else float(lr[low])

    curve = sample(SHAPES["wide"])
    assert curve.suggest("halfway") == halfway(curve.lrs, curve.smooth)
    assert "halfway" in curve.suggestions()
    assert failed_checks("halfway") == set()


def test_the_checks_catch_rules_that_depend_on_units():
    @lrfinder.rule("below_one")
    def below_one(lr, loss):
        return float(lr[np.argmax(loss < 1.0)])

    @lrfinder.rule("per_unit_of_lr")
    def per_unit_of_lr(lr, loss):
        return float(lr[np.argmin(np.gradient(loss) * (lr < 1e-4))])

    @lrfinder.rule("twentieth_point")
    def twentieth_point(lr, loss):
        return float(lr[20])

    @lrfinder.rule("last_point")
    def last_point(lr, loss):
        return float(lr[-1] * (1 + np.isfinite(loss).mean()))

    assert "loss_units" in failed_checks("below_one")
    assert "lr_units" in failed_checks("per_unit_of_lr")
    assert failed_checks("twentieth_point") == {"finer_grid"}
    assert failed_checks("last_point") == set()  # it never sees what follows the NaN


def test_an_error_of_a_rule_carries_the_curve_and_its_own_words():
    @lrfinder.rule("refuses")
    def refuses(lr, loss):
        raise NoSuggestionError("not on a Monday; wait.")

    curve = sample(SHAPES["wide"])
    with pytest.raises(NoSuggestionError, match=r"^not on a Monday; wait\.$") as caught:
        curve.suggest("refuses")
    assert caught.value.curve is curve
    assert "refuses" not in curve.suggestions()


def test_a_rule_gets_smooth_finite_rising_input():
    seen = []

    @lrfinder.rule("watcher")
    def watcher(lr, loss):
        seen.append((lr, loss))
        return 1.0

    curve = make_curve([3.0, 1.0, 2.0, *np.linspace(2, 1, 9), np.nan, 5.0], smoothing=0.1)
    curve.suggest("watcher")
    assert np.array_equal(seen[0][0], curve.lrs[:12])
    assert np.array_equal(seen[0][1], curve.smooth[:12])
    assert np.isfinite(seen[0][1]).all()


def test_an_unknown_rule_is_refused_with_the_list():
    with pytest.raises(BadArgument, match=r"rule 'steepst' is unknown; choose one of minimum, slide, steepest, valley, or register yours"):
        sample(SHAPES["wide"]).suggest("steepst")


def test_a_rule_looks_at_no_curve_of_fewer_than_ten_finite_points():
    curve = make_curve([3, 2, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, np.nan, 1.0], status="nonfinite")
    with pytest.raises(
        NoSuggestionError, match=r"only 9 finite points \(status nonfinite\).*check the data and the loss for NaN"
    ) as caught:
        curve.suggest()
    assert caught.value.curve is curve
    assert curve.suggestions() == {}
