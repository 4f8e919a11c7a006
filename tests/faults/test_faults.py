"""Nothing is harmed, whatever the user's code does and whenever: every entry point, with every optimizer, at every call.

All of it would take half an hour, so the two optimizers in the middle of their training meet a fault at every call of the loss and at a
sample of the other calls, the other optimizers at a sample of all. The kind of fault changes from call to call. The folder takes about
90 seconds of one core.
"""

from __future__ import annotations

import os
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from commands import python
from harness import BENDS, FAULTS, Signal, Thrown, check_bend, check_fault, clean_run, guarded, places_of
from subjects import ENTRIES, OPTIMIZERS, PLACES, make_subject

import hessian.snapshot.guard
import lrfinder.sweep
from lrfinder import LRCurve
from lrfinder.sweep import sweep

THOROUGH = [name for name, kind in OPTIMIZERS.items() if kind.schedule is not None]
OTHERS = [name for name in OPTIMIZERS if name not in THOROUGH]
DATA = 4  # samples in a batch
PARTS = 4  # of a long test, for several workers


def check_faults(optimizer: str, entry: str, *, every: int, loss_every: int, offset: int = 0) -> None:
    """Faults at every so many calls of a place; of the loss, more often."""

    def strides(place: str) -> int:
        return {"loss": loss_every, "data": DATA * every + 1, "restore": 1 + every // 20}.get(place, every)

    faults = cycle([*FAULTS] if optimizer != THOROUGH[0] else [*FAULTS][::-1])
    for place, index in places_of(optimizer, entry, strides, offset):
        fault = "signal" if place == "restore" else next(faults)  # whatever else is raised while restoring is no fault of the user's code
        check_fault(optimizer, entry, place, index, FAULTS[fault]())


@pytest.mark.parametrize("entry", ["range_test", "LRSweep", "stable_lr"])
@pytest.mark.parametrize("optimizer", THOROUGH)
def test_a_fault_at_any_call_leaves_no_trace(optimizer, entry):
    check_faults(optimizer, entry, every=2, loss_every=1)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("optimizer", THOROUGH)
def test_a_fault_at_any_call_of_a_search_leaves_no_trace(optimizer, part):
    check_faults(optimizer, "find_lr", every=40 * PARTS, loss_every=PARTS, offset=part)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("optimizer", OTHERS)
def test_a_fault_leaves_no_trace_with_any_optimizer(optimizer, entry):
    every, loss_every = (80, 30) if entry == "find_lr" else (9, 6)
    check_faults(optimizer, entry, every=every, loss_every=loss_every, offset=OTHERS.index(optimizer))


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loss_that_goes_wrong_leaves_no_trace(optimizer, entry):
    number = [*OPTIMIZERS].index(optimizer)
    losses = clean_run(optimizer, entry).calls["loss"]
    for position, bend in enumerate(BENDS):
        if (position + number) % 4 == 0:
            for index in (position % 2, losses // 2) if entry != "find_lr" else (losses // 2,):
                check_bend(optimizer, entry, bend, index)


# Ctrl-C again, while everything is put back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", FAULTS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_while_everything_is_put_back_waits_until_it_is(entry, first):
    optimizer = THOROUGH[1]
    clean, subject = clean_run(optimizer, entry), make_subject(OPTIMIZERS[optimizer])
    place = clean.calls["loss"] - 1

    def pull_both() -> None:
        subject.wire.arm("restore", subject.wire.calls["restore"], Signal().pull)
        FAULTS[first]().pull()

    subject.wire.arm("loss", place, pull_both)
    error = guarded(optimizer, entry, subject)[1]
    assert type(error) is KeyboardInterrupt
    assert isinstance(getattr(error, "curve", None), LRCurve if clean.started is not None else type(None))
    assert subject.ten_steps() == clean.afterwards


# What the error carries -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, GeneratorExit])
@pytest.mark.parametrize("entry", ENTRIES)
def test_errors_that_python_treats_specially_come_out_as_they_are(entry, kind):
    check_fault("adam", entry, "loss", clean_run("adam", entry).calls["loss"] - 1, Thrown(kind("mine")))


def test_an_error_that_is_raised_again_carries_what_was_recorded_last():
    """As one that a module keeps and raises every time."""
    fault = Thrown(ValueError("mine"))
    for index in (5, 9):
        check_fault("sgd", "range_test", "loss", index, fault)
        assert len(fault.error.curve.losses) == index - 1


def test_what_an_error_has_of_its_own_as_curve_stays():
    error = ValueError("mine")
    error.curve = "a road"  # type: ignore[attr-defined]
    subject = make_subject(OPTIMIZERS["sgd"])
    subject.wire.arm("loss", 5, Thrown(error).pull)
    assert guarded("sgd", "range_test", subject)[1] is error
    assert error.curve == "a road"  # type: ignore[attr-defined]


# A worker of the loader dies --------------------------------------------------------------------------------------------------------------


def test_a_dead_worker_leaves_no_trace(tmp_path):
    """In a process of its own: torch tells of the death by raising at a signal, and a fork of a process with threads may hang."""
    program, path = str(Path(__file__).with_name("dead_worker.py")), os.pathsep.join(sys.path)
    done = python(program, folder=tmp_path / "here", PYTHONPATH=path, TMPDIR=str(tmp_path / "temp"))
    assert (done.returncode, done.stdout.split()) == (0, ["[]"] * len(ENTRIES)), done.stderr


# Each of these checks can fail ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["keep_tensors", "keep_flags", "keep_container", "keep_random_state", "keep_generator"])
def test_a_spoiled_part_is_seen(part, monkeypatch):
    clean_run("adam", "range_test")
    monkeypatch.setattr(hessian.snapshot.guard, part, lambda *args, **kwargs: lambda: None)
    with pytest.raises(AssertionError):
        check_fault("adam mid-training onecycle", "range_test", "loss", 8, Thrown(ValueError("mine")))


def test_an_error_that_comes_out_as_another_is_seen(monkeypatch):
    def wrapping(*args: Any) -> Any:
        try:
            return sweep(*args)
        except ValueError as error:
            raise ValueError(str(error)) from error

    clean_run("adam", "range_test")
    monkeypatch.setattr(lrfinder.sweep, "sweep", wrapping)
    with pytest.raises(AssertionError, match="came out as"):
        check_fault("adam", "range_test", "loss", 8, Thrown(ValueError("mine")))


def test_a_fault_that_never_comes_is_seen():
    with pytest.raises(AssertionError, match="never came"):
        check_fault("adam", "range_test", "loss", 1000, Thrown(ValueError("mine")))


def test_ten_other_steps_are_seen():
    clean_run("adam", "range_test")
    subject = make_subject(OPTIMIZERS["adam"])
    subject.loader.generator.manual_seed(6)
    assert subject.ten_steps() != clean_run("adam", "range_test").afterwards


def test_every_place_is_called_by_every_entry_point():
    for entry in ENTRIES:
        assert set(clean_run("adam mid-training onecycle", entry).calls) == set(PLACES)
