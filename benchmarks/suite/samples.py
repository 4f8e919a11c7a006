"""Samples, how they are split, and the loaders that hand them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

VALIDATION = 1024  # samples at most

Batch = tuple[Tensor, ...]
Draw = Callable[[Generator, int], Batch]


class Split(NamedTuple):
    """Samples to train on, or a source that never ends, and the samples to judge by."""

    train: Batch | Draw
    val: Batch


class Samples(Dataset[Batch]):
    """Tensors of equal length. A list of indices gives a whole batch, which is many times faster than sample by sample."""

    def __init__(self, columns: Batch) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Batch:
        return tuple(column[index] for column in self.columns)

    def __getitems__(self, indices: list[int]) -> Batch:
        return tuple(column[indices] for column in self.columns)


@dataclass
class Endless(IterableDataset[Batch]):
    """Batches of fresh samples; the same ones, in the same order, whenever it is read anew."""

    draw: Draw
    batch: int
    seed: int

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in count():
            drawn = self.draw(generator, 64 * self.batch)  # many at once: a step takes less time than drawing its batch would
            yield from zip(*(torch.split(column, self.batch) for column in drawn), strict=True)


def loader(train: Batch | Draw, batch: int, seed: int) -> DataLoader[Any]:
    """Training batches in an order that depends on ``seed`` alone; an incomplete last batch is left out."""
    if callable(train):
        return DataLoader(Endless(train, batch, seed), batch_size=None)
    samples = Samples(train)
    order = torch.Generator().manual_seed(seed)
    return DataLoader(samples, min(batch, len(samples)), shuffle=True, drop_last=True, generator=order, collate_fn=together)


def together(samples: Any) -> Any:
    """A batch from single samples; one that the dataset has put together already stays as it is."""
    return default_collate(samples) if isinstance(samples, list) else samples


def split(columns: Batch, share: float = 0.25) -> Split:
    """A share of the samples held out; which ones never changes."""
    total = len(columns[0])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    train, val = order[int(share * total) :], order[: int(share * total)][:VALIDATION]
    return Split(tuple(column[train] for column in columns), tuple(column[val] for column in columns))


def drawn(draw: Draw, total: int) -> Split:
    """A fixed number of samples of a source, and a full validation set of others."""
    generator = torch.Generator().manual_seed(1)
    return Split(draw(generator, total), draw(generator, VALIDATION))


def endless(draw: Draw) -> Split:
    """The source itself to train on."""
    return Split(draw, draw(torch.Generator().manual_seed(0), VALIDATION))


def standardized(values: Any) -> Tensor:
    """Columns of mean 0 and standard deviation 1."""
    table = torch.as_tensor(values, dtype=torch.float32)
    return (table - table.mean(0)) / table.std(0)
