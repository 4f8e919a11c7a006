"""What every part of a snapshot shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

Restore = Callable[[], None]
Place = Literal["device", "cpu"]


def restore_all(restores: Iterable[Restore]) -> None:
    """Call every one. One that fails does not keep the others from coming back; its error is raised at the end."""
    failures: list[BaseException] = []
    for restore in restores:
        try:
            restore()
        except BaseException as error:
            failures.append(error)
    if failures:
        raise failures[0]


def each(restore: Callable[..., None], kept: Iterable[tuple[Any, ...]]) -> Restore:
    """``restore(*what)`` for everything kept, as one function.

    With one for each of thousands of tensors, Python's garbage collector would take longer than it takes to copy them.
    """
    things = list(kept)
    return lambda: restore_all(partial(restore, *what) for what in things)
