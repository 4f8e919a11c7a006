"""What one batch is made of, however it is nested: its tensors, its samples, its micro-batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class Window(tuple[Any, ...]):
    """Micro-batches whose gradients are accumulated to one step. Their losses count the same, whatever their sizes.

    ``share`` divides the gradient of each, as training loops and frameworks do it: the number in a full window, also where a pass ends
    with fewer. None for as many as there are.
    """

    share: int

    def __new__(cls, parts: Iterable[Any], share: int | None = None) -> Window:
        window = super().__new__(cls, parts)
        window.share = share or len(window)
        return window


def move(batch: Any, device: torch.device | None) -> Any:
    """``batch`` with every tensor on ``device``; containers keep their type. None leaves it untouched."""
    if device is None:
        return batch
    return mapped(batch, lambda value: to_device(value, device) if hasattr(value, "to") else None)


def to_device(value: Any, device: torch.device) -> Any:
    """Anything that has a ``to``, as the batch classes of most libraries do; of some it moves what it is called on, hence the copy.

    A tensor on its way to an accelerator is not waited for: what the device does next waits by itself.
    """
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type not in ("cpu", "mps"))
    own: Any = value if isinstance(value, PackedSequence) else copy.copy(value)
    return own.to(device)


def mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """``batch`` with ``change`` applied to whatever it does not return None for; containers keep their type, other values stay."""
    changed = change(batch)
    if changed is not None:
        return changed
    if isinstance(batch, Window):
        return Window((mapped(part, change) for part in batch), batch.share)
    if isinstance(batch, PackedSequence):  # a named tuple whose parts mean something only together
        return batch
    if isinstance(batch, MutableMapping):
        filled = copy.copy(batch)  # not type(batch)(...): a defaultdict takes other arguments
        for key, value in batch.items():
            filled[key] = mapped(value, change)  # one by one: transformers' outputs forbid update
        return filled
    if isinstance(batch, Mapping):
        return type(batch)({key: mapped(value, change) for key, value in batch.items()})  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(value, change) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(mapped(value, change) for value in batch)
    return mapped_record(batch, change) if is_record(batch) else batch


def is_record(batch: Any) -> bool:
    """Whether it is an instance of a dataclass."""
    return is_dataclass(batch) and not isinstance(batch, type)


def mapped_record(batch: Any, change: Callable[[Any], Any]) -> Any:
    filled = copy.copy(batch)  # not type(batch)(...): that would run its __post_init__, and not every field is an argument
    for name, value in record_items(batch):
        object.__setattr__(filled, name, mapped(value, change))  # it may be frozen
    return filled


def record_items(batch: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(batch, field.name)) for field in fields(batch) if hasattr(batch, field.name))


def leaves_of(batch: Any) -> Iterator[Any]:
    """Whatever stands in mappings, lists, tuples and dataclasses, however nested; a ``PackedSequence`` as a whole."""
    if isinstance(batch, Mapping):
        parts: Any = batch.values()
    elif isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence):
        parts = batch
    elif is_record(batch):
        parts = (value for _, value in record_items(batch))
    else:
        yield batch
        return
    for part in parts:
        yield from leaves_of(part)


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Every tensor in a batch; of a ``PackedSequence`` the values, as its lengths stay on the CPU."""
    values = (leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in leaves_of(batch))
    return (value for value in values if isinstance(value, Tensor))


def rows_in(leaf: Any) -> int | None:
    """Samples in a tensor, its first dimension, or sequences in a ``PackedSequence``; None for anything else."""
    if isinstance(leaf, PackedSequence):
        return int(leaf.batch_sizes[0])
    return len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else None


def batch_size(batch: Any) -> int | None:
    """Number of samples: that of the first value that can be counted; None if there is no such value."""
    if isinstance(batch, Window):
        sizes = [batch_size(part) for part in batch]
        return None if None in sizes else sum(size for size in sizes if size)
    counts = map(rows_in, leaves_of(batch))
    return next((count for count in counts if count is not None), None)


def batch_shares(batches: Sequence[Any]) -> list[float]:
    """Share of every batch in all samples; batches whose samples cannot be counted weigh the same as one sample."""
    sizes = [batch_size(batch) or 1 for batch in batches]
    return [size / sum(sizes) for size in sizes]


def micro_batches(batches: Sequence[Any]) -> tuple[list[Any], list[float]]:
    """What fits a forward pass each, and its share of the mean loss: windows are taken apart."""
    parts, shares = list[Any](), list[float]()
    for batch, share in zip(batches, batch_shares(batches), strict=True):
        inner = batch if isinstance(batch, Window) else (batch,)
        parts += inner
        shares += [share / len(inner)] * len(inner)
    return parts, shares
