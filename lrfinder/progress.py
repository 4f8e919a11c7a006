"""A progress bar on stderr where someone watches: on a terminal, in a notebook."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from hessian.distributed import is_main
from lrfinder.budget import Spent

T = TypeVar("T")

WIDTH = 80
SPARE = 3  # columns left free: the ^C that a terminal prints must not begin a new line, which nothing would clear
READING = 24  # columns of LR and loss
NAME = 15  # columns of the phase's name, so that the rest stands still
FORM = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {elapsed}<{remaining} {postfix[0]}"


class Progress:
    """Wraps loops in a tqdm bar, which is gone afterwards; of several processes only the first shows one.

    A loop alone (``over``) has a bar of its own. Inside ``whole`` there is one bar for all of them, counted in gradients. As a context
    it closes what an error left open.
    """

    def __init__(self, show: bool | None = None) -> None:
        show = True if show is None and in_notebook() else show
        self.disable = (None if show is None else not show) if is_main() else True  # None: tqdm looks whether it is a terminal
        self._bar: Any = None  # a tqdm; their types do not know the list that stands for a postfix
        self._left: dict[str, float] = {}
        self._spent = Spent()
        self._name, self._most, self._loops = "", 0, 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
            bar.fp.write("\r" + " " * (room() + SPARE - 1) + "\r")  # also what the terminal itself wrote behind the bar: a ^C
            bar.fp.flush()

    @contextmanager
    def whole(self, phases: Mapping[str, float], spent: Spent) -> Iterator[Progress]:
        """One bar for all loops inside; ``phases`` are what is expected, each with its cost in gradients."""
        self._left, self._spent = dict(phases), spent
        with self, self._opened(sum(phases.values()), next(iter(phases), "")):
            yield self

    def done(self, phase: str) -> None:
        """A phase is over: it counts what it has cost in fact, and the other phases are left."""
        self._left.pop(phase, None)
        if self._bar is not None:
            self._bar.n = self._spent.gradients
            self._bar.total = self._bar.n + sum(self._left.values())
            self.phase(next(iter(self._left), phase))

    def phase(self, name: str) -> None:
        """What happens now, shown at once."""
        if self._bar is not None:
            self._bar.postfix = [reading()]
            self._bar.ncols = room()
            self._bar.set_description_str(f"{name:<{NAME}}", refresh=True)

    @contextmanager
    def named(self, name: str, most: int = 0) -> Iterator[None]:
        """The loops inside are called this, numbered if there may be several."""
        self._name, self._most, self._loops = name, most, 0
        try:
            yield
        finally:
            self._name = ""

    def over(self, items: Iterable[T], total: int, label: str, cost: float = 1.0) -> Generator[T, None, None]:
        """The items, counted; each costs so many gradients."""
        if self.disable:
            yield from items
            return
        if self._bar is None:
            with self._opened(total, label):
                yield from self._counted(items, 1.0)
            return
        self._loops += 1
        numbered = f"{self._name} {self._loops} of {max(self._most, self._loops)}" if self._most else self._name
        self.phase(numbered or label)
        yield from self._counted(items, cost)

    def _counted(self, items: Iterable[T], cost: float) -> Iterator[T]:
        if self._bar is None:  # nobody watches: let each step cost nothing
            yield from items
            return
        for item in items:
            yield item
            self.advance(cost)

    def more(self, cost: float) -> None:
        """So much is to be done that was not expected."""
        if self._bar is not None:
            self._bar.total += cost

    def advance(self, cost: float = 1.0) -> None:
        """So much more is done."""
        if self._bar is not None:
            self._bar.ncols = room()
            self._bar.total = max(self._bar.total, self._bar.n + cost)  # tqdm knows no total where more is done than was expected
            self._bar.update(cost)

    def tell(self, lr: float, loss: float) -> None:
        """The last loss that is known, and its LR."""
        if self._bar is not None:
            self._bar.postfix = [reading(lr, loss)]

    @contextmanager
    def _opened(self, total: float, name: str) -> Iterator[None]:
        from tqdm import tqdm

        text: Any = [reading()]
        bar = tqdm(total=total, desc=f"{name:<{NAME}}", disable=self.disable, leave=False, bar_format=FORM, ncols=room(), postfix=text)
        self._bar = None if bar.disable else bar  # so that a step that nobody watches costs nothing
        with self:
            yield


def in_notebook() -> bool:
    """Whether stderr leads to a notebook, which is no terminal though someone watches."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def reading(lr: float | None = None, loss: float = 0.0) -> str:
    """LR and loss, or as much space."""
    return " " * READING if lr is None else f"lr {lr:.1e} loss {loss:<8.3g}"[:READING]


def room() -> int:
    """Columns that a bar may fill."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or no file behind it
        columns = 0
    return min(columns or WIDTH, WIDTH) - SPARE


def aside(text: str) -> None:
    """A line on stderr, above the bar if there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
