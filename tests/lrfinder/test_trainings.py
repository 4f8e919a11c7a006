"""Which short trainings are made: where they lie, and what is made in their place where they moved hardly anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from curves import make_curve, piecewise
from terminal import screen, stderr_on_terminal
from torch import Tensor, nn

from hessian.problem import Problem
from lrfinder import Doubt, Suggestion, find_lr
from lrfinder.budget import BUDGETS, LONGER, Budget, Spent, split_budget
from lrfinder.combine import break_ceiling, centre_of
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LRCurve
from lrfinder.probe import Prober, short_trainings
from lrfinder.progress import Progress
from lrfinder.results import Probes
from lrfinder.setaside import set_aside

# A training that begins on a plateau ------------------------------------------------------------------------------------------------

START = 1e-8  # of both factors
STEPS = 200  # planned
ONES = [torch.ones(8, 1, dtype=torch.float64)] * 40


class Plateau(nn.Module):
    """Two factors that begin next to zero, a curved direction that breaks the loss above an LR of one, and something trivial to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.curved, self.trivial = (
            nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (START, START, 0.05, 1e-3)
        )


def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
    """``(1 - a b)^2``, which stands at one for long, and a hundredth that is only gained at LRs below 3e-4."""
    trivial = 0.01 * torch.tanh(600 * model.trivial) ** 2
    return ((1 - model.first * model.second) ** 2 + model.curved**2 + trivial) * batch.mean()


SLOWEST = (START ** (-1 / STEPS) - 1) / 2  # the factors grow by 1 + 2 lr a step until they are one
FASTEST = 0.5  # 2 over the curvature of (1 - u^2)^2 at one along both factors


def searched(**changes: Any) -> Suggestion:
    model = Plateau()
    settings = {"total_steps": STEPS, "schedule": "constant", "budget": "quick", "curvature": False, "progress": False, **changes}
    return find_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), ONES, loss_fn=loss_fn, **settings)


def after(lr: float) -> float:
    """What is left of the plateau at the end of the planned training, written out by hand."""
    factor = START
    for _ in range(STEPS):
        factor += 2 * lr * factor * (1 - factor**2)
    return (1 - factor**2) ** 2


def test_a_plateau_that_short_trainings_do_not_leave_is_left_by_longer_ones():
    found = searched()
    assert SLOWEST < found.lr < FASTEST
    assert after(found.lr) < 1e-6
    assert found.basin[1] < 1e-3 < SLOWEST  # the sweep saw what is trivial, and nothing else
    assert {run.steps for run in found.probes.runs} == {LONGER * split_budget("quick").length}
    assert found.probes.shorter == split_budget("quick").length
    assert f"of ones of {found.probes.shorter} steps, which hardly moved" in " ".join(str(found).split())
    assert f"Trainings of {found.probes.shorter} steps were made before." in " ".join(found.explain().split())
    assert Doubt.LITTLE_GAIN not in found.doubts


def test_without_longer_ones_nothing_would_be_learned_there(monkeypatch):
    """What the test above is about: what is trivial decides, three decades too low."""
    monkeypatch.setattr("lrfinder.probe.little_gain", lambda curve, probes: False)
    found = searched()
    assert found.probes.shorter is None
    assert "hardly moved" not in str(found)
    assert after(found.lr) > 0.99
    assert Doubt.LITTLE_GAIN in found.doubts


def test_a_training_that_is_planned_to_be_as_short_has_no_longer_ones():
    length = split_budget("quick").length
    found = searched(total_steps=length)
    assert {run.steps for run in found.probes.runs} == {length}
    assert Doubt.LITTLE_GAIN in found.doubts


def test_the_bar_shows_longer_ones_that_nobody_had_expected(monkeypatch):
    with stderr_on_terminal(monkeypatch) as terminal:
        monkeypatch.setenv("TQDM_MININTERVAL", "0")
        found = searched(progress=None)
    assert "longer training 1 of 5" in terminal.text.replace("\r", "\n")
    assert screen(terminal.text) == [""]
    assert found == searched()


@pytest.mark.parametrize("budget", ["quick", "standard"])
def test_a_check_that_is_too_short_to_leave_the_plateau_does_not_lower_the_answer(budget):
    """A long training leaves it at a lower LR than the short trainings can; the check at that LR is a short training too."""
    found = searched(total_steps=1000, budget=budget)
    assert not found.confirmation.passed
    assert found.lr == found.confirmation.lr
    assert Doubt.LOWERED not in found.doubts
    assert Doubt.PLATEAU in found.doubts
    assert (START ** (-1 / 1000) - 1) / 2 < found.lr < FASTEST


def test_longer_ones_are_counted():
    spend = split_budget("quick")
    most = len(CONSTANTS.longer_offsets) + CONSTANTS.extensions
    longer = searched()
    short = searched(total_steps=spend.length)
    assert longer.gradients > short.gradients + (len(CONSTANTS.longer_offsets) - 1) * spend.longer
    assert longer.gradients < BUDGETS["quick"] + most * (spend.length + spend.longer)


# Made-up scores ---------------------------------------------------------------------------------------------------------------------

QUICK, STANDARD, THOROUGH = map(split_budget, BUDGETS)
FALLS = [(-4.0, 2.0), (-2.0, 0.5), (-1.0, 0.5), (0.0, 20.0)]
HARDLY = [(-4.0, 2.0), (-3.0, 1.95), (-2.0, 1.95), (-1.0, 2.0), (0.0, 20.0)]
LEVEL = [(-1.0, 2.0), (0.0, 20.0)]


def curve_through(points: list[tuple[float, float]], status: str = "diverged") -> LRCurve:
    places = np.linspace(-7, 0, 200)
    return make_curve(piecewise(points, places), 10**places, status=status)


def made(curve: LRCurve, spend: Budget, outcome: Callable[[float, int], float]) -> tuple[Probes | None, list[tuple[float, int]]]:
    """The set that counts where a training at ``10**x`` of so many steps scores ``outcome(x, steps)``, and all that were made."""
    model, trained = Plateau(), []
    problem = Problem(model, torch.optim.SGD(model.parameters(), lr=0.1), ONES, loss_fn=loss_fn)

    def train(lr: float, steps: int, schedule: str | None = None) -> float:
        trained.append((math.log10(lr), steps))
        return outcome(*trained[-1])

    with problem.preserved() as snapshot:
        prober = Prober(problem, snapshot, set_aside(problem.batches, None, 0), 0, Progress(False), Spent())
        prober.before = 2.0
        prober.train = train  # type: ignore[method-assign]
        return short_trainings(curve, prober, spend), trained


def inside(offsets: tuple[float, ...], centre: float) -> Callable[[float, int], float]:
    """Good, and best next to the low end of such a set, so that it is not extended there; the small one is, once, above."""
    return lambda x, steps: 1.0 + abs(x - centre - offsets[1])


@pytest.mark.parametrize(
    ("spend", "points", "offsets"),
    [
        (QUICK, FALLS, (*CONSTANTS.offsets, 0.0)),
        (STANDARD, FALLS, (*CONSTANTS.offsets, 0.0)),
        (STANDARD, LEVEL, (*CONSTANTS.offsets, 0.0)),
        (THOROUGH, FALLS, CONSTANTS.fine_offsets),
        (THOROUGH, LEVEL, (-2.25, -1.75, -1.25, -1.0, -0.75, -0.5, -0.25)),
    ],
    ids=["quick", "standard", "standard, no basin", "thorough", "thorough, no basin"],
)
def test_they_lie_about_the_basin_and_a_large_set_reaches_further_down_where_there_is_none(spend, points, offsets):
    curve = curve_through(points)
    centre, basin = centre_of(curve)
    assert (basin is None) == (points is LEVEL)
    found, trained = made(curve, spend, inside(offsets, centre))
    assert trained == [(pytest.approx(centre + offset), spend.length) for offset in offsets]
    assert [math.log10(run.lr) for run in found.runs] == [place for place, _ in trained]


@pytest.mark.parametrize("spend", [QUICK, STANDARD, THOROUGH], ids=list(BUDGETS))
@pytest.mark.parametrize(("score", "counts"), [(1.79, "longer"), (1.81, "length"), (1.995, "length")], ids=["much", "more", "less"])
def test_where_they_gained_little_longer_ones_go_by_the_break_and_count_if_they_gain_a_tenth(spend, score, counts):
    curve = curve_through(HARDLY)
    place = math.log10(break_ceiling(curve)) + CONSTANTS.without_basin
    found, trained = made(curve, spend, lambda x, steps: 1.99 if steps == spend.length else score)
    longer = [x for x, steps in trained if steps == spend.longer]
    assert {steps for _, steps in trained} == {spend.length, spend.longer}
    assert longer[: len(CONSTANTS.longer_offsets)] == pytest.approx([place + offset for offset in CONSTANTS.longer_offsets])
    assert {run.steps for run in found.runs} == {getattr(spend, counts)}


def test_longer_ones_lie_about_the_basin_where_the_sweep_never_broke():
    curve = curve_through([*HARDLY[:-1], (0.0, 2.0)], status="completed")
    _, trained = made(curve, QUICK, lambda x, steps: 1.99)
    longer = [x for x, steps in trained if steps == QUICK.longer]
    assert longer[0] == pytest.approx(centre_of(curve)[0] + CONSTANTS.longer_offsets[0])


def test_nothing_longer_is_made_where_they_gained_enough_or_cannot_be_longer_or_are_not_made():
    curve = curve_through(HARDLY)
    _, trained = made(curve, QUICK, lambda x, steps: 1.5)
    assert {steps for _, steps in trained} == {QUICK.length}
    _, trained = made(curve, replace(QUICK, longer=QUICK.length), lambda x, steps: 1.99)
    assert {steps for _, steps in trained} == {QUICK.length}
    assert made(curve, replace(QUICK, length=0, longer=0), lambda x, steps: 1.99) == (None, [])
