"""SIGTERM, as batch systems send it before they kill, ends a measurement as Ctrl-C does: what was recorded is saved."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType


class Termination:
    """Inside ``with Termination() as termination:`` a SIGTERM becomes a Ctrl-C, and ``termination.asked`` says that it was one."""

    def __init__(self) -> None:
        self.asked = False
        self._process = os.getpid()

    def __enter__(self) -> Termination:
        self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked off: it ends as if we were not here
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)  # and not an exception: where Ctrl-C is held back (hessian.snapshot), this is too
        else:  # a background job ignores Ctrl-C
            raise KeyboardInterrupt
