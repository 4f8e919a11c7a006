"""No curve of any shape gives a crash, a NaN or a learning rate beyond the last clean point: it gives one, or says why not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from curves import make_curve, make_limit
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from hessian.codec import LARGEST_LOSS, LARGEST_LR, SMALLEST_LR
from hessian.errors import NoSuggestionError
from hessian.result_base import Result, save_figure
from lrfinder import suggest_lr
from lrfinder.basin import find_basin
from lrfinder.curve import LRCurve, Status
from lrfinder.results import ProbeRun, Probes, Schedule
from lrfinder.rules import RULES
from lrfinder.smoothing import MANY, smooth, triangular_mean

MAGNITUDES = [1.0, 1e-300, 1e-155, 1e155, 1e300, 5e-324, 1.7e308]
SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1e300, -1e300, 1.7976931348623157e308]


@st.composite
def losses(draw: Any) -> list[float]:
    """Anything: free numbers, few values that tie, walks of every magnitude, with a blow-up or something special put in."""
    few = draw(st.lists(st.floats(allow_nan=False), min_size=1, max_size=3))
    entries = draw(st.sampled_from([st.floats(), st.sampled_from(few), st.floats(-3, 3), st.floats(0, 1)]))
    values = draw(st.lists(entries, min_size=1, max_size=60))
    if draw(st.booleans()):
        scale = draw(st.sampled_from(MAGNITUDES))
        values = [min(max(value, -1.0), 1.0) * scale for value in values]
    if draw(st.booleans()):
        values.sort(reverse=True)
    for place in draw(st.lists(st.integers(0, len(values) - 1), max_size=2)):
        values[place] = draw(st.sampled_from(SPECIAL))
    return values


@st.composite
def grids(draw: Any, count: int) -> tuple[Any, str]:
    """Rising learning rates: exponential or linear, wide, or as close as floats can be."""
    if draw(st.booleans()):
        start = draw(st.sampled_from([1e-7, 1.0, 1e-300, 1e290, 1e-3]))
        steps = np.full(count - 1, draw(st.sampled_from([1, 3, 1000])))
        lrs = [start]
        for ulps in steps:
            lrs.append(lrs[-1] + ulps * math.ulp(lrs[-1]))
        return np.array(lrs), "linear"
    low, high = draw(st.sampled_from([(1e-7, 10.0), (SMALLEST_LR, LARGEST_LR), (SMALLEST_LR, 1e-290), (1e290, LARGEST_LR), (0.1, 0.2)]))
    mode = draw(st.sampled_from(["exponential", "linear"]))
    space = np.geomspace if mode == "exponential" else np.linspace
    return np.clip(space(low, high, count), low, high), mode


def metrics(count: int) -> Any:
    """Values of any kind, as many as there are losses: free ones, shares, and those that rise."""
    entries = st.sampled_from([st.floats(), st.floats(0, 1), st.sampled_from([0.1, 0.9, *SPECIAL])])
    free = entries.flatmap(lambda entry: st.lists(entry, min_size=count, max_size=count))
    return free | st.lists(st.floats(0, 1), min_size=count, max_size=count).map(sorted)


@st.composite
def curves(draw: Any) -> LRCurve:
    values = draw(losses())
    lrs, mode = draw(grids(len(values)))
    known = draw(st.sampled_from([(None, None), (32, 1000), (10, 10), (1, 2**62)]))
    kind = draw(st.sampled_from(["none", "positive", "any"]))
    entries = st.floats(1e-300, 1e300) if kind == "positive" else st.floats(-1e300, 1e300)
    baseline = [] if kind == "none" else draw(st.lists(entries, min_size=len(values), max_size=len(values)))
    return make_curve(
        values,
        lrs,
        mode=mode,
        status=draw(st.sampled_from(get_args(Status))),
        smoothing=draw(st.sampled_from([0.0, 0.04, 0.5])),
        num_iter=draw(st.sampled_from([len(values), 100, 2**62])),
        batch_size=known[0],
        samples=known[1],
        baseline=baseline,
        metric=draw(st.just([]) | metrics(len(values))),
    )


runs = st.builds(
    ProbeRun,
    lr=st.floats(1e-300, 1e300),
    steps=st.just(20),
    after=st.floats(-LARGEST_LOSS, LARGEST_LOSS) | st.just(math.inf) | st.floats(0, 3),
)
some_probes = st.builds(
    Probes,
    before=st.floats(-LARGEST_LOSS, LARGEST_LOSS) | st.just(math.inf) | st.floats(0, 3),
    scored_on=st.just("data"),
    scored=st.just(64),
    share=st.just(0.2),
    runs=st.lists(runs, min_size=1, max_size=5).map(tuple),
)
plans = st.fixed_dictionaries(
    {
        "limit": st.none() | st.floats(1e-300, 1e300).map(make_limit),
        "probes": st.none() | some_probes,
        "total_steps": st.none() | st.integers(1, 2**63 - 1),
        "schedule": st.none() | st.sampled_from(get_args(Schedule)),
    }
)


def answer(curve: LRCurve, ask: Callable[[], Any]) -> Any:
    """The answer, or None if there is none to be had; no other error is allowed."""
    try:
        return ask()
    except NoSuggestionError as error:
        refusal = error
    assert refusal.curve is curve
    return None


def last_clean(curve: LRCurve) -> float:
    return float(curve.lrs[curve.clean - 1])


@pytest.mark.parametrize("rule", list(RULES))
@given(curve=curves())
def test_a_rule_answers_within_the_clean_range_or_says_why_not(rule, curve):
    lr = answer(curve, lambda: curve.suggest(rule))
    if lr is None:
        return
    lowest = float(curve.lrs[0]) / (10 if rule == "minimum" else 1)  # "minimum" is a tenth of an LR of the sweep by definition
    assert lowest <= lr <= last_clean(curve)
    assert math.isfinite(lr)


@settings(max_examples=300)
@given(curve=curves(), plan=plans)
def test_a_suggestion_is_positive_and_never_above_the_last_clean_point(curve, plan):
    """It may lie below the sweep: a long training of a sweep that starts high asks for that."""
    found = answer(curve, lambda: suggest_lr(curve, **plan))
    if found is None:
        return
    low, high = found.interval
    assert 0 < low <= found.lr <= high <= last_clean(curve)
    assert all(math.isfinite(value) for value in (found.midpoint, *found.basin, *found.factors.values()))
    assert math.isfinite(found.lr)
    assert str(found)
    assert Result.from_dict(json.loads(found.to_json())) == found


@settings(max_examples=300)
@given(curve=curves())
def test_a_cyclical_range_lies_within_the_clean_range_and_is_one(curve):
    found = answer(curve, lambda: curve.clr_range())
    assert curve.smooth_metric.shape == curve.metric.shape
    if found is None:
        return
    base, top = found
    assert curve.lrs[0] <= base < top <= last_clean(curve)
    assert {base, top} <= {*curve.lrs.tolist()}


def test_cyclical_ranges_are_found_among_such_curves():
    found = settings(phases=[Phase.generate], max_examples=1000)
    find(curves(), lambda curve: len(curve.metric) > 0 and answer(curve, lambda: curve.clr_range()) is not None, settings=found)


@given(curve=curves())
def test_a_basin_lies_within_the_clean_range(curve):
    found = answer(curve, lambda: find_basin(curve))
    if found is None:
        return
    low, high = math.log10(curve.lrs[0]), math.log10(last_clean(curve))
    assert low - 1e-9 <= found.left <= found.midpoint <= found.right <= high + 1e-9  # log10 of numpy and of math differ in the last bit
    assert found.points >= 1
    assert found.decrease > 0
    assert math.isfinite(found.noise)


@given(curve=curves())
def test_a_smoothed_loss_is_finite_as_long_as_the_losses_are_and_no_better_than_the_best(curve):
    clean = curve.clean
    assert np.isfinite(curve.smooth[:clean]).all()
    assert np.isnan(curve.smooth[clean:]).all()
    used = curve.corrected[:clean]
    slack = 1e-9 * np.abs(used).max(initial=0) + 1e-307  # subnormal numbers have fewer digits
    assert (curve.smooth[:clean] >= used.min(initial=math.inf) - slack).all()
    assert (curve.smooth[:clean] <= used.max(initial=-math.inf) + slack).all()


@given(curve=curves())
def test_any_curve_prints_and_comes_back_from_json(curve):
    assert str(curve).startswith("range test ")
    assert Result.from_dict(json.loads(curve.to_json())) == curve
    assert len(curve.rows()) == len(curve.lrs) + 1
    assert {len(row) for row in curve.rows()} == {3 + (len(curve.metric) > 0)}


@settings(max_examples=25)
@given(curve=curves(), plan=plans)
def test_any_curve_and_any_suggestion_can_be_drawn(tmp_path_factory, curve, plan):
    path = tmp_path_factory.mktemp("drawn") / "lr.png"
    save_figure(curve.plot(), path)
    try:
        found = suggest_lr(curve, **plan)
    except NoSuggestionError:
        return
    save_figure(found.plot(), path)
    assert path.stat().st_size > 0


def test_a_long_training_of_a_sweep_that_starts_high_asks_for_less_than_the_sweep_tried():
    falling = make_curve(np.r_[np.full(5, 2.0), np.full(15, 1.0), 9.0], np.geomspace(1e-3, 3e-3, 21), status="diverged")
    found = suggest_lr(falling, total_steps=100_000, schedule="constant")
    assert 0 < found.lr < falling.lrs[0]


# A million points -----------------------------------------------------------------------------------------------------------------

MILLION = 1_000_000
SHAPES = {
    "valley": lambda x: 2.3 - 2 / (1 + np.exp(-(x + 3) / 0.3)) + np.exp(np.minimum(6 * x, 50)),
    "noise": lambda x: np.random.default_rng(0).normal(size=len(x)),
    "falls": lambda x: -x,
    "huge and alternating": lambda x: 1e300 * (-1.0) ** np.arange(len(x)),
    "flat": lambda x: np.ones(len(x)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_million_points_are_no_trouble(shape):
    """Wide windows and long searches would take hours here if their time or memory grew with the square."""
    x = np.linspace(-7, 1, MILLION)
    curve = make_curve(SHAPES[shape](x), 10**x, smoothing=0.04)
    answers = curve.suggestions()
    try:
        answers["suggestion"] = suggest_lr(curve).lr
    except NoSuggestionError:
        assert shape != "valley"
    assert all(curve.lrs[0] / 1e4 <= lr <= curve.lrs[-1] for lr in answers.values())


@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_a_wide_window_is_the_same_mean_in_less_time(spread):
    count = 20_000
    values = 7 + spread * np.random.default_rng(0).normal(size=count)
    half = MANY // count + 1
    assert triangular_mean(values, half) == pytest.approx(
        np.convolve(np.pad(values, half, mode="symmetric"), triangle(half), "valid"), abs=1e-12
    )


def triangle(half: int) -> Any:
    weights = (half + 1 - np.abs(np.arange(-half, half + 1))).astype(float)
    return weights / weights.sum()


def test_a_window_far_wider_than_the_curve_is_no_trouble():
    values = np.arange(20.0)
    assert smooth(values, 2**62, values[0]) == pytest.approx(np.full(20, 9.5), abs=0.5)
