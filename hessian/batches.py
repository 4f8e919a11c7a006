"""The user's data as an endless stream of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from hessian.distributed import Team
from hessian.errors import BadArgument, BadType
from hessian.nested import Window, batch_size, move

NO_MORE = object()


class Batches:
    """Batches of ``data``, over and over, on ``device`` (None: left where they are).

    ``data`` can be read more than once (a ``DataLoader``, a list), or is a function that returns a batch. With ``accumulate`` above one
    a batch is a ``Window`` of so many of them, unless ``data`` give windows themselves. Every rank of a ``team`` reads its own data, and
    all of them get as many batches as the one with the fewest.
    """

    def __init__(
        self, data: Any, device: torch.device | None = None, name: str = "data", accumulate: int = 1, team: Team | None = None
    ) -> None:
        check_readable(data, name)
        self.data = data
        self.device = device
        self.name = name
        self.accumulate = accumulate
        self.team = team or Team()

    def over(self, data: Any, most: int | None = None) -> Batches:
        """Other data, in windows of at most ``most`` micro-batches."""
        return Batches(data, self.device, self.name, min(self.accumulate, most or self.accumulate), self.team)

    @property
    def single(self) -> Batches:
        """The same data, one micro-batch at a time."""
        return self.over(self.data, 1)

    def __iter__(self) -> Iterator[Any]:
        """Batches until a whole pass gives none."""
        return agreed(self.endless(), self.team)

    def endless(self) -> Iterator[Any]:
        """The same of this rank's data alone."""
        while True:
            batch = NO_MORE
            for batch in self.windows():
                yield move(batch, self.device)
            if batch is NO_MORE:
                return

    def windows(self) -> Iterator[Any]:
        """What the optimizer makes one step of, over one pass; the last window may hold fewer micro-batches."""
        source = self.one_pass()
        return source if self.accumulate == 1 else windowed(source, self.accumulate)

    def one_pass(self) -> Iterator[Any]:
        """Batches as the data give them; a function's without end."""
        return iter(self.data) if hasattr(self.data, "__iter__") else given_by(self.data)

    def take(self, count: int) -> list[Any]:
        """The first ``count`` batches, fewer if a pass is shorter.

        Raises:
            BadArgument: If the data gives no batch at all.
        """
        taken = [move(batch, self.device) for batch in islice(agreed(self.windows(), self.team), count)]
        if not taken:
            raise BadArgument(f"{self.name} gave no batch; check that its length is not 0 and that drop_last leaves one.")
        return taken

    @property
    def samples(self) -> int | None:
        """How many one pass sees, where that can be told without reading it."""
        data = self.data
        dataset = getattr(data, "dataset", None)
        if isinstance(dataset, IterableDataset):
            return None
        for sized in (getattr(data, "sampler", None), dataset):
            if isinstance(sized, Sized):
                return len(sized)
        return batch_size(Window(data)) if isinstance(data, (list, tuple)) else None


def given_by(function: Callable[[], Any]) -> Iterator[Any]:
    """Until it raises StopIteration."""
    while True:
        try:
            batch = function()
        except StopIteration:
            return
        yield batch


def windowed(source: Iterator[Any], count: int) -> Iterator[Any]:
    """Windows of ``count``; a loader that makes its own knows more about them."""
    for first in source:
        yield first if isinstance(first, Window) else Window((first, *islice(source, count - 1)), count)


class Ahead(Iterator[Any]):
    """Batches until a rank has none left, and windows as long as the shortest rank's: no rank then waits for another in a backward pass.

    Ranks meet for that; where they do anyway, for a loss, each ``fetch``es its next batch before, and all ``agree`` there.
    """

    def __init__(self, source: Iterator[Any], team: Team) -> None:
        self._source = source
        self._team = team
        self._batch: Any = None
        self._own: int | None = None  # micro-batches here; none fetched yet where that is not known
        self._agreed: int | None = None

    def fetch(self) -> int:
        """Read this rank's next batch, unless that was done; its micro-batches, 0 where there is none."""
        if self._own is None:
            self._batch = next(self._source, NO_MORE)
            self._own = 0 if self._batch is NO_MORE else len(self._batch) if isinstance(self._batch, Window) else 1
        return self._own

    def agree(self, parts: int) -> None:
        """What every rank has of the batch that was fetched."""
        self._agreed = parts

    def __next__(self) -> Any:
        own = self.fetch()
        parts = self._team.least(own, "a batch") if self._agreed is None else self._agreed
        if not parts:
            raise StopIteration
        batch, self._batch, self._own, self._agreed = self._batch, None, None, None
        return Window(batch[:parts], batch.share) if isinstance(batch, Window) else batch


def agreed(source: Iterator[Any], team: Team) -> Iterator[Any]:
    """The batches of all ranks; alone, the source itself."""
    return source if team.alone else Ahead(source, team)


def check_readable(data: Any, name: str) -> None:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise BadType(f"{name} is a Dataset, whose items are single samples; pass torch.utils.data.DataLoader({name}, batch_size=...).")
    if isinstance(data, (Tensor, Mapping, str, bytes)) or not (hasattr(data, "__iter__") or callable(data)):
        raise BadType(
            f"{name} is a {type(data).__name__}, not batches; pass a DataLoader, a list of batches, or a function that returns one batch."
        )
    if hasattr(data, "__next__"):
        raise BadType(
            f"{name} is a {type(data).__name__}, which can be read only once, so your data order could not be restored; "
            "pass the DataLoader, a list of batches, or a function that returns one batch."
        )
    if length_of(data) == 0:
        raise BadArgument(f"{name} is empty (its length is 0); pass at least one batch.")


def length_of(data: Any) -> int | None:
    """None where the data does not know: a loader of a stream has a ``__len__`` that raises."""
    try:
        return len(data)
    except TypeError:
        return None
