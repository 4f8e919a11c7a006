"""What every part of a snapshot shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

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
