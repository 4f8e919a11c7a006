"""Samples to score on, and the data without them to train on: no short training is judged by what it has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler

from hessian.batches import Batches, length_of
from hessian.nested import Window, batch_size, mapped, move, rows_in
from hessian.snapshot import seed_everything

SHARE = 0.2  # of the samples
ENOUGH = 128  # samples to score on, at least, where there are as many
MOST_BATCHES = 8  # to score on: more would cost as much as the training


@dataclass(frozen=True)
class SetAside:
    """How the data were divided."""

    scored: Sequence[Any]
    training: Batches
    scored_on: str  # "val_data" or "data"
    share: float | None  # of the data that was set aside; 0 with val_data, None if some may be trained on all the same

    @property
    def samples(self) -> int | None:
        """How many are scored on, where they can be counted."""
        return batch_size(Window(self.scored))


def set_aside(batches: Batches, val_data: Batches | None, seed: int) -> SetAside:
    """Divide the data; inside ``preserved``, for reading a loader moves generators on."""
    data = batches.data
    if val_data is not None:
        usual = getattr(data, "batch_size", None) or ENOUGH
        return SetAside(enough(val_data, max(usual, ENOUGH // MOST_BATCHES)), batches, "val_data", 0.0)
    if isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
        divided = by_sample(data, batches, seed)
        if divided is not None:
            return divided
    if isinstance(data, (list, tuple)):
        return by_row(batches) if len(data) == 1 else by_batch(data, batches, seed)
    return by_skipping(batches, seed)


def enough(batches: Batches, usual: int) -> list[Any]:
    """The first few batches; no more samples than a few batches of the training have, whose size is ``usual``."""
    taken: list[Any] = []
    for batch in batches.take(MOST_BATCHES):
        taken.append(batch)
        if sum(batch_size(each) or 0 for each in taken) >= MOST_BATCHES * usual:
            break
    return taken


def by_sample(loader: DataLoader[Any], batches: Batches, seed: int) -> SetAside | None:
    """A random share of the data set's samples, if there are enough and the sampler, whichever it is, gives their numbers."""
    known = drawn_from(loader)
    size, chunk = len(known), max(loader.batch_size or 1, ENOUGH // MOST_BATCHES)
    ranks, rank = int(getattr(loader.sampler, "num_replicas", 1)), int(getattr(loader.sampler, "rank", 0))  # of a DistributedSampler
    held = np.random.default_rng(seed).permutation(known)[: min(round(SHARE * size), ranks * MOST_BATCHES * chunk)].tolist()
    if not held or not gives_numbers(loader):
        return None
    training = rebuilt(loader, Without(loader, set(held), size))
    own = held[rank::ranks]  # no rank trains on any of them, and each scores its share
    parts = [own[i : i + chunk] for i in range(0, len(own), chunk)]
    whole = [part for part in parts if len(part) == chunk] or parts  # some losses depend on the size of the batch
    if loader.batch_sampler is None:
        whole = [[index] for index in own[:MOST_BATCHES]]
    scored = [move(collated(loader, part), batches.device) for part in whole]
    return SetAside(scored, batches.over(training), "data", len(held) / size)


def drawn_from(loader: DataLoader[Any]) -> Sequence[int]:
    """Numbers of the samples that it reads: a part where it was divided by ``SubsetRandomSampler``."""
    if isinstance(loader.sampler, SubsetRandomSampler):
        return [int(index) for index in loader.sampler.indices]
    return range(length_of(loader.dataset) or 0)


def gives_numbers(loader: DataLoader[Any]) -> bool:
    """Whether the sampler yields numbers of samples: others could not be told from the ones set aside."""
    size = length_of(loader.dataset) or 0
    first: Any = next(iter(sampler_of(loader)), [])
    indices = list(first) if loader.batch_sampler is not None else [first]
    return bool(indices) and all(isinstance(index, (int, np.integer)) and 0 <= index < size for index in indices)


def sampler_of(loader: DataLoader[Any]) -> Any:
    """What yields the loader's batches of indices; single indices where the data set holds whole batches."""
    return loader.batch_sampler if loader.batch_sampler is not None else loader.sampler


def collated(loader: DataLoader[Any], indices: Sequence[int]) -> Any:
    samples = [loader.dataset[index] for index in indices]
    return loader.collate_fn(samples if loader.batch_sampler is not None else samples[0])


def rebuilt(loader: DataLoader[Any], sampler: Any) -> DataLoader[Any]:
    """The same loader with other batches of indices; it shares the generators, which are put back at the end."""
    batching: dict[str, Any] = {"batch_sampler": sampler} if loader.batch_sampler is not None else {"batch_size": None, "sampler": sampler}
    same = ("num_workers", "collate_fn", "pin_memory", "worker_init_fn", "multiprocessing_context", "generator")
    return DataLoader(loader.dataset, **{name: getattr(loader, name) for name in same}, **batching)


class Without:
    """What a loader's sampler yields, less the samples set aside; batches are filled up again to their usual size."""

    def __init__(self, loader: DataLoader[Any], held: set[int], size: int) -> None:
        self.source, self.held, self.batched = sampler_of(loader), held, loader.batch_sampler is not None
        self.batch_size = None if loader.batch_size is None else min(loader.batch_size, size - len(held))
        self.drop_last = loader.drop_last
        self.sampler = loader.sampler  # whose generator seeding looks for

    def __iter__(self) -> Iterator[Any]:
        if not self.batched:
            yield from (index for index in self.source if index not in self.held)
            return
        kept, given = list[Any](), False
        for indices in self.source:
            kept += [index for index in indices if index not in self.held]
            size = self.batch_size or len(kept)
            while kept and len(kept) >= size:
                yield kept[:size]
                kept, given = kept[size:], True
        if kept and not (self.drop_last and given):  # a pass without any batch would train nothing
            yield kept


def by_batch(data: Sequence[Any], batches: Batches, seed: int) -> SetAside:
    """Some batches of a list, at random: lists are often in order."""
    count = max(1, min(round(SHARE * len(data)), MOST_BATCHES))
    held = set(np.random.default_rng(seed).permutation(len(data))[:count].tolist())
    scored = [move(batch, batches.device) for index, batch in enumerate(data) if index in held]
    rest = [batch for index, batch in enumerate(data) if index not in held]
    return SetAside(scored, batches.over(rest, most=len(rest)), "data", count / len(data))


def by_row(batches: Batches) -> SetAside:
    """Every fifth row of a single batch; the batch itself if it has too few rows to share."""
    (batch,) = batches.single.take(1)
    size = batch_size(batch) or 1
    every = round(1 / SHARE)
    if size < 2 * every:
        return SetAside([batch], batches, "data", None)
    held = np.arange(size) % every == every - 1
    rest = batches.over([rows(batch, size, ~held)])
    return SetAside([rows(batch, size, held)], rest, "data", float(held.mean()))


def rows(batch: Any, size: int, chosen: Any) -> Any:
    """Those rows, or sequences of a ``PackedSequence``, of all that has as many as the batch has samples."""
    numbers = np.flatnonzero(chosen)
    return mapped(batch, lambda value: rows_of(value, numbers) if rows_in(value) == size else None)


def rows_of(value: Any, numbers: Any) -> Any:
    if isinstance(value, PackedSequence):
        sequences, sorted_before = unpack_sequence(value), value.sorted_indices is None
        return pack_sequence([sequences[number] for number in numbers], enforce_sorted=sorted_before)
    return value[numbers]


def by_skipping(batches: Batches, seed: int) -> SetAside:
    """The first batches of every pass over a stream; of a function, of all that it returns.

    Whether they come in the same order in every pass cannot be told, so the share is not known.
    """
    seed_everything(seed, batches.data)  # as every training does, so that its first batches are these
    most = MOST_BATCHES // 2
    taken = batches.single.take(most + 1)  # one more: a stream does not tell where it ends
    length = length_of(batches.data) or (len(taken) if len(taken) <= most else None)
    count = most if length is None else max(1, min(most, length // 4))
    training = batches if length == 1 else batches.over(Later(batches, count))
    return SetAside(taken[:count], training, "data", None)


class Later:
    """Every pass over the data without its first batches."""

    def __init__(self, batches: Batches, skip: int) -> None:
        self.batches, self.skip = batches, skip

    def __iter__(self) -> Iterator[Any]:
        return islice(self.batches.one_pass(), self.skip, None)
