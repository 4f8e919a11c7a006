"""One fault in one call, and everything that must hold afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from digest import digest
from oracles import assert_untouched
from subjects import ENTRIES, OPTIMIZERS, PLACES, Subject, make_subject
from torch import Tensor

from hessian.errors import BadArgument, MeasurementError
from lrfinder import LRCurve
from lrfinder.steps import Steps


class Signal:
    """A real Ctrl-C. Not os.kill: another thread may receive that, a moment later."""

    error = None
    kind: type[BaseException] = KeyboardInterrupt

    def pull(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Thrown:
    """An error of the user's code."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.kind = error, type(error)

    def pull(self) -> None:
        raise self.error


FAULTS: dict[str, Callable[[], Any]] = {
    "error": lambda: Thrown(ValueError("mine")),
    "signal": Signal,
    "out of memory": lambda: Thrown(torch.OutOfMemoryError("CUDA out of memory")),
    "ctrl-c": lambda: Thrown(KeyboardInterrupt("mine")),
}
BENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nan": lambda loss, output: loss * float("nan"),
    "inf": lambda loss, output: loss * float("inf"),
    "negative": lambda loss, output: loss - 5.0,
    "constant": lambda loss, output: loss * 0.0 + 1.0,
    "exploding": lambda loss, output: loss * 1e30,
    "huge and negative": lambda loss, output: loss * -1e30,
    "nan gradient": lambda loss, output: loss + (output.sum() * 0.0).sqrt(),  # 0 times the slope of the root at 0, which is infinite
}


@dataclass(frozen=True)
class Clean:
    """A run in which nothing fails.

    Attributes:
        calls: How often every place was called.
        started: The same when the first sweep began; None where there is none.
        afterwards: Ten steps of training after no run at all.
    """

    calls: Counter[str]
    started: Counter[str] | None
    afterwards: str


@cache
def clean_run(optimizer: str, entry: str) -> Clean:
    kind, started, over = OPTIMIZERS[optimizer], list[Counter[str]](), Steps.over
    subject = make_subject(kind)

    def noting(*args: Any) -> Iterator[Any]:
        started.append(Counter(subject.wire.calls))
        return over(*args)

    with pytest.MonkeyPatch.context() as patch, suppress(MeasurementError):  # a search may find nothing and yet runs to its end
        patch.setattr(Steps, "over", noting)
        ENTRIES[entry](subject, kind)
    calls = Counter(subject.wire.calls)
    return Clean(calls, started[0] if started else None, make_subject(kind).ten_steps())


def places_of(optimizer: str, entry: str, strides: Callable[[str], int], offset: int) -> Iterator[tuple[str, int]]:
    """Which call of which place, counted in a clean run."""
    calls = clean_run(optimizer, entry).calls
    for place in PLACES:
        yield from ((place, index) for index in range(offset % strides(place), calls[place], strides(place)))


def check_fault(optimizer: str, entry: str, place: str, index: int, fault: Any) -> None:
    """Nothing is harmed, and the user sees the very error, with what was recorded."""
    clean, subject = clean_run(optimizer, entry), make_subject(OPTIMIZERS[optimizer])
    subject.wire.arm(place, index, fault.pull)
    result, error = guarded(optimizer, entry, subject)
    assert subject.wire.calls[place] > index, "the fault never came"
    begun = clean.started is not None and index >= clean.started[place]
    restored = index == clean.calls[place] - 1 and place == "restore"
    if entry == "range_test" and fault.kind is KeyboardInterrupt and begun and not restored:
        assert error is None
        assert result.status == "interrupted"
    else:
        as_it_was = error is fault.error if fault.error is not None else type(error) is fault.kind
        assert as_it_was, f"{fault.kind.__name__} came out as {error!r}"
        assert isinstance(getattr(error, "curve", None), LRCurve if begun else type(None))
    assert subject.ten_steps() == clean.afterwards


def check_bend(optimizer: str, entry: str, bend: str, index: int) -> None:
    """Nothing is harmed, and there is a result or one of our own errors, whatever the loss does from that call on."""
    subject = make_subject(OPTIMIZERS[optimizer])
    subject.wire.arm_loss(index, BENDS[bend])
    error = guarded(optimizer, entry, subject)[1]
    assert error is None or isinstance(error, (BadArgument, MeasurementError)), repr(error)
    assert subject.ten_steps() == clean_run(optimizer, entry).afterwards


def guarded(optimizer: str, entry: str, subject: Subject) -> tuple[Any, BaseException | None]:
    """The result or the error; nothing else may have changed."""
    before, result, error = digest(subject), None, None
    try:
        result = ENTRIES[entry](subject, OPTIMIZERS[optimizer])
    except BaseException as caught:
        error = caught
    subject.wire.disarm()
    assert_untouched(before, digest(subject))
    return result, error
