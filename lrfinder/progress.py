"""A progress bar on stderr where someone watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Wraps a loop in a tqdm bar.

    Args:
        show: True or False; None shows it when stderr is a terminal.
    """

    def __init__(self, show: bool | None = None) -> None:
        self.disable = None if show is None else not show

    def over(self, items: Iterable[T], total: int, label: str) -> Iterator[T]:
        """The items, counted."""
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, disable=self.disable, leave=False, unit="step")
