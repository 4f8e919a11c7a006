"""Nothing is harmed, whatever the user's code does and whenever: every entry point, with every optimizer, at every call of every place.

The kind of fault changes from call to call. What goes first is a fault of each kind on one training, then ten steps of it are compared.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import python
from harness import (
    BENDS,
    FAULTS,
    Signal,
    Thrown,
    check_bends,
    check_fault,
    check_faults,
    clean_run,
    every_bend,
    every_fault,
    guarded,
    in_turn,
)
from subjects import ENTRIES, OPTIMIZERS, PLACES, UNCALLED, subject_of
from versions import TORCH

import hessian.snapshot.guard
import lrfinder.sweep
from lrfinder import LRCurve
from lrfinder.sweep import sweep

PARTS = {"find_lr": 4, "range_test": 1, "LRSweep": 1, "stable_lr": 1, "SharpnessMonitor": 1}  # of the long ones, for several workers
CELLS = pytest.mark.parametrize(("entry", "part"), [(entry, part) for entry in ENTRIES for part in range(PARTS[entry])])
MID_TRAINING = "adam mid-training onecycle"


@CELLS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fault_at_any_call_leaves_no_trace(optimizer, entry, part):
    for planned in in_turn(every_fault(optimizer, entry), len(FAULTS))[part :: PARTS[entry]]:
        check_faults(optimizer, entry, planned)


@CELLS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loss_that_goes_wrong_at_any_call_leaves_no_trace(optimizer, entry, part):
    for planned in in_turn(every_bend(optimizer, entry), len(BENDS))[part :: PARTS[entry]]:
        check_bends(optimizer, entry, planned)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_search_that_meets_the_faults_has_all_its_parts(optimizer):
    clean = clean_run(optimizer, "find_lr")
    assert len(clean.sweeps) == 2
    if optimizer == "rmsprop" and TORCH < (2, 7):
        pytest.skip("with torch 2.6 the noise of this training's batches is larger than its gain, and the search says so")
    assert len(clean.result.probes.runs) >= 3
    assert clean.result.limit is not None or clean.result.no_limit is not None
    assert clean.result.confirmation is not None


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_call_meets_a_fault_and_over_all_optimizers_every_kind(entry):
    met = {(place, index): set() for place in PLACES for index in range(1000)}
    for optimizer in OPTIMIZERS:
        calls, planned = clean_run(optimizer, entry).calls, every_fault(optimizer, entry)
        assert [(place, index) for place, index, _ in planned] == [(place, index) for place in PLACES for index in range(calls[place])]
        for place, index, fault in planned:
            met[place, index].add((type(fault), fault.kind))
    called = set(PLACES) - UNCALLED.get(entry, set())
    assert all(len(met[place, 0]) == (1 if place == "restore" else len(FAULTS)) for place in called)


# Ctrl-C again, while everything is put back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", FAULTS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_while_everything_is_put_back_waits_until_it_is(entry, first):
    clean, subject = clean_run(MID_TRAINING, entry), subject_of(MID_TRAINING, entry)
    place = clean.calls["loss"] - 1

    def pull_both() -> None:
        subject.wire.arm("restore", subject.wire.calls["restore"], Signal().pull)
        FAULTS[first]().pull()

    subject.wire.arm("loss", place, pull_both)
    error = guarded(MID_TRAINING, entry, subject)[1]
    assert type(error) is KeyboardInterrupt
    assert isinstance(getattr(error, "curve", None), LRCurve if clean.sweeps else type(None))
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
    subject = subject_of("sgd", "range_test")
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


@pytest.mark.parametrize("part", ["keep_tensors", "keep_flags", "keep_containers", "keep_random_state", "keep_generator"])
def test_a_spoiled_part_is_seen(part, monkeypatch):
    clean_run("adam", "range_test")
    monkeypatch.setattr(hessian.snapshot.guard, part, lambda *args, **kwargs: lambda: None)
    with pytest.raises(AssertionError):
        check_fault(MID_TRAINING, "range_test", "loss", 8, Thrown(ValueError("mine")))


def test_an_error_that_comes_out_as_another_is_seen(monkeypatch):
    def wrapping(*args: Any, **kwargs: Any) -> Any:
        try:
            return sweep(*args, **kwargs)
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
    subject = subject_of("adam", "range_test")
    subject.loader.generator.manual_seed(6)
    assert subject.ten_steps() != clean_run("adam", "range_test").afterwards


def test_every_place_is_called_by_every_entry_point():
    for entry in ENTRIES:
        assert set(clean_run(MID_TRAINING, entry).calls) == set(PLACES) - UNCALLED.get(entry, set())
