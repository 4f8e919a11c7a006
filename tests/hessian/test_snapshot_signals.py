"""Ctrl-C and SIGTERM: whenever they come, no half-restored model; and they are not lost."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from oracles import assert_untouched, differences, fingerprint
from snapshot_trainings import Training, disturb_with

import hessian.snapshot
from hessian import Problem, preserve
from hessian.snapshot import guard, uninterrupted

FOLDER = str(Path(hessian.snapshot.__file__).parent)


@pytest.fixture
def raising():
    """The usual handler: a shell that starts the tests in the background has Ctrl-C ignored."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)  # not os.kill: another thread may receive that, a moment later


@pytest.mark.usefixtures("raising")
def test_ctrl_c_waits_until_everything_is_restored():
    training = Training()
    before = training.fingerprint()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        disturb_with(training, press_ctrl_c)
    assert_untouched(before, training.fingerprint())
    assert signal.getsignal(signal.SIGINT) is handler


def interrupted_in_every_part(training):
    """Ctrl-C as each part begins to be restored."""
    with pytest.raises(KeyboardInterrupt):
        disturb_every_part(training)


def disturb_every_part(training):
    with training.preserved() as kept:
        kept._restores[:] = [partial(press_and_restore, restore) for restore in kept._restores]
        training.disturb()


def press_and_restore(restore):
    press_ctrl_c()
    restore()


@pytest.mark.usefixtures("raising")
def test_ctrl_c_in_every_part_waits_until_everything_is_restored():
    training = Training()
    before = training.fingerprint()
    interrupted_in_every_part(training)
    assert_untouched(before, training.fingerprint())


@pytest.mark.usefixtures("raising")
def test_ctrl_c_would_leave_half_a_model_without_that(monkeypatch):
    monkeypatch.setattr(guard, "uninterrupted", nullcontext)
    monkeypatch.setattr(guard, "Doorkeeper", OpenDoor)
    training = Training()
    before = training.fingerprint()
    interrupted_in_every_part(training)
    assert differences(before, training.fingerprint())


def test_ctrl_c_goes_to_the_users_own_handler():
    training = Training()
    before = training.fingerprint()
    caught = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: caught.append(differences(before, training.fingerprint())))
    try:
        disturb_with(training, press_ctrl_c)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert caught == [[]]  # called once, when all was back


@pytest.mark.usefixtures("raising")
def test_ctrl_c_while_restoring_after_an_error_is_not_lost():
    training = Training()
    training.disturb = lambda: [].pop()
    with pytest.raises(KeyboardInterrupt) as caught:
        disturb_with(training, press_ctrl_c)
    assert isinstance(caught.value.__context__, IndexError)


@pytest.mark.usefixtures("raising")
def test_ctrl_c_twice_while_restoring_waits_too():
    training = Training()
    before = training.fingerprint()
    with pytest.raises(KeyboardInterrupt):
        disturb_with(training, lambda: (press_ctrl_c(), press_ctrl_c()))
    assert_untouched(before, training.fingerprint())


@pytest.fixture
def terminated():
    """A handler of SIGTERM that raises, as trainers have one to save a checkpoint."""

    def handle(number, frame):
        raise SystemExit(15)

    handler = signal.signal(signal.SIGTERM, handle)
    yield handle
    signal.signal(signal.SIGTERM, handler)


def test_sigterm_waits_until_everything_is_restored(terminated):
    training = Training()
    before = training.fingerprint()
    with pytest.raises(SystemExit):
        disturb_with(training, lambda: signal.raise_signal(signal.SIGTERM))
    assert_untouched(before, training.fingerprint())
    assert signal.getsignal(signal.SIGTERM) is terminated


def test_a_handler_that_is_not_from_python_is_left_alone(monkeypatch):
    handler = signal.getsignal(signal.SIGTERM)
    changed = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *args: changed.append(args))
    with preserve(), uninterrupted():
        pass
    monkeypatch.undo()
    assert changed == []
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_handler_set_inside_stays():
    handler = signal.getsignal(signal.SIGINT)

    def own(number, frame):
        pass

    try:
        with preserve():
            signal.signal(signal.SIGINT, own)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("raising")
def test_inside_the_block_ctrl_c_comes_through_at_once():
    went_on = []
    with preserve():
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
        with preserve(), pytest.raises(KeyboardInterrupt):  # and through two of them
            went_on.append(press_ctrl_c())
    assert went_on == []


# Ctrl-C at every line -----------------------------------------------------------------------------------------------------------------


class Small:
    """A training as small as can be: there is one run for every line."""

    def __init__(self):
        self.model = torch.nn.Linear(2, 2)
        self.model.calls = 0
        self.model(torch.ones(1, 2)).sum().backward()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.loader = [(torch.ones(1, 2), torch.zeros(1, dtype=torch.long))]

    def fingerprint(self):
        return fingerprint(self.model, self.optimizer)

    def problem(self):
        return Problem(self.model, self.optimizer, self.loader, torch.nn.CrossEntropyLoss())


class Presses:
    """Presses Ctrl-C when the package, or the standard library between it and the block, comes to its n-th line."""

    def __init__(self, at):
        self.left, self.pressed = at, False

    def trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(FOLDER) and "contextlib" not in frame.f_code.co_filename:
            return None
        if event in ("line", "call"):
            self.left -= 1
            if self.left == 0:
                self.pressed = True
                press_ctrl_c()
        return self.trace

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *error):
        sys.settrace(None)


def block(training, problem, presses):
    """Everything that the package does around a measurement, and a little harm."""
    with presses, problem.preserved(keep=[training.loader]) as start:
        with torch.no_grad():
            training.model.weight.add_(1)
        training.model.calls = -1
        training.model.zero_grad()
        start.restore()
        training.model.weight.data = torch.zeros(2, 2)
        training.optimizer.param_groups[0]["lr"] = 7.0


def pressed_everywhere(stride):
    """What is not back after Ctrl-C at line 1, 1 + stride, ...: by line."""
    training = Small()
    problem, before = training.problem(), training.fingerprint()
    handler, wrong, at = signal.getsignal(signal.SIGINT), {}, 1
    while True:
        presses, raised = Presses(at), False
        try:
            block(training, problem, presses)
        except KeyboardInterrupt:
            raised = True
        except AttributeError as error:  # of half a module, which cannot even be looked at
            wrong[at] = [repr(error)]
            training = Small()
            problem, before = training.problem(), training.fingerprint()
        if not presses.pressed:
            return at, wrong
        found = differences(before, training.fingerprint())
        found += [] if raised or at in wrong else ["Ctrl-C"]
        found += [] if signal.getsignal(signal.SIGINT) is handler else ["handler"]
        found += [] if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else ["mode"]
        if found:
            wrong[at] = found
            signal.signal(signal.SIGINT, handler)
            training = Small()
            problem, before = training.problem(), training.fingerprint()
        at += stride


@pytest.mark.usefixtures("raising")
def test_ctrl_c_at_any_line_of_the_package_leaves_no_trace():
    lines, wrong = pressed_everywhere(stride=7)
    assert lines > 1000
    assert wrong == {}


class OpenDoor:
    """A doorkeeper that lets everything through."""

    def __init__(self, *doors):
        pass

    def begin(self):
        pass

    deliver = end = begin


@pytest.mark.usefixtures("raising")
def test_ctrl_c_at_some_line_would_leave_a_trace_without_the_doorkeeper(monkeypatch):
    monkeypatch.setattr(guard, "Doorkeeper", OpenDoor)
    monkeypatch.setattr(guard, "uninterrupted", nullcontext)
    assert pressed_everywhere(stride=47)[1]
