"""Tensors: values byte for byte in the same storage, copied once however many tensors look at it; gradients and hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessian.snapshot.keeping import Place, Restore, each, restore_all

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
CPU = torch.device("cpu")


class Stretch(NamedTuple):
    """A piece of a storage, in bytes."""

    storage: torch.UntypedStorage
    start: int
    end: int


class Layout:
    """Where tensors lie, looked up once.

    Attributes:
        housed: The parts with a storage.
        bare: Those without one.
        stretches: What the former occupy.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)
        places = [(part, storage_of(part)) for part in parts_of(self.tensors)]
        self.housed = [part for part, storage in places if storage is not None]
        self.bare = [part for part, storage in places if storage is None]
        self.stretches = list(stretches_of((part, storage) for part, storage in places if storage is not None))

    def needed_bytes(self, place: Place) -> defaultdict[torch.device, int]:
        needed = defaultdict[torch.device, int](int)
        for storage, start, end in self.stretches:
            needed[CPU if place == "cpu" else storage.device] += end - start
        for tensor in self.bare:
            needed[CPU if place == "cpu" else tensor.device] += whole_bytes(tensor)
        return needed


def keep_tensors(layout: Layout, place: Place = "device") -> Restore:
    """Values and storage of the tensors; copies lie on their device, or in the host's memory with ``place="cpu"``."""
    with torch.inference_mode(False):  # what is made in that mode could not be written to outside of it
        restores = [keep_stretches(layout.stretches, place), keep_homes(layout.housed)]
        restores += [keep_whole(tensor, place) for tensor in layout.bare]
        restores += [keep_inner(tensor) for tensor in layout.tensors if inner_names(tensor)]

    def restore() -> None:
        with torch.inference_mode(False), torch.no_grad():
            restore_all(restores)

    return restore


def inner_names(tensor: Tensor) -> list[str]:
    """Names under which a wrapper (``DTensor``, a quantized weight) holds the tensors that it is made of."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    return [] if flatten is None else [name for name in flatten()[0] if isinstance(getattr(tensor, name), Tensor)]  # or a device mesh


def parts_of(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The tensors, wrappers replaced by what they wrap; each once."""
    seen: dict[int, Tensor] = {}
    for tensor in tensors:
        names = inner_names(tensor)
        for part in parts_of(getattr(tensor, name) for name in names) if names else (tensor,):
            if id(part) not in seen:
                seen[id(part)] = part
                yield part


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """Where the values lie; None for sparse and nested tensors and others without such a place."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return None
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def stretches_of(places: Iterable[tuple[Tensor, torch.UntypedStorage]]) -> Iterator[Stretch]:
    """What tensors occupy of their storages: tied weights, views of one flat buffer and the buffer itself count once."""
    by_storage: dict[int, list[Stretch]] = defaultdict(list)
    for tensor, storage in places:
        if storage.device.type != "meta" and tensor.numel():
            by_storage[storage._cdata].append(stretch_of(tensor, storage))
    for stretches in by_storage.values():
        yield from merged(stretches) if len(stretches) > 1 else stretches


def stretch_of(tensor: Tensor, storage: torch.UntypedStorage) -> Stretch:
    """From a tensor's first byte to its last. A dimension made by ``expand`` has stride 0 and adds nothing."""
    size, start = tensor.element_size(), int(tensor.storage_offset())
    last = start + sum((int(length) - 1) * int(stride) for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return Stretch(storage, start * size, (last + 1) * size)


def merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The same bytes without overlaps."""
    first, *others = sorted(stretches, key=lambda one: one.start)
    storage, start, end = first
    for stretch in others:
        if stretch.start > end:
            yield Stretch(storage, start, end)
            start = stretch.start
        end = max(end, stretch.end)
    yield Stretch(storage, start, end)


def keep_stretches(stretches: Iterable[Stretch], place: Place) -> Restore:
    return each(restore_bytes, ((stretch.storage, stretch.storage.nbytes(), *copied(stretch, place)) for stretch in stretches))


def copied(stretch: Stretch, place: Place) -> tuple[Tensor, Tensor]:
    """A view of the bytes and a copy of them, eight at a time where that comes out even: as fast to compare as to copy.

    The view is a tensor of our own: to write to it does not count as a change of theirs, which autograd would refuse.
    """
    storage, start, end = stretch
    kind, size = (torch.uint8, 1) if start % 8 or end % 8 else (torch.int64, 8)
    window = torch.empty(0, dtype=kind, device=storage.device).set_(storage, start // size, ((end - start) // size,), (1,))
    return window, window.to("cpu" if place == "cpu" else window.device, copy=True)


def restore_bytes(storage: torch.UntypedStorage, size: int, window: Tensor, copy: Tensor) -> None:
    if storage.nbytes() < size:  # resized inside, as sharded training does
        storage.resize_(size)
    if not (window.is_cpu and torch.equal(window, copy)):  # to write to a file that is mapped for reading would end the process
        window.copy_(copy)


def keep_homes(tensors: Iterable[Tensor]) -> Restore:
    """The storage that tensors look at, and how."""
    return each(restore_home, ((tensor, tensor.data) for tensor in tensors))


def restore_home(tensor: Tensor, home: Tensor) -> None:
    if storage_of(tensor) is None or outline(tensor) != outline(home):
        tensor.data = home


def outline(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.device, tensor.shape, tensor.stride(), tensor.data_ptr(), tensor.storage_offset(), tensor.is_conj()


def keep_whole(tensor: Tensor, place: Place) -> Restore:
    """A sparse tensor, which has no storage to write into."""
    device = tensor.device
    value = tensor.data.clone() if place == "device" else tensor.data.to("cpu", copy=True)

    def restore() -> None:
        tensor.data = value.to(device, copy=True)

    return restore


def keep_inner(tensor: Tensor) -> Restore:
    kept = {name: getattr(tensor, name) for name in inner_names(tensor)}

    def restore() -> None:
        for name, part in kept.items():
            if getattr(tensor, name) is not part:
                setattr(tensor, name, part)

    return restore


def whole_bytes(tensor: Tensor) -> int:
    """Size of a sparse tensor: its values, and as much again for their places."""
    count = tensor._nnz() if tensor.is_sparse else tensor.numel()
    return 2 * count * tensor.element_size()


def keep_flags(tensors: Iterable[Tensor]) -> Restore:
    """``requires_grad`` and ``grad``. Gradients are not copied: the snapshot sets them aside, so nobody writes to them."""
    return each(restore_flags, ((tensor, tensor.requires_grad, tensor.grad) for tensor in tensors))


def restore_flags(tensor: Tensor, requires_grad: bool, grad: Tensor | None) -> None:
    if not tensor.is_leaf:  # written to in place, from weights: a state that is carried from step to step
        tensor.detach_()
    if tensor.requires_grad != requires_grad:
        tensor.requires_grad_(requires_grad)
    if tensor.grad is not grad:
        tensor.grad = grad


def keep_hooks(tensors: Iterable[Tensor]) -> Restore:
    """Which registries of hooks tensors have; what is in them is kept like any dictionary."""
    return each(restore_hooks, ((tensor, *(getattr(tensor, name) for name in HOOKS)) for tensor in tensors))


def restore_hooks(tensor: Tensor, *registries: Any) -> None:
    for name, registry in zip(HOOKS, registries, strict=True):
        now = getattr(tensor, name)
        if now is not registry:
            if now is not None:
                now.clear()  # setting None alone would leave torch with the hooks
            setattr(tensor, name, registry)
