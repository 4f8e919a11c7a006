"""What is printed fits a terminal, whatever the numbers and names are: every kind of result, all doubts, huge, tiny and long."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import numpy as np
import pytest
from curves import make_curve, make_limit
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_find import every_result

from hessian import layout
from hessian.doubts import CurvatureDoubt
from hessian.readings import SharpnessReading, SharpnessRecord
from hessian.result_base import Result
from hessian.results import CriticalLR, EigenResult, Estimate, SpectralDensity, StableLR
from lrfinder.comparison import Comparison
from lrfinder.curve import LRCurve
from lrfinder.doubts import Doubt
from lrfinder.results import Confirmation, ProbeRun, Probes, Suggestion

LRS = st.floats(1e-300, 1e300) | st.floats(1e-8, 10.0)
ABOVE = st.floats(5e-324, 1e300) | st.floats(1e-3, 1e3)
LOSSES = st.floats(-1e300, 1e300) | st.floats(0.0, 5.0)
ANY = st.floats()
COUNTS = st.integers(0, 10_000) | st.integers(0, 2**62)
SOME = st.integers(1, 500) | st.integers(1, 2**62)
NAMES = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["Net", "x" * 300, "模型" * 50, "layer." * 30 + "weight", "\x1b[2J\x1b[31m", "a\nb", "e\u0301" * 90, "SGD(momentum=0.9)"]
)
SHARES = st.dictionaries(NAMES, st.floats(0, 1), max_size=4)


def limits() -> st.SearchStrategy[StableLR]:
    return st.builds(
        make_limit,
        lr=LRS,
        curvature_lr=LRS,
        noise_lr=st.none() | ABOVE,
        first_step_lr=st.none() | ABOVE | st.just(math.inf),
        sharpness=ABOVE,
        residual=ANY,
        bound=ANY,
        converged=st.booleans(),
        hvps=COUNTS,
        formula=NAMES | st.just("38 / (sharpness + 0.01)"),
        derivation=NAMES,
        preconditioned=st.booleans(),
        by_parameter=SHARES,
        doubts=st.lists(st.sampled_from(list(CurvatureDoubt)), unique=True).map(tuple),
        method=NAMES,
        along=st.sampled_from(["hessian", "update"]),
        num_batches=SOME,
        batch_size=st.none() | COUNTS,
        model=NAMES,
        optimizer=NAMES,
    )


@st.composite
def curves(draw: st.DrawFn, least: int = 0) -> LRCurve:
    lrs = sorted(draw(st.sets(LRS, min_size=least, max_size=15)))
    size = st.lists(LOSSES | ANY, min_size=len(lrs), max_size=len(lrs))
    return make_curve(
        draw(size),
        lrs,
        status=draw(st.sampled_from(["completed", "diverged", "nonfinite", "data_ended", "interrupted"])),
        mode=draw(st.sampled_from(["exponential", "linear"])),
        num_iter=draw(SOME),
        smoothing=draw(st.sampled_from([0.0, 0.04])) if len(lrs) else 0.0,
        baseline=draw(st.just([]) | st.lists(LOSSES, min_size=len(lrs), max_size=len(lrs))),
        metric=draw(st.just([]) | st.lists(ANY, min_size=len(lrs), max_size=len(lrs))),
        metric_name=draw(NAMES),
        batch_size=draw(st.none() | COUNTS),
        samples=draw(st.none() | COUNTS),
        seed=draw(COUNTS),
        model=draw(NAMES),
        optimizer=draw(NAMES),
        recipe=draw(NAMES),
        scored_on=draw(st.sampled_from(["batch", "val_data"])),
        left_out=draw(st.just(()) | st.just((3,))),
    )


FACTORS = st.sampled_from(
    [
        *(
            "short trainings of 68 steps",
            "soft minimum to best",
            "sweep to training",
            "1cycle peak",
            "1,000 steps, not 68",
            "data seen 3 times",
        ),
        *("held below the break", "capped by curvature", "a higher LR failed in a short training", "0 steps, not 0"),
    ]
)


def probes() -> st.SearchStrategy[Probes]:
    runs = st.builds(ProbeRun, lr=LRS, steps=SOME, after=LOSSES | st.just(math.inf))
    return st.builds(
        Probes,
        before=LOSSES | st.just(math.inf),
        scored_on=NAMES,
        scored=st.none() | COUNTS,
        share=st.none() | st.floats(0, 1),
        runs=st.lists(runs, min_size=1, max_size=5).map(tuple).filter(lambda found: any(math.isfinite(run.after) for run in found)),
    )


CONFIRMATIONS = st.builds(Confirmation, lr=LRS, steps=SOME, before=ANY, after=ANY, scored_on=NAMES)


def suggestions() -> st.SearchStrategy[Suggestion]:
    return st.builds(
        Suggestion,
        lr=LRS,
        interval=st.tuples(LRS, LRS),
        curve=curves(least=1),
        limit=st.none() | limits(),
        no_limit=st.none() | NAMES,
        confirmation=st.none() | CONFIRMATIONS,
        probes=st.none() | probes(),
        gradients=ANY,
        midpoint=LRS,
        basin=st.tuples(LRS, LRS),
        factors=st.dictionaries(FACTORS | NAMES, ANY, max_size=5),
        total_steps=SOME,
        schedule=st.sampled_from(["constant", "onecycle", "cosine", "linear", None]),
        doubts=st.lists(st.sampled_from(list(Doubt)), unique=True).map(tuple),
    )


READINGS = st.builds(
    SharpnessReading,
    step=COUNTS,
    lr=st.floats(0, 1e300),
    sharpness=ANY,
    limit_lr=ABOVE | st.sampled_from([math.inf, math.nan]),
    hvps=COUNTS,
    advice=st.just("") | NAMES,
)
ARRAYS = st.lists(ANY, max_size=12).map(np.array)
RESULTS: dict[str, st.SearchStrategy[Any]] = {
    "suggestion": suggestions(),
    "lr_curve": curves(),
    "stable_lr": limits(),
    "probes": probes(),
    "probe_run": st.builds(ProbeRun, lr=LRS, steps=SOME, after=LOSSES | st.just(math.inf)),
    "confirmation": CONFIRMATIONS,
    "comparison": st.lists(suggestions() | curves() | limits(), min_size=1, max_size=4).flatmap(
        lambda found: st.lists(NAMES, min_size=len(found), max_size=len(found), unique=True).map(
            lambda names: Comparison(names=tuple(names), results=tuple(found))
        )
    ),
    "sharpness_reading": READINGS,
    "sharpness_record": st.builds(
        SharpnessRecord, readings=st.lists(READINGS, max_size=5).map(tuple), optimizer=NAMES, preconditioned=st.booleans(), along=NAMES
    ),
    "eigen": st.builds(
        lambda values, **more: EigenResult(values=values, residuals=np.abs(values), **more),
        values=ARRAYS,
        converged=st.booleans(),
        hvps=COUNTS,
        bound=ANY,
        probability=st.floats(0, 1),
        following=ANY,
    ),
    "estimate": st.builds(Estimate, value=ANY, error=ANY, hvps=COUNTS),
    "critical_lr": st.builds(CriticalLR, lr=ANY, low=ANY, high=ANY, forwards=COUNTS),
    "spectral_density": st.builds(
        lambda **more: SpectralDensity(grid=np.array([0.0, 1.0]), density=np.ones(2), error=np.zeros(2), **more),
        smallest=ANY,
        largest=ANY,
        size=SOME,
        num_probes=COUNTS,
        steps=COUNTS,
        sigma=ANY,
        hvps=COUNTS,
    ),
}


def assert_fits(text: str) -> None:
    """Lines of at most 80 columns, each letter of which a terminal shows rather than obeys."""
    assert text
    for line in text.split("\n"):
        assert width(line) <= 80, line
        assert all(letter.isprintable() for letter in line), repr(line)
        assert line == line.rstrip()


def width(line: str) -> int:
    """Columns in a terminal, counted here on their own."""
    wide = sum(unicodedata.east_asian_width(letter) in ("W", "F") and not unicodedata.combining(letter) for letter in line)
    return len(line) + wide - sum(unicodedata.combining(letter) > 0 for letter in line)


def texts(result: Result) -> list[str]:
    """All that it says."""
    return [str(result), *([result.explain()] if hasattr(result, "explain") else [])]


def test_every_kind_of_result_is_generated_here():
    assert set(RESULTS) == set(Result.kinds)


@pytest.mark.parametrize("kind", RESULTS)
@settings(max_examples=60, phases=[Phase.generate])  # what fails is printed whole; shrinking such results takes many minutes
@given(data=st.data())
def test_every_result_fits_80_columns_whatever_it_holds(kind, data):
    for text in texts(data.draw(RESULTS[kind])):
        assert_fits(text)


@pytest.mark.parametrize("kind", RESULTS)
def test_usual_results_fit_and_are_no_repr(kind):
    result = every_result()[kind]
    for text in texts(result):
        assert_fits(text)
        assert type(result).__name__ + "(" not in text


def test_the_check_sees_a_line_that_is_too_long_and_one_that_a_terminal_obeys():
    for line in ("x" * 81, "模" * 41, "\x1b[31m", "gap "):
        with pytest.raises(AssertionError):
            assert_fits(line)
    assert_fits("模" * 40)


@given(words=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=40))
def test_wrapping_loses_no_letter(words):
    text = " ".join(words)
    lines = layout.wrapped(text, "  - ", "    ")
    assert "".join("".join(lines)[4:].split()) == "".join(layout.clean(text).split())
    assert all(line.startswith("    ") for line in lines[1:])
    assert all(width(line) <= 80 for line in lines)


def test_short_words_are_never_broken():
    words = ["accumulate=4", "2 (1 + mu)", "layer.0.weight"] * 30
    assert " ".join(line.strip() for line in layout.wrapped(" ".join(words))) == " ".join(words)


def test_columns_of_a_table_stand_under_their_titles():
    lines = layout.table([["name", "lr"], ["模型", "0.1"], ["b", "-"]])
    assert lines == ["  name   lr", "  模型  0.1", "  b       -"]
