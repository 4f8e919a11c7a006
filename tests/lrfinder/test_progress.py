"""The bar, on a real pseudo-terminal: what it says, how wide it is, and that nothing of it is left."""

from __future__ import annotations

import re

import pytest
from terminal import frames, screen, stderr_on_terminal
from torch import nn
from trainings import make

from lrfinder import LRSweep, find_lr, progress, range_test
from lrfinder.budget import Spent, expected_gradients, most_trainings, split_budget, usual_trainings

SPARE = progress.SPARE
PLAN = {"total_steps": 200, "budget": "standard"}


def test_find_lr_says_what_it_does_how_far_it_is_and_leaves_nothing(monkeypatch):
    with stderr_on_terminal(monkeypatch) as terminal:
        monkeypatch.setenv("TQDM_MININTERVAL", "0")  # steps of this training take less time than usually passes between two frames
        found = find_lr(**make().arguments, **PLAN)
    text = terminal.text
    shown = frames(text)
    assert all(len(frame) <= 80 - SPARE for frame in shown)
    phases = list(dict.fromkeys(frame[: progress.NAME].strip() for frame in shown))
    order = ["sweep", "losses before", "coarse sweep", "fine sweep", "short trainings", "training 1 of 4", "training 2 of 4", "curvature"]
    assert [phase for phase in phases if phase in order] == order
    assert any(re.search(r" lr \d\.\de-\d\d loss \d", frame) for frame in shown)
    counts = [tuple(map(int, count)) for frame in shown for count in re.findall(r"(\d+)/(\d+) ", frame)]
    assert counts[-1][0] == counts[-1][1] == pytest.approx(found.gradients, abs=1)  # what it counted is what it cost
    assert screen(text) == [""]  # nothing is left


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_bar_keeps_free_what_ctrl_c_needs_whatever_the_width(monkeypatch, columns):
    with stderr_on_terminal(monkeypatch, columns) as terminal:
        range_test(**make().arguments, start_lr=1e-5, end_lr=1.0, num_iter=40)
    text = terminal.text
    assert max(map(len, frames(text))) <= min(columns, 80) - SPARE
    assert screen(text, columns) == [""]


class Stop(BaseException):
    """As a Ctrl-C."""


def failing(at: int):
    """A criterion that raises at its so-many-th call."""
    calls = []

    def criterion(output, target):
        calls.append(1)
        if len(calls) == at:
            raise Stop
        return nn.functional.cross_entropy(output, target)

    return criterion


@pytest.mark.parametrize("at", [10, 60, 120])
def test_an_error_at_any_time_leaves_nothing_of_the_bar(monkeypatch, at):
    arguments = {**make().arguments, "criterion": failing(at)}
    with stderr_on_terminal(monkeypatch) as terminal:
        with pytest.raises(Stop) as caught:
            find_lr(**arguments, **PLAN)
        assert caught.value.__traceback__ is not None  # which keeps every frame, with its loops, alive
    assert screen(terminal.text) == [""]


def own_loop(training) -> None:
    """A loop of the user's that stops half-way."""
    with LRSweep(training.model, training.optimizer, num_iter=40) as sweep:
        for place, _ in enumerate(sweep([1, 2, 3])):
            if place == 5:
                raise Stop
            sweep.report(1.0)


def test_an_error_in_a_range_test_or_in_the_users_own_loop_leaves_nothing(monkeypatch):
    training = make()
    with stderr_on_terminal(monkeypatch) as terminal:
        with pytest.raises(Stop) as first:
            range_test(**{**training.arguments, "criterion": failing(10)}, num_iter=40)
        with pytest.raises(Stop) as second:
            own_loop(training)
    assert frames(terminal.text)
    assert screen(terminal.text) == [""]
    assert first.value is not second.value


@pytest.mark.parametrize("silent", ["progress", "rank"])
def test_a_bar_that_nobody_wants_is_not_shown_on_a_terminal(monkeypatch, silent):
    if silent == "rank":
        monkeypatch.setattr(progress, "is_main", lambda: False)
    with stderr_on_terminal(monkeypatch) as terminal:
        range_test(**make().arguments, num_iter=20, progress=False if silent == "progress" else None)
    assert terminal.text == ""


def test_what_costs_more_than_expected_makes_the_whole_longer(monkeypatch):
    with stderr_on_terminal(monkeypatch) as terminal:
        bar = progress.Progress(True)
        with bar.whole({"first": 4.0, "second": 2.0}, Spent()):
            list(bar.over(range(10), 10, "first"))
            bar.phase("first")
            bar.more(5.0)
            bar.phase("second")
    counts = [tuple(map(int, count)) for frame in frames(terminal.text) for count in re.findall(r"(\d+)/(\d+) ", frame)]
    assert (10, 10) in counts
    assert counts[-1] == (10, 15)
    assert screen(terminal.text) == [""]


def test_a_line_beside_the_bar_stands_above_it(monkeypatch):
    with stderr_on_terminal(monkeypatch) as terminal:
        for place in progress.Progress(True).over(range(3), 3, "steps"):
            if place == 1:
                progress.aside("a word")
    assert screen(terminal.text) == ["a word", ""]


# What is expected -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["quick", "standard", "thorough", 80])
def test_the_estimate_is_about_what_it_costs(budget):
    found = find_lr(**make().arguments, total_steps=1000, budget=budget, progress=False)
    expected = sum(expected_gradients(split_budget(budget), 1e-7, 100.0, True).values())
    assert expected == pytest.approx(found.gradients, rel=0.35)
    if found.probes is not None:
        made = len(found.probes.runs)
        assert made <= most_trainings(split_budget(budget))
        assert abs(made - usual_trainings(split_budget(budget))) <= 1


def test_phases_that_are_not_made_are_not_expected():
    assert "curvature" not in expected_gradients(split_budget("standard"), 1e-7, 100.0, False)
    assert "short trainings" not in expected_gradients(split_budget(60), 1e-7, 100.0, True)
