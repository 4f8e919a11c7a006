"""Ctrl-C, SIGTERM and the death of a loader's worker, held back while things are put back."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

Handlers = dict[int, Any]
# In the handler of SIGCHLD torch tells, by raising, that a worker has died.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGCHLD") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done, then let them through: half a restored model is worse than a short wait."""
    pressed: list[int] = []
    handlers: Handlers = {}
    try:
        replace_handlers(handlers, lambda number, handler: lambda received, frame: pressed.append(received))
        yield
    finally:
        for number, handler in reversed(handlers.items()):
            signal.signal(number, handler)
        for number in pressed:
            signal.raise_signal(number)  # to the handler that was there: the user's own may do something else than raise


def replace_handlers(replaced: Handlers, make: Callable[[int, Any], Any]) -> None:
    """Put ``make(signal, its handler)``, unless that is None, in the place of every handler; ``replaced`` gets those that were there."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        return
    for number in SIGNALS:
        handler = signal.getsignal(number)
        replacement = None if handler is None else make(number, handler)  # None: not from Python, which could not put it back
        if replacement is not None:
            replaced[number] = handler  # before it is replaced: an interrupt may come in between
            signal.signal(number, replacement)


class Doorkeeper:
    """Keeps signals out of the doors of a guarded block: they wait while it is entered or left, and pass as usual inside it.

    ``uninterrupted`` alone leaves gaps of a few instructions, before it begins and after it ends. What is interrupted tells whether
    a door is open, a method of ``owner`` with that code: no flag could be set without such a gap.
    """

    def __init__(self, owner: Any, *doors: CodeType) -> None:
        self._owner = owner
        self._doors = doors
        self._held: list[int] = []
        self._mine: Handlers = {}
        self._handlers: Handlers = {}

    def begin(self) -> None:
        replace_handlers(self._handlers, self._in_place_of)

    def _in_place_of(self, number: int, handler: Any) -> Any:
        def handle(received: int, frame: FrameType | None) -> None:
            if self._is_open(frame):
                self._held.append(received)
            else:
                handler(received, frame)

        self._mine[number] = handle
        return handle if callable(handler) else None  # what ends the process, or is ignored, does no harm to a model

    def _is_open(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._doors and frame.f_locals.get("self") is self._owner:
                return True
            frame = frame.f_back
        return False

    def deliver(self) -> None:
        """Let those through that waited, while the block goes on."""
        while self._held:
            number = self._held.pop(0)
            self._handlers[number](number, inspect.currentframe())

    def end(self) -> None:
        """Give the handlers their place back, unless somebody else has taken it since, and let those through that waited."""
        for number, handler in reversed(self._handlers.items()):
            if signal.getsignal(number) is self._mine[number]:
                signal.signal(number, handler)
        while self._held:
            signal.raise_signal(self._held.pop(0))
