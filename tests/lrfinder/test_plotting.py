"""The picture: every element is there, at the value it stands for, in sight, and tells itself apart in black and white."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation

import lrfinder
from hessian.errors import BadArgument, BadType
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.curve import LRCurve
from lrfinder.results import Confirmation, Suggestion

SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
RULES = ("steepest", "minimum", "valley", "slide")


def make_curve(**changes: Any) -> LRCurve:
    """A sweep from 1e-6 to 1 that starts to fall at 1e-3, is lowest at 0.1 and has broken at 1."""
    lrs = np.geomspace(1e-6, 1.0, 100)
    noise = np.random.default_rng(0).normal(0, 0.01, len(lrs))
    losses = 0.4 + 2 / (1 + (lrs / 5e-3) ** 2) + 9 * lrs**2 + noise
    fields = {"lrs": lrs, "losses": losses, "status": "diverged", "mode": "exponential", "start_lr": 1e-6, "end_lr": 1.0}
    circumstances = {"num_iter": 100, "stop_factor": 4.0, "smoothing": 0.04, "seed": 7, "batch_size": 32, "samples": 3200}
    return LRCurve(**{**fields, **circumstances, "model": "Net", "optimizer": "SGD(momentum=0.9)", **changes})


def linear_curve() -> LRCurve:
    """As in Smith's paper: the LR rises by the same amount each step."""
    lrs = np.linspace(0.01, 1.0, 100)
    return make_curve(lrs=lrs, losses=2 * np.exp(-6 * lrs) + 0.3 + 5 * lrs**8, mode="linear", start_lr=0.01)


def make_limit(lr: float = 0.3) -> StableLR:
    """A curvature limit for the same training."""
    fields = {"sharpness": 3.8 / lr, "residual": 0.01, "converged": True, "hvps": 12, "gradients": 4, "formula": "3.8 / sharpness"}
    circumstances = {"preconditioned": False, "mode": "train", "num_batches": 4, "batch_size": 32, "tol": 0.01, "seed": 7}
    wider = {"curvature_lr": lr, "noise_lr": None, "first_step_lr": None, "bound": 4 / lr, "by_parameter": {"weight": 1.0}, "doubts": ()}
    words = {"method": "autograd", "along": "hessian", "model": "Net", "optimizer": "SGD(momentum=0.9)"}
    return StableLR(lr=lr, **fields, **circumstances, **wider, **words)


def make_suggestion(curve: LRCurve | None = None, **changes: Any) -> Suggestion:
    found = lrfinder.suggest_lr(make_curve() if curve is None else curve, make_limit(), total_steps=1000)
    return replace(found, **changes)


def axes_of(*results: Result) -> Axes:
    (ax,) = lrfinder.plot(*results).axes
    return ax


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def band(ax: Axes, label: str) -> Any:
    """The only band whose label begins so."""
    (patch,) = [patch for patch in ax.patches if str(patch.get_label()).startswith(label)]
    return patch


def hatched(ax: Axes) -> list[Any]:
    return [patch for patch in ax.patches if patch.get_hatch()]


def span(patch: Any) -> tuple[float, float]:
    """Where a band begins and ends on the LR axis."""
    lrs = patch.get_patch_transform().transform(patch.get_path().vertices)[:, 0]
    return float(lrs.min()), float(lrs.max())


def line(ax: Axes, label: str) -> Any:
    (found,) = [found for found in ax.lines if str(found.get_label()).startswith(label)]
    return found


def upright(ax: Axes) -> dict[float, float]:
    """Width of the full-height solid lines, by LR."""
    lines = [line for line in ax.lines if list(line.get_ydata()) == [0, 1] and line.get_linestyle() == "-"]
    return {float(line.get_xdata()[0]): line.get_linewidth() for line in lines}


def captions(ax: Axes) -> list[Annotation]:
    return [text for text in ax.texts if isinstance(text, Annotation)]


def drawn(ax: Axes) -> Figure:
    """The figure with every text in its final place."""
    figure = ax.figure
    figure.draw_without_rendering()
    return figure


# Elements ---------------------------------------------------------------------------------------------------------------------


def test_the_curve_shows_every_raw_loss_and_the_smooth_line():
    curve = make_curve()
    ax = axes_of(curve)
    raw, smooth = line(ax, "loss of one batch"), line(ax, "smoothed")
    assert raw.get_linestyle() == "None"
    assert raw.get_marker() == "."
    np.testing.assert_array_equal(raw.get_xdata(), curve.lrs)
    np.testing.assert_array_equal(raw.get_ydata(), curve.losses)
    assert smooth.get_linestyle() == "-"
    np.testing.assert_array_equal(smooth.get_xdata(), curve.lrs)
    np.testing.assert_array_equal(smooth.get_ydata(), curve.smooth)


def test_the_axes_are_named_and_the_title_says_what_was_measured():
    ax = axes_of(make_suggestion())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss")
    for word in ("suggested lr", "1cycle peak, 1,000 steps", "agree", "Net, SGD(momentum=0.9), batch 32, seed 7"):
        assert word in ax.get_title(loc="left").replace("\n", " ")


def test_everything_from_the_break_on_is_shaded():
    ax = axes_of(make_curve())
    left, right = span(band(ax, "loss breaks at 1"))
    assert left == 1.0
    assert right >= ax.get_xlim()[1] > 1.0


def test_a_sweep_that_did_not_break_has_no_shade():
    ax = axes_of(make_curve(status="completed"))
    assert not ax.patches
    assert not [label for label in labels(ax) if "break" in label]


def test_everything_from_the_curvature_limit_on_is_hatched():
    ax = axes_of(make_curve(), make_limit(0.3))
    (patch,) = hatched(ax)
    left, right = span(patch)
    assert left == 0.3
    assert right >= ax.get_xlim()[1]
    dashes = line(ax, "curvature limit 0.3")
    assert list(dashes.get_xdata()) == [0.3, 0.3]
    assert dashes.is_dashed()


def test_the_suggestion_is_the_boldest_line_with_its_value_written_out():
    found = make_suggestion(lr=0.0123)
    ax = axes_of(found)
    assert list(upright(ax)) == [0.0123]
    assert upright(ax)[0.0123] > max(other.get_linewidth() for other in ax.lines if list(other.get_xdata()) != [0.0123, 0.0123])
    (caption,) = captions(ax)
    assert caption.get_text() == "lr 0.012"
    assert caption.xy[0] == 0.0123
    assert caption.get_fontsize() > ax.xaxis.label.get_fontsize()


def test_the_good_range_is_a_band_with_its_ends_written_out():
    ax = axes_of(make_suggestion(interval=(0.004, 0.03)))
    assert span(band(ax, "good range 0.004 to 0.03")) == (0.004, 0.03)
    dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted == [0.004, 0.03]


def test_every_rule_has_a_tick_at_its_value_and_no_two_look_alike():
    curve = make_curve()
    ax = axes_of(curve)
    assert tuple(curve.suggestions()) == RULES
    ticks = {name: line(ax, name) for name in RULES}
    for name, tick in ticks.items():
        assert list(tick.get_xdata()) == [curve.suggest(name)]
        assert tick.get_label() == f"{name} {curve.suggest(name):.2g}"
    assert len({tick.get_marker() for tick in ticks.values()}) == len(RULES)
    assert len({tick.get_ydata()[0] for tick in ticks.values()}) == len(RULES)  # two rules with one answer both stay visible


def test_a_rule_that_finds_nothing_has_no_tick():
    flat = make_curve(losses=np.linspace(1.0, 2.0, 100))
    assert flat.suggestions() == {}
    assert labels(axes_of(flat)) == ["loss of one batch", "smoothed", "loss breaks at 1"]


def test_a_users_own_rule_gets_a_tick(monkeypatch: pytest.MonkeyPatch):
    from lrfinder import rules

    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    monkeypatch.setattr(rules, "BREAKS", dict(rules.BREAKS))
    monkeypatch.setattr("lrfinder.curve.RULES", rules.RULES)
    lrfinder.rule("mine")(lambda lr, loss: 0.0042)
    assert list(line(axes_of(make_curve()), "mine 0.0042").get_xdata()) == [0.0042]


def test_the_legend_holds_every_element_once():
    assert labels(axes_of(make_suggestion(interval=(0.004, 0.03)))) == [
        "loss of one batch",
        "smoothed",
        "loss breaks at 1",
        "curvature limit 0.3",
        "good range 0.004 to 0.03",
        *(f"{name} {lr:.2g}" for name, lr in make_curve().suggestions().items()),
    ]


# One Axes, many results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [make_curve(), make_limit(), make_suggestion()], ids=["curve", "limit", "suggestion"])
def test_it_draws_on_the_callers_axes_and_returns_their_figure(result: Result):
    figure = Figure()
    mine, other = figure.subplots(1, 2)
    assert lrfinder.plot(result, ax=mine) is figure
    assert result.plot(ax=mine) is figure
    assert mine.has_data()
    assert not other.has_data()
    assert figure.axes == [mine, other]


def test_axes_in_a_subfigure_give_the_whole_figure(tmp_path: Path):
    figure = Figure()
    ax = figure.subfigures(1, 2)[0].add_subplot()
    assert make_curve().plot(tmp_path / "lr.png", ax=ax) is figure


def test_several_curves_differ_in_name_colour_and_line_style():
    curves = [make_curve(), make_curve(optimizer="Adam", status="completed"), make_curve(optimizer="RMSprop")]
    ax = axes_of(*curves)
    assert labels(ax) == ["SGD(momentum=0.9), breaks at 1", "Adam", "RMSprop, breaks at 1"]
    lines = [line(ax, label) for label in labels(ax)]
    assert len({found.get_color() for found in lines}) == 3
    assert len({found.get_linestyle() for found in lines}) == 3
    assert len(ax.lines) == 6  # raw and smooth of each; ticks of the rules would be nobody's


def test_curves_of_one_optimizer_are_numbered():
    assert labels(axes_of(make_curve(), make_curve(seed=8))) == ["1 SGD(momentum=0.9), breaks at 1", "2 SGD(momentum=0.9), breaks at 1"]


def test_more_curves_than_colours_are_drawn_all_the_same():
    assert len(labels(axes_of(*[make_curve(seed=seed) for seed in range(9)]))) == 9


def test_several_suggestions_have_the_colours_of_their_curves_and_apart_from_each_other():
    ax = axes_of(make_suggestion(lr=0.01), make_suggestion(make_curve(optimizer="Adam"), lr=0.011))
    first, second = captions(ax)
    drawn(ax)
    assert not first.get_window_extent().overlaps(second.get_window_extent())
    curves = [line(ax, "SGD"), line(ax, "Adam")]
    assert [caption.get_color() for caption in (first, second)] == [curve.get_color() for curve in curves]
    assert set(upright(ax)) == {0.01, 0.011}


def test_two_calls_on_one_axes_overlay():
    curve, limit = make_curve(), make_limit(5.0)
    ax = Figure().add_subplot()
    curve.plot(ax=ax)
    title, losses = ax.get_title(loc="left"), ax.get_ylim()
    limit.plot(ax=ax)
    assert ax.get_xlim()[0] < curve.lrs[0]
    assert ax.get_xlim()[1] > 5.0
    assert (ax.get_title(loc="left"), ax.get_ylim()) == (title, losses)
    assert span(band(ax, "loss breaks"))[1] >= ax.get_xlim()[1]
    assert {"smoothed", "loss breaks at 1", "curvature limit 5"} <= set(labels(ax))


def test_the_order_of_the_two_calls_does_not_matter():
    curve, limit = make_curve(), make_limit(5.0)
    ax = Figure().add_subplot()
    lrfinder.plot(limit, ax=ax)
    lrfinder.plot(curve, ax=ax)
    low, high = ax.get_ylim()
    assert low < curve.smooth.min() < curve.initial < high
    assert ax.yaxis.get_visible()
    assert ax.get_xlim()[0] < curve.lrs[0]
    assert ax.get_xlim()[1] > 5.0
    assert {"smoothed", "curvature limit 5"} <= set(labels(ax))


def test_a_second_curve_does_not_push_the_first_out_of_sight():
    ax = Figure().add_subplot()
    make_curve().plot(ax=ax)
    make_curve(lrs=make_curve().lrs * 1e-4, losses=make_curve().losses + 3).plot(ax=ax)
    assert ax.get_xlim()[0] < 1e-10
    assert ax.get_xlim()[1] > 1.0
    assert ax.get_ylim()[0] < make_curve().smooth.min()
    assert ax.get_ylim()[1] > make_curve().initial + 3


@pytest.mark.parametrize("draw", [lrfinder.plot, StableLR.plot])
def test_a_limit_alone_has_no_loss_axis(draw: Any):
    (ax,) = draw(make_limit(0.3)).axes
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < 0.03
    assert ax.get_xlim()[1] > 1.0
    assert not ax.yaxis.get_visible()
    assert len(hatched(ax)) == 1
    assert labels(ax) == ["curvature limit 0.3"]
    assert "stable up to 0.3" in ax.get_title(loc="left") + ax.get_title()


# The metric -------------------------------------------------------------------------------------------------------------------


def with_metric(**changes: Any) -> LRCurve:
    """An accuracy that rises from 0.1 to 0.9 while the loss falls, and falls where it breaks."""
    x = np.linspace(-6, 0, 100)
    accuracy = 0.1 + 0.8 / (1 + np.exp(-6 * (x + 2.5))) - 0.5 / (1 + np.exp(-12 * (x + 0.3)))
    return make_curve(metric=accuracy, metric_name="accuracy", **changes)


def test_the_metric_has_its_own_axis_on_the_right_and_its_place_in_the_legend():
    curve = with_metric()
    ax, right = lrfinder.plot(curve).axes
    raw, smooth, marks = right.lines
    np.testing.assert_array_equal(raw.get_ydata(), curve.metric)
    np.testing.assert_array_equal(smooth.get_ydata(), curve.smooth_metric)
    assert tuple(marks.get_xdata()) == curve.clr_range()
    assert (right.get_ylabel(), right.yaxis.get_label_position(), ax.get_ylabel()) == ("accuracy", "right", "loss")
    base, top = curve.clr_range()
    assert {"accuracy (right)", f"cyclical range {base:.2g} to {top:.2g}", "smoothed"} <= set(labels(ax))
    assert ax.get_xlim() == right.get_xlim()
    assert ax.get_ylim() == axes_of(make_curve()).get_ylim()


def test_losses_on_val_data_are_called_so():
    assert "loss on val_data" in labels(axes_of(make_curve(scored_on="val_data")))


def test_metrics_of_several_sweeps_and_calls_share_the_axis_on_the_right():
    figure = lrfinder.plot(with_metric(), with_metric(optimizer="Adam"))
    ax, right = figure.axes
    assert len(right.lines) == 6
    assert labels(ax) == ["SGD(momentum=0.9), breaks at 1", "Adam, breaks at 1"]
    with_metric().plot(ax=ax)
    assert figure.axes == [ax, right]
    assert len(right.lines) == 9


def test_a_metric_without_a_range_is_drawn_all_the_same(tmp_path: Path):
    _, right = lrfinder.plot(make_curve(metric=np.full(100, np.nan)), path=tmp_path / "lr.png").axes
    assert (len(right.lines), right.get_ylabel()) == (2, "metric")


# Scales and strange curves ------------------------------------------------------------------------------------------------------


def test_a_linear_sweep_has_a_linear_axis():
    ax = axes_of(linear_curve())
    assert ax.get_xscale() == "linear"
    low, high = ax.get_xlim()
    assert 0 <= low < 0.01
    assert 1.0 < high < 1.2


def test_a_linear_sweep_is_not_squeezed_into_a_corner_by_a_distant_limit():
    assert axes_of(linear_curve(), make_limit(0.8)).get_xscale() == "linear"
    assert axes_of(linear_curve(), make_limit(30.0)).get_xscale() == "log"
    assert axes_of(linear_curve(), make_curve()).get_xscale() == "log"


def test_a_limit_drawn_over_a_linear_sweep_keeps_its_axis():
    ax = Figure().add_subplot()
    linear_curve().plot(ax=ax)
    make_limit(0.8).plot(ax=ax)
    assert ax.get_xscale() == "linear"
    assert ax.yaxis.get_visible()


def test_what_lies_outside_the_sweep_is_brought_into_sight():
    low, high = axes_of(make_suggestion(lr=1e-8, interval=(1e-9, 1e-7)), make_limit(40.0)).get_xlim()
    assert low < 1e-9
    assert high > 40.0


def test_a_nan_tail_leaves_the_rest_of_the_picture_as_it_is():
    curve = make_curve()
    losses = curve.losses.copy()
    losses[-3:] = [np.inf, np.nan, np.nan]
    ax = axes_of(replace(curve, losses=losses, status="nonfinite"))
    assert np.isfinite(line(ax, "smoothed").get_ydata()).sum() == 97
    assert span(band(ax, "loss breaks at 1"))[0] == curve.lrs[-1]
    assert np.isfinite(ax.get_ylim()).all()


def test_an_explosion_does_not_flatten_the_valley():
    curve = make_curve()
    losses = curve.losses.copy()
    losses[-4:] = [1e2, 1e10, 1e20, 1e38]
    low, high = axes_of(replace(curve, losses=losses)).get_ylim()
    fall = curve.initial - curve.smooth.min()
    assert low < curve.smooth.min()
    assert curve.initial < high
    assert fall > (high - low) / 4


def test_losses_over_many_decades_get_a_logarithmic_axis():
    curve = make_curve()
    ax = axes_of(replace(curve, losses=1e30 * curve.losses**8))
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low < (1e30 * curve.losses**8).min() * 1e3
    assert high > 1e30 * curve.initial**8


def test_negative_losses_are_drawn_on_a_linear_axis():
    curve = make_curve(losses=make_curve().losses - 100)
    ax = axes_of(curve)
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < curve.smooth.min() < curve.initial < ax.get_ylim()[1] < 0


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, np.nan, np.inf, 1e38])
def test_curves_of_hardly_any_points_are_drawn(count: int, value: float):
    lrs = make_curve().lrs[:count]
    curve = make_curve(lrs=lrs, losses=np.full(count, value), status="interrupted")
    ax = axes_of(curve)
    drawn(ax)
    np.testing.assert_array_equal(line(ax, "loss of one batch").get_xdata(), lrs)
    assert all(ax.get_xlim()[0] < lr < ax.get_xlim()[1] for lr in lrs)


# In sight and readable ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e-6, 1.2e-6, 3e-5, 2e-4, 0.01, 0.9])
def test_the_caption_lies_inside_the_axes_beside_its_line_and_above_the_curve(lr: float):
    ax = axes_of(make_suggestion(lr=lr, interval=(lr / 2, lr * 2)))
    drawn(ax)
    (caption,) = captions(ax)
    box = caption.get_window_extent()
    assert ax.bbox.x0 <= box.x0
    assert box.x1 <= ax.bbox.x1
    assert box.y1 <= ax.bbox.y1
    x = ax.transData.transform((lr, 1.0))[0]
    assert not box.x0 <= x <= box.x1
    highest = ax.transData.transform((lr, float(np.nanmax(make_curve().smooth[:90]))))[1]
    assert highest < box.y0


CROWDS = {
    "suggestion": [make_suggestion()],
    "long names": [make_suggestion(make_curve(model="Wrapped" * 8, optimizer=f"AdamW({'betas=(0.9, 0.95), ' * 4}) in 2 groups"))],
    "three long": [make_suggestion(make_curve(optimizer=f"AdamW(betas=(0.9, 0.95), weight_decay=0.{i})")) for i in range(3)],
}


@pytest.mark.parametrize("results", CROWDS.values(), ids=CROWDS)
def test_title_and_legend_are_inside_the_figure_and_off_the_axes(results: list[Result]):
    ax = axes_of(*results)
    figure = drawn(ax)
    legend, label = ax.get_legend().get_window_extent(), ax.xaxis.label.get_window_extent()
    title = ax._left_title.get_window_extent()
    for box in (legend, title):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
    assert legend.y1 < label.y0
    assert title.y0 > ax.bbox.y1


def test_titles_of_neighbouring_subplots_do_not_run_into_each_other():
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        make_suggestion().plot(ax=ax)
    figure.draw_without_rendering()
    assert left._left_title.get_window_extent().x1 < right._left_title.get_window_extent().x0


def grey_levels(ax: Axes) -> np.ndarray[Any, Any]:
    """The picture without its colours, 0 black to 1 white, row 0 at the bottom (luma as in ITU-R BT.601)."""
    figure, stream = ax.figure, io.BytesIO()
    figure.savefig(stream, format="png", dpi=figure.dpi)
    stream.seek(0)
    return np.flipud(imread(stream)[..., :3] @ [0.299, 0.587, 0.114])


def background(ax: Axes, grey: np.ndarray[Any, Any], low: float, high: float) -> float:
    """The most frequent grey between two LRs, in a strip half-way up."""
    (x0, _), (x1, _) = (ax.transData.transform((lr, 1.0)) for lr in (low, high))
    y0, y1 = ax.bbox.y0 + 0.3 * ax.bbox.height, ax.bbox.y0 + 0.7 * ax.bbox.height
    strip = grey[int(y0) : int(y1), int(x0) + 4 : int(x1) - 3]
    values, counts = np.unique(strip.round(3), return_counts=True)
    return float(values[counts.argmax()])


def test_bands_differ_in_black_and_white():
    ax = axes_of(make_suggestion(interval=(4e-3, 0.03), limit=make_limit(0.1)))
    grey = grey_levels(ax)
    white, good = background(ax, grey, 1e-5, 4e-3), background(ax, grey, 4e-3, 0.01)
    broken = background(ax, grey, 1.0, ax.get_xlim()[1])
    assert white == 1.0
    assert white - good > 0.08  # twenty of 255 levels: a difference that one sees at an edge
    assert good - broken > 0.08


def test_the_hatched_band_is_told_apart_by_its_lines_not_by_its_grey():
    ax = axes_of(make_curve(), make_limit(0.1))
    grey = grey_levels(ax)
    (x0, _), (x1, _) = (ax.transData.transform((lr, 1.0)) for lr in (0.12, 0.9))
    rows = grey[int(ax.bbox.y0 + 0.55 * ax.bbox.height) : int(ax.bbox.y1) - 5, int(x0) : int(x1)]
    assert (rows > 0.999).mean() > 0.3
    assert (rows < 0.95).mean() > 0.05


# Files and side effects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_pictures_are_written_and_valid(suffix: str, tmp_path: Path):
    path = tmp_path / f"lr{suffix}"
    assert isinstance(lrfinder.plot(make_suggestion(), path=path), Figure)
    assert is_picture(path)
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


@pytest.mark.parametrize("result", [make_curve(), make_limit(), make_suggestion()], ids=["curve", "limit", "suggestion"])
def test_results_save_themselves_as_pictures(result: Result, tmp_path: Path):
    assert result.save(tmp_path / "lr.PNG") == tmp_path / "lr.PNG"
    assert is_picture(tmp_path / "lr.PNG")


def is_picture(path: Path) -> bool:
    """Read the file with a reader of its format."""
    content = path.read_bytes()
    suffix = path.suffix.lower()
    if not content.startswith(SIGNATURES[suffix]):
        return False
    if suffix == ".png":
        return imread(io.BytesIO(content)).shape[:2] == (720, 1200)
    if suffix == ".svg":
        return ElementTree.fromstring(content).tag.endswith("}svg")
    return content.rstrip().endswith(b"%%EOF")


def test_the_check_of_pictures_can_fail(tmp_path: Path):
    broken = tmp_path / "lr.pdf"
    broken.write_bytes(b"%PDF-1.4 cut off here")
    assert not is_picture(broken)


@pytest.mark.parametrize("name", ["lr.jpg", "lr", "lr.json", ".png"])
def test_an_unknown_suffix_is_refused_in_one_sentence(name: str, tmp_path: Path):
    path = tmp_path / name
    with pytest.raises(BadArgument) as caught:
        lrfinder.plot(make_curve(), path=path)
    assert str(caught.value) == f"{str(path)!r} ends in none of .png, .svg, .pdf; choose one of these."
    assert not path.exists()


@pytest.mark.parametrize(
    ("results", "error", "words"),
    [
        ([], BadArgument, "plot got no result; pass a Suggestion, an LRCurve or a StableLR."),
        ([make_curve(), 0.1], BadType, "plot cannot draw a float; pass a Suggestion, an LRCurve or a StableLR."),
        ([Confirmation(lr=0.1, steps=9, before=2.0, after=1.0, scored_on="data")], BadType, "plot cannot draw a Confirmation;"),
    ],
)
def test_what_cannot_be_drawn_is_refused(results: list[Any], error: type[Exception], words: str):
    with pytest.raises(error) as caught:
        lrfinder.plot(*results)
    assert words in str(caught.value)


@pytest.mark.parametrize("lrs", [(1e290, 1e300), (1e-300, 1e-290)])
def test_a_curve_that_lies_wholly_out_of_sight_is_drawn_all_the_same(lrs: tuple[float, float]):
    curve = make_curve()
    curve = replace(curve, lrs=np.geomspace(*lrs, len(curve.lrs)))
    figure = curve.plot()
    figure.savefig(io.BytesIO())
    low, high = figure.axes[0].get_xlim()
    assert 1e-101 < low < high < 1e101


def test_drawing_loads_no_pyplot_and_changes_no_setting(tmp_path: Path):
    make_suggestion().save(tmp_path / "lr.json")
    code = """
        import matplotlib, sys
        before = matplotlib.rcParams.copy()
        import lrfinder
        found = lrfinder.load("lr.json")
        found.plot("lr.png")
        lrfinder.plot(found.curve, found.limit, path="lr.svg")
        found.limit.plot("limit.pdf")
        assert dict.__eq__(matplotlib.rcParams, before)  # the plain comparison looks up the backend, which loads pyplot
        assert "torch" not in sys.modules
        print("pyplot" if "matplotlib.pyplot" in sys.modules else "no pyplot")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")},
    )
    assert (done.stdout, done.stderr) == ("no pyplot\n", "")
