"""A progress bar on stderr where someone watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hessian.distributed import is_main

T = TypeVar("T")


class Progress:
    """Wraps a loop in a tqdm bar; of several processes only the first shows one.

    Args:
        show: True or False; None shows it when stderr is a terminal.
    """

    def __init__(self, show: bool | None = None) -> None:
        self.disable = (None if show is None else not show) if is_main() else True

    def over(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """The items, counted."""
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, disable=self.disable, leave=False, unit="step")
