"""Ctrl-C at every line of LRSweep and of what stands between it and the user's block: nothing is left, and it is not lost."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import torch
from oracles import differences, fingerprint

import hessian.snapshot
import lrfinder.loop
from lrfinder import LRSweep

WATCHED = (str(Path(hessian.snapshot.__file__).parent), lrfinder.loop.__file__, lrfinder.loop.__file__.replace("loop.py", "steps.py"))


@pytest.fixture(autouse=True)
def raising():
    """The usual handler: a shell that starts the tests in the background has Ctrl-C ignored."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


class Presses:
    """Presses Ctrl-C when the package, or the standard library between it and the block, comes to its n-th line."""

    def __init__(self, at: int) -> None:
        self.left, self.pressed = at, False

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(WATCHED) and "contextlib" not in file:
            return None
        if event in ("line", "call"):
            self.left -= 1
            if self.left == 0:
                self.pressed = True
                signal.raise_signal(signal.SIGINT)
        return self.trace

    def __enter__(self) -> Presses:
        sys.settrace(self.trace)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.settrace(None)


class Small:
    """A training as small as can be, and a loader with a generator: there is one run for every line."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(2, 2)
        self.model(torch.ones(1, 2)).sum().backward()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.loader = torch.utils.data.DataLoader(torch.ones(3, 2), shuffle=True, generator=torch.Generator().manual_seed(5))

    def fingerprint(self) -> dict[str, str]:
        return fingerprint(self.model, self.optimizer, [self.loader])

    def block(self, presses: Presses) -> None:
        """Two steps, and what an ordinary loop changes."""
        sweep = LRSweep(self.model, self.optimizer, num_iter=2, progress=False)
        with presses, sweep:
            for inputs in sweep(self.loader):
                self.optimizer.zero_grad()
                loss = self.model(inputs).square().sum()
                loss.backward()
                self.optimizer.step()
                sweep.report(loss)


def wrong_after(training: Small, before: dict[str, str], raised: bool, handler: Any) -> list[str]:
    """What is not as it should be."""
    found = differences(before, training.fingerprint())
    found += [] if raised else ["Ctrl-C"]
    found += [] if signal.getsignal(signal.SIGINT) is handler else ["handler"]
    return found + ([] if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else ["mode"])


def pressed_everywhere(stride: int) -> tuple[int, dict[int, list[str]]]:
    """How many lines there are, and what is not back after Ctrl-C at line 1, 1 + stride, ...: by line."""
    training, handler, wrong, at = Small(), signal.getsignal(signal.SIGINT), dict[int, list[str]](), 1
    before = training.fingerprint()
    while True:
        presses, raised = Presses(at), False
        try:
            training.block(presses)
        except KeyboardInterrupt:
            raised = True
        if not presses.pressed:
            return at, wrong
        found = wrong_after(training, before, raised, handler)
        if found:
            wrong[at] = found
            signal.signal(signal.SIGINT, handler)
            training = Small()
            before = training.fingerprint()
        at += stride


def test_ctrl_c_at_any_line_leaves_no_trace():
    lines, wrong = pressed_everywhere(stride=7)
    assert lines > 1000
    assert wrong == {}


class OpenDoor:
    """A doorkeeper that lets everything through."""

    def __init__(self, *doors: Any) -> None:
        pass

    def begin(self) -> None:
        pass

    deliver = end = begin


def test_ctrl_c_at_some_line_would_leave_a_trace_without_a_doorkeeper_of_its_own(monkeypatch):
    monkeypatch.setattr(lrfinder.loop, "Doorkeeper", OpenDoor)
    assert pressed_everywhere(stride=7)[1]
