"""``compare``: what differs between results, as a table and on one picture."""

from __future__ import annotations

import csv
import math
from itertools import pairwise

import numpy as np
import pytest
from curves import make_curve, make_limit, piecewise
from matplotlib.colors import to_hex, to_rgb

from hessian.errors import BadArgument, BadType
from hessian.results import Estimate
from lrfinder import Comparison, compare, load, suggest_lr
from lrfinder.plotting_comparison import COLOURS, STYLES

LR_GRID = np.geomspace(1e-6, 10.0, 71)
VALLEY = piecewise([(-6, 2.0), (-3, 2.0), (-2, 0.5), (-1, 0.5), (0, 4.0)], np.log10(LR_GRID))
KEEP = LR_GRID < 1.01


def valley(shift: float = 1.0, **changes):
    return make_curve(VALLEY[KEEP], LR_GRID[KEEP] * shift, status="diverged", **changes)


def found(shift: float = 1.0, **changes):
    return suggest_lr(valley(shift, **changes), make_limit(0.02 * shift), total_steps=100)


MIXTURE = {"sgd": found(), "adam": found(0.01, optimizer="Adam"), "curve": valley(3.0), "limit": make_limit(0.5)}


def test_the_table_has_every_number_and_a_line_for_each():
    lines = str(compare(*MIXTURE.values(), names=list(MIXTURE))).split("\n")
    rows = {line.split()[0]: line for line in lines[1:5]}
    assert list(rows) == list(MIXTURE)
    for name in ("sgd", "adam"):
        one = MIXTURE[name]
        for number in (one.lr, *one.interval, one.curve.break_lr, one.limit.lr):
            assert f"{number:.2g}" in rows[name].split()
    assert rows["curve"].split()[1:4] == ["-", "-", f"{MIXTURE['curve'].break_lr:.2g}"]
    assert rows["limit"].split()[1:] == ["-", "-", "-", "0.5", "-"]
    assert any(line.startswith("  the same    model Net") for line in lines)
    assert "  optimizer   sgd, curve, limit: SGD; adam: Adam" in lines


def test_one_result_has_no_others_to_be_the_same_as():
    text = str(compare(found(), names=["sgd"]))
    assert "valid for   model Net, optimizer SGD" in text
    assert "the same" not in text


def test_names_are_those_of_the_files_and_told_apart_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        found().save(tmp_path / folder / "lr.json")
    paths = [tmp_path / folder / "lr.json" for folder in ("a", "b")]
    assert compare(paths[0]).names == ("lr",)
    assert compare(*paths).names == tuple(str(path.with_suffix("")) for path in paths)
    assert compare(paths[0], paths[0]).names == (f"1 {tmp_path}/a/lr", f"2 {tmp_path}/a/lr")
    assert compare(MIXTURE["sgd"], str(paths[0]), MIXTURE["adam"]).names == ("SGD", "lr", "Adam")
    assert compare(MIXTURE["sgd"], MIXTURE["curve"]).names == ("1 SGD", "2 SGD")


def test_long_names_are_cut_and_explained():
    names = ["x" * 90 + "1", "x" * 90 + "2"]
    text = str(compare(found(), valley(), names=names))
    assert "run 1" in text.split("\n")[1]
    assert all(name in "".join(text.split()) for name in names)


def test_it_is_saved_in_every_form(tmp_path):
    compared = compare(*MIXTURE.values(), names=["a,b", 'say "c"', "curve", "limit"])
    assert load(compared.save(tmp_path / "c.json")) == compared
    with compared.save(tmp_path / "c.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header[:2] == ["name", "lr"]
    assert [row[0] for row in rows] == ["a,b", 'say "c"', "curve", "limit"]
    assert float(rows[0][1]) == MIXTURE["sgd"].lr
    assert math.isnan(float(rows[2][1]))
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        assert compared.save(tmp_path / f"c{suffix}").read_bytes().startswith(start)


# The picture ----------------------------------------------------------------------------------------------------------------------


def drawn(*results, names=None):
    """The axes, and its lines by their labels."""
    axes = compare(*results, names=names).plot().axes[0]
    return axes, {line.get_label(): line for line in axes.get_lines()}


def test_the_legend_names_every_run_and_what_the_marks_mean():
    axes, _ = drawn(*MIXTURE.values(), names=list(MIXTURE))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        *(f"sgd, lr {MIXTURE['sgd'].lr:.2g}", f"adam, lr {MIXTURE['adam'].lr:.2g}", "curve", "limit"),
        *("good range", "suggested lr", "loss broke", "limit, at step 0"),
    ]


def test_the_marks_lie_where_the_numbers_say():
    sgd = MIXTURE["sgd"]
    _, lines = drawn(sgd, names=["sgd"])
    assert lines["_lr"].get_xdata() == [sgd.lr]
    assert lines["_break"].get_xdata() == [sgd.curve.break_lr]
    assert lines["_limit"].get_xdata() == [sgd.limit.lr] * 2
    good = lines["_range"].get_xdata()
    assert (good[0], good[-1]) == sgd.interval
    curve = sgd.curve
    assert lines["_lr"].get_ydata()[0] == pytest.approx(np.interp(np.log(sgd.lr), np.log(curve.lrs), curve.smooth))


def test_all_of_one_run_has_one_colour_and_two_runs_differ_in_colour_and_line():
    axes, _ = drawn(*[valley(10.0**-place) for place in range(8)], names=[f"run{place}" for place in range(8)])
    shown = [line for line in axes.get_lines() if line.get_label().startswith("run")]
    assert len({(line.get_color(), line.get_linestyle()) for line in shown}) == 8
    assert all(one.get_linestyle() != other.get_linestyle() for one, other in pairwise(shown))
    axes, _ = drawn(found(), names=["one"])
    own = [line for line in axes.get_lines() if line.get_label().startswith(("one", "_"))]
    assert {to_hex(line.get_color()) for line in own} == {COLOURS[0].lower()}


def seen_by(colour: str, missing: str) -> np.ndarray:
    """A colour as eyes without red (protan) or green (deutan) cones see it: Machado, Oliveira and Fernandes 2009, in linear light."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.array(matrices[missing]) @ linear


@pytest.mark.parametrize("missing", ["protan", "deutan"])
def test_colours_differ_to_colour_blind_eyes(missing):
    seen = [seen_by(colour, missing) for colour in COLOURS]
    nearest = min(np.linalg.norm(one - other) for place, one in enumerate(seen) for other in seen[:place])
    assert nearest > 0.05
    assert np.linalg.norm(seen_by("#FF0000", "protan") - seen_by("#400000", "protan")) < 0.2  # the check can see two that do not
    assert len(COLOURS) % 2 == 1  # coprime to the styles, so that their pairs are repeated as late as can be
    assert len(STYLES) == 4


def test_it_is_drawn_on_the_axes_that_are_given():
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert compare(found()).plot(ax=right) is figure
    assert right.get_lines()
    assert not left.get_lines()


@pytest.mark.parametrize("results", [[make_curve([])], [make_curve([1.0])], [make_curve([math.nan, math.inf])], [make_limit(1e-300)]])
def test_results_with_next_to_nothing_are_compared_too(results, tmp_path):
    compared = compare(*results)
    assert str(compared)
    assert compared.save(tmp_path / "c.png").exists()


# Refusals -------------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(BadArgument, match="compare got no result; pass a Suggestion"):
        compare()
    with pytest.raises(BadType, match="compare cannot take the list; pass a Suggestion"):
        compare([found()])
    path = Estimate(value=1.0, error=0.1, hvps=3).save(tmp_path / "e.json")
    with pytest.raises(BadType, match=r"compare cannot take the Estimate from '.+e\.json'; pass a Suggestion"):
        compare(path)
    for names in (["a"], ["a", "a"]):
        with pytest.raises(BadArgument, match="names are not 2 different ones, one for each result; pass as many names as results"):
            compare(found(), found(), names=names)
    with pytest.raises(FileNotFoundError):
        compare(tmp_path / "none.json")


def test_a_comparison_cannot_hold_one_of_itself():
    with pytest.raises(ValueError, match="a comparison has no place in a comparison"):
        Comparison(names=("a",), results=(compare(found()),))


def test_runs_that_lie_wholly_out_of_sight_are_drawn_all_the_same(tmp_path):
    far = make_curve(VALLEY[KEEP], LR_GRID[KEEP] * 1e290)
    compare(far, far, names=["a", "b"]).plot(tmp_path / "far.png")
    assert (tmp_path / "far.png").exists()
