"""One fault in one call, and everything that must hold afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from digest import digest
from oracles import assert_untouched
from subjects import ENTRIES, OPTIMIZERS, PLACES, Subject, subject_of
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
        sweeps: The same at the start of every sweep.
        result: What came out; None where nothing was found.
        afterwards: Ten steps of training after no run at all.
    """

    calls: Counter[str]
    sweeps: list[Counter[str]]
    result: Any
    afterwards: str


@cache
def clean_run(optimizer: str, entry: str) -> Clean:
    sweeps, over, result = list[Counter[str]](), Steps.over, None
    subject = subject_of(optimizer, entry)

    def noting(*args: Any) -> Iterator[Any]:
        sweeps.append(Counter(subject.wire.calls))
        return over(*args)

    with pytest.MonkeyPatch.context() as patch, suppress(MeasurementError):  # a search may find nothing and yet runs to its end
        patch.setattr(Steps, "over", noting)
        result = ENTRIES[entry](subject, OPTIMIZERS[optimizer])
    return Clean(Counter(subject.wire.calls), sweeps, result, subject_of(optimizer, entry).ten_steps())


Planned = tuple[str, int, Any]  # a place, the number of its call, and what happens there


def every_fault(optimizer: str, entry: str) -> list[Planned]:
    """One at every call of every place. The kind changes from call to call, and every optimizer begins with another one."""
    kinds, first = [*FAULTS.values()], [*OPTIMIZERS].index(optimizer)
    calls = clean_run(optimizer, entry).calls
    planned: list[Planned] = [
        (place, index, kinds[(first + index) % len(kinds)]()) for place in PLACES if place != "restore" for index in range(calls[place])
    ]
    restoring = [("restore", index, Signal()) for index in range(calls["restore"])]  # another error there is no fault of the user's code
    return planned + restoring


def in_turn(planned: Sequence[Any], length: int) -> list[Sequence[Any]]:
    """So many at a time."""
    return [planned[start : start + length] for start in range(0, len(planned), length)]


def check_faults(optimizer: str, entry: str, planned: Iterable[Planned]) -> None:
    """Nothing is harmed, and the user sees the very error, with what was recorded.

    The same subject goes through all of them: each must leave it as it was, and what one did all the same, ten steps at the end show.
    """
    subject = subject_of(optimizer, entry)
    before = digest(subject)
    for place, index, fault in planned:
        subject.wire.arm(place, index, fault.pull)
        try:
            result, error = guarded(optimizer, entry, subject, before)
            check_what_is_seen(optimizer, entry, subject, (place, index, fault), result, error)
        except AssertionError as failure:
            raise AssertionError(f"{fault.kind.__name__} at call {index} of {place}: {failure}") from failure
    assert subject.ten_steps() == clean_run(optimizer, entry).afterwards


def check_what_is_seen(optimizer: str, entry: str, subject: Subject, planned: Planned, result: Any, error: BaseException | None) -> None:
    """The error of the user's code, or what was recorded until Ctrl-C."""
    clean, (place, index, fault) = clean_run(optimizer, entry), planned
    assert subject.wire.calls[place] > index, "the fault never came"
    begun = bool(clean.sweeps) and index >= clean.sweeps[0][place]
    restored = index == clean.calls[place] - 1 and place == "restore"
    if entry == "range_test" and fault.kind is KeyboardInterrupt and begun and not restored:
        assert error is None
        assert result.status == "interrupted"
    else:
        as_it_was = error is fault.error if fault.error is not None else type(error) is fault.kind
        assert as_it_was, f"{fault.kind.__name__} came out as {error!r}"
        assert isinstance(getattr(error, "curve", None), LRCurve if begun else type(None))


def check_fault(optimizer: str, entry: str, place: str, index: int, fault: Any) -> None:
    """A single one."""
    check_faults(optimizer, entry, [(place, index, fault)])


def every_bend(optimizer: str, entry: str) -> list[tuple[int, str]]:
    """One from every call of the loss on; the kind changes as that of the faults does."""
    kinds, first = [*BENDS], [*OPTIMIZERS].index(optimizer)
    return [(index, kinds[(first + index) % len(kinds)]) for index in range(clean_run(optimizer, entry).calls["loss"])]


def check_bends(optimizer: str, entry: str, planned: Iterable[tuple[int, str]]) -> None:
    """Nothing is harmed, and there is a result or one of our own errors, whatever the loss does from those calls on."""
    subject = subject_of(optimizer, entry)
    before = digest(subject)
    for index, bend in planned:
        subject.wire.arm_loss(index, BENDS[bend])
        error = guarded(optimizer, entry, subject, before)[1]
        assert error is None or isinstance(error, (BadArgument, MeasurementError)), f"{bend} from call {index} on: {error!r}"
    assert subject.ten_steps() == clean_run(optimizer, entry).afterwards


def guarded(optimizer: str, entry: str, subject: Subject, before: dict[str, str] | None = None) -> tuple[Any, BaseException | None]:
    """The result or the error; nothing else may have changed since ``before``, its digest."""
    before, result, error = before or digest(subject), None, None
    subject.wire.calls.clear()
    try:
        result = ENTRIES[entry](subject, OPTIMIZERS[optimizer])
    except BaseException as caught:
        error = caught
    subject.wire.disarm()
    assert_untouched(before, digest(subject))
    return result, error
