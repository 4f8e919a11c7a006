"""``explain``: the formulas that are printed give the numbers that are printed, and every factor of the rule has one."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from commands import python
from curves import make_curve, make_limit, piecewise
from hypothesis import given
from hypothesis import strategies as st
from limit_cases import LIMIT_CASES, tiny

from hessian.limits import limits_of
from lrfinder import Doubt, LRCurve, Suggestion, suggest_lr
from lrfinder.combine import corrected_break
from lrfinder.doubts import NoSuggestionError
from lrfinder.explain_factors import LOWERED, because, by_failure
from lrfinder.find import confirmed
from lrfinder.results import Confirmation, ProbeRun, Probes, Schedule

NUMBERS = {"log10": math.log10, "sqrt": math.sqrt, "exp": math.exp, "log": math.log}
LR_GRID = np.geomspace(1e-6, 10.0, 71)
VALLEY = piecewise([(-6, 2.0), (-3, 2.0), (-2, 0.5), (-1, 0.5), (0, 4.0)], np.log10(LR_GRID))


def value(formula: str, **names: float) -> float:
    """A printed formula, computed: ``^`` is a power, and what stands side by side is multiplied."""
    text = formula.replace("^", "**").replace(",", "").replace(" x ", " * ")
    text = re.sub(r"(?<=[\w)])\s*(?<!log10)(?<!sqrt)(?<!exp)(?<!log)\(", " * (", text)
    text = re.sub(r"(?<=[\d)])\s+(?=[a-z])", " * ", text)
    text = re.sub(r"\b([bcm])\s+(?=[a-z])", r"\1 * ", text)
    return float(eval(text, {**NUMBERS, **names}))


def valley(broke: bool = True, **changes: object) -> LRCurve:
    keep = LR_GRID < 1.01 if broke else LR_GRID < 0.11
    return make_curve(VALLEY[keep], LR_GRID[keep], status="diverged" if broke else "completed", **changes)


def probes(steps: int = 68, before: float = 2.0) -> Probes:
    runs = tuple(ProbeRun(lr=lr, steps=steps, after=after) for lr, after in [(0.003, 0.8), (0.01, 0.4), (0.03, math.inf)])
    return Probes(before=before, scored_on="data", scored=256, share=0.2, runs=runs)


def joined(text: str) -> str:
    """The words in one line."""
    return " ".join(text.split())


def test_the_text_of_a_formula_is_computed():
    assert value("10^(0.15 + 0.35 log10(68 / 56))") == pytest.approx(10 ** (0.15 + 0.35 * math.log10(68 / 56)))
    assert value("2 (1 + mu) / (1 - tau)", mu=0.9, tau=0.0) == pytest.approx(3.8)
    assert value("2 / (1 - m + m (1 - b1) / (1 + b1))", m=0.5, b1=0.9) == pytest.approx(2 / (0.5 + 0.5 * 0.1 / 1.9))
    assert value("(1,000 / 68)^-0.3") == pytest.approx((1000 / 68) ** -0.3)


# The factors ----------------------------------------------------------------------------------------------------------------------


@given(
    steps=st.integers(1, 10**7),
    schedule=st.sampled_from([*Schedule.__args__, None]),
    samples=st.none() | st.integers(1, 10**6),
    size=st.none() | st.integers(1, 4096),
    trained=st.none() | st.integers(1, 500),
    limited=st.booleans(),
)
def test_every_factor_of_the_rule_has_a_formula_that_gives_it(steps, schedule, samples, size, trained, limited):
    """Whatever is planned: a factor whose name or formula changes in the rule, and not in the explanation, fails here."""
    tried = None if trained is None else probes(trained)
    found = suggest_lr(
        valley(samples=samples, batch_size=size), make_limit(0.02) if limited else None, probes=tried, total_steps=steps, schedule=schedule
    )
    for name, factor in found.factors.items():
        told = because(found, name, factor)
        assert told.startswith(f"{name}: "), name
        if name.startswith(("short trainings", "held below", "capped")):
            continue  # these tell of two numbers of the run, which the next test computes
        formula = re.sub(r"(, as |, held at ).*", "", told.removeprefix(f"{name}: "))
        formula, _, passes = formula.partition(" with p = ")
        p = value(passes.partition(" = ")[0]) if passes else math.nan
        assert value(formula, p=min(p, 1000.0)) == pytest.approx(factor, rel=1e-4)


def test_the_numbers_of_the_run_stand_in_the_story():
    curve = valley(samples=1437, batch_size=64)
    found = suggest_lr(curve, make_limit(0.02, derivation="2 (1 + mu) / (1 - tau) with mu = 0, tau = 0"), probes=probes(), total_steps=1000)
    story = joined(found.explain())
    low, high = found.basin
    assert f"sqrt({low:.3g} x {high:.3g}) = {found.midpoint:.3g}" in story
    formula = re.search(r"lr_break / exp\(sqrt\(r ln A\)\) = (\S+ / exp\(sqrt\(.+?\)\)) = (\S+)", story)
    assert formula is not None
    assert value(formula[1]) == pytest.approx(corrected_break(curve), rel=0.01)
    assert float(formula[2]) == pytest.approx(corrected_break(curve), rel=0.01)
    for run in found.probes.runs:
        assert f"{run.lr:.2g}" in story
    assert "blew up" in story
    product = re.search(r"(\S+( x \S+)+) = (\S+) It lies below", story)
    assert product is not None
    assert value(product[1]) == pytest.approx(found.lr, rel=0.05)  # of rounded factors
    assert f"= 2 / 100 = {found.limit.curvature_lr:.3g}" in story
    assert "2 = 2 (1 + mu) / (1 - tau) with mu = 0, tau = 0" in story
    assert f"{found.interval[0]:.2g} to {found.interval[1]:.2g}" in story


def test_the_weights_of_the_short_trainings_give_their_soft_minimum():
    story = suggest_lr(valley(), probes=probes(), total_steps=100).explain()
    rows = re.findall(r"^ +(\S+) +(\S+|blew up) +(\d\.\d\d) +(\d\.\d\d)$", story, flags=re.MULTILINE)
    assert len(rows) == 3
    lrs, weights = [float(row[0]) for row in rows], [float(row[3]) for row in rows]
    mean = sum(weight * math.log(lr) for lr, weight in zip(lrs, weights, strict=True)) / sum(weights)
    told = re.search(r"soft minimum: lr = (\S+)", joined(story))
    assert told is not None
    assert float(told[1]) == pytest.approx(math.exp(mean), rel=0.03)
    for _, after, missed, weight in rows:
        assert float(weight) == pytest.approx(math.exp(-float(missed) / 0.15) - math.exp(-1 / 0.15), abs=0.04)
        assert (after == "blew") == (after == "blew up") or float(missed) == 1


def test_what_was_cut_says_by_what():
    whole = suggest_lr(valley(samples=64, batch_size=64), make_limit(1e-3), total_steps=10, schedule="onecycle")
    assert "would lie above 4 x the limit, 0.004, which binds where a batch holds all data" in joined(whole.explain())
    broken = suggest_lr(valley(), probes=probes(1, before=1e9), total_steps=1, schedule="onecycle")
    held = [name for name in broken.factors if name == "held below the break"]
    assert held == [] or "where the sweep became unstable" in joined(broken.explain())


def test_a_lowered_answer_says_by_how_much_and_which_doubt_did_it():
    found = suggest_lr(valley(), total_steps=100)
    tried = Confirmation(lr=found.lr / 9, steps=12, before=2.0, after=1.5, scored_on="data")
    lowered = confirmed(found, tried, 1 / 9)
    story = joined(lowered.explain())
    assert f"a training at {found.lr:.2g} raised the loss, so it was divided by 3 until one lowered it, 2 times" in story
    assert f"{Doubt.LOWERED.value} It multiplied the answer by 0.11, to {lowered.lr:.2g}." in story
    assert by_failure(lowered, re.match("", ""))[0] == pytest.approx(lowered.factors[LOWERED])


def test_a_lowered_answer_was_tried_at_the_answer_whatever_was_rounded():
    for lr in np.geomspace(1e-4, 1e-2, 200):
        found = replace(suggest_lr(valley(), total_steps=100), lr=float(lr))
        tried = Confirmation(lr=float(lr) * (1 / 3) * (1 / 3), steps=12, before=2.0, after=1.5, scored_on="data")
        assert "steps at the answer" in joined(confirmed(found, tried, tried.lr / found.lr).explain())


def test_the_end_of_the_sweep_is_told_as_that_of_the_good_range_only_where_it_is():
    found = replace(suggest_lr(valley(), total_steps=100), doubts=(Doubt.NONFINITE,))
    assert f"{Doubt.NONFINITE.value} It changed no number." in joined(found.explain())
    end = float(found.curve.lrs[-1])
    cut = replace(found, lr=end, interval=(end / 2, end))
    assert f"{Doubt.NONFINITE.value} The good range ends at {end:.2g}, where the sweep ended." in joined(cut.explain())


def test_a_factor_that_another_version_made_is_told_without_our_formula():
    found = suggest_lr(valley(), total_steps=100, schedule="onecycle")
    assert "10^0.3" in found.explain()
    other = replace(found, factors={**found.factors, "1cycle peak": 2.5, "a later idea": 0.5})
    story = joined(other.explain())
    assert "10^0.3" not in story.partition("The good range")[0]
    assert "x2.5" in story
    assert "a later idea" in story


# Where the evidence is thin -------------------------------------------------------------------------------------------------------


def test_every_doubt_is_told_with_what_it_did():
    found = replace(suggest_lr(valley(), make_limit(1e-3), total_steps=100), doubts=tuple(Doubt))
    story = joined(found.explain())
    for doubt in Doubt:
        told = story.partition(doubt.value)[2]
        assert re.match(r" (It |The |No |\d)", told), doubt


def test_a_sweep_that_never_broke_and_one_without_a_basin_say_what_stands_for_what():
    unbroken = joined(suggest_lr(valley(broke=False), total_steps=100).explain())
    assert "The loss did not break up to" in unbroken
    flat = make_curve(np.full(40, 2.0) + 0.1 * (-1.0) ** np.arange(40), status="diverged")
    with pytest.raises(NoSuggestionError):
        suggest_lr(flat)
    found = suggest_lr(flat, probes=probes(), total_steps=100)
    assert "so there is no basin" in joined(found.explain())
    assert f"x 10^-0.75 = {found.midpoint:.2g}" in joined(found.explain())


def test_without_curvature_the_reason_is_told():
    found = suggest_lr(valley(), total_steps=100, no_limit="Lion has no limit")
    assert "Not measured: Lion has no limit" in joined(found.explain())


# Curves and limits ----------------------------------------------------------------------------------------------------------------


def test_a_curve_tells_what_every_rule_says_and_why_it_stopped():
    curve = valley()
    story = joined(curve.explain())
    for name, lr in curve.suggestions().items():
        assert f"{name} {lr:.2g}" in story
    assert "exceeded both 4 times the best and 1.2 times the initial one" in story
    assert f"unstable from lr_break / exp(sqrt(r ln A)) = {curve.break_lr:.3g} / " in story


def test_a_curve_without_points_is_told_too():
    assert "0 were made" in joined(make_curve([]).explain())


def test_of_a_long_name_the_end_is_kept_which_tells_parameters_apart():
    names = [f"{'module.' * 12}layer{number}.weight" for number in range(3)]
    told = make_limit(0.3, by_parameter=dict(zip(names, (0.5, 0.3, 0.2), strict=True))).explain()
    assert all(re.search(rf"\.\.\.\S*module\.layer{number}\.weight$", told, flags=re.MULTILINE) for number in range(3))


def test_a_limit_tells_its_noise_its_first_step_and_its_layers():
    limit = make_limit(0.5, noise_lr=0.25, first_step_lr=0.05, by_parameter={"head.weight": 0.7, "body.weight": 0.3}, bound=8.0)
    story = joined(limit.explain())
    assert "lr = 2 / sharpness = 2 / 4 = 0.5" in story
    assert "1 / lr = 1 / 0.5 + 2 = 1 / 0.25" in story
    assert "a warm-up gains x10" in story
    assert "70% head.weight" in story
    assert "with 99 % probability the largest is at most 8, which would lower the limit to 0.25" in story


@pytest.mark.parametrize("name", LIMIT_CASES)
def test_the_symbols_of_every_limit_give_its_numerator(name):
    limit = limits_of(LIMIT_CASES[name]([tiny()], lr=0.1))[0]
    rough = 1e-2 if "m" in limit.symbols else 1e-9  # NAdam's next momentum is a little larger
    assert value(limit.formula, **limit.symbols) == pytest.approx(limit.numerator, rel=rough)


def test_explaining_a_saved_result_loads_no_torch(tmp_path):
    suggest_lr(valley(), make_limit(0.1), probes=probes(), total_steps=100).save(tmp_path / "lr.json")
    code = "import sys, lrfinder; found = lrfinder.load('lr.json'); found.explain(), found.curve.explain(), found.limit.explain(); "
    code += "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = python("-c", code, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_is_explained_is_a_suggestion_a_curve_or_a_limit():
    assert {kind.__name__ for kind in (Suggestion, LRCurve, type(make_limit())) if hasattr(kind, "explain")} == {
        "Suggestion",
        "LRCurve",
        "StableLR",
    }
