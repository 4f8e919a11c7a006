"""Tensors: values byte for byte in the same storage, copied once however many tensors look at it; gradients and hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessian.snapshot.keeping import Place, Restore, restore_all

HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
CPU = torch.device("cpu")


class Stretch(NamedTuple):
    """A piece of a storage, in bytes."""

    storage: torch.UntypedStorage
    start: int
    end: int


def keep_tensors(tensors: Iterable[Tensor], place: Place = "device") -> Restore:
    """Values and storage of the tensors; copies lie on their device, or in the host's memory with ``place="cpu"``."""
    tensors = list(tensors)
    with torch.inference_mode(False):  # what is made in that mode could not be written to outside of it
        parts = list(parts_of(tensors))
        bare = [tensor for tensor in parts if storage_of(tensor) is None]
        restores = [keep_stretch(stretch, place) for stretch in stretches_of(parts)]
        restores += [keep_home(tensor) for tensor in parts if storage_of(tensor) is not None]
        restores += [keep_whole(tensor, place) for tensor in bare]
        restores += [keep_inner(tensor) for tensor in tensors if inner_names(tensor)]

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


def stretches_of(tensors: Iterable[Tensor]) -> Iterator[Stretch]:
    """What the tensors occupy: tied weights, views of one flat buffer and the buffer itself count once."""
    by_storage: dict[int, list[Stretch]] = defaultdict(list)
    for tensor in tensors:
        storage = storage_of(tensor)
        if storage is not None and storage.device.type != "meta" and tensor.numel():
            by_storage[storage._cdata].append(stretch_of(tensor, storage))
    for stretches in by_storage.values():
        yield from merged(stretches)


def stretch_of(tensor: Tensor, storage: torch.UntypedStorage) -> Stretch:
    """From a tensor's first byte to its last. A dimension made by ``expand`` has stride 0 and adds nothing."""
    size, start = tensor.element_size(), int(tensor.storage_offset())
    last = start + sum((int(length) - 1) * int(stride) for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return Stretch(storage, start * size, (last + 1) * size)


def merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The same bytes without overlaps."""
    storage, start, end = None, 0, 0
    for stretch in sorted(stretches, key=lambda one: (one.start, one.end)):
        if storage is not None and stretch.start > end:
            yield Stretch(storage, start, end)
        if storage is None or stretch.start > end:
            storage, start, end = stretch
        end = max(end, stretch.end)
    if storage is not None:
        yield Stretch(storage, start, end)


def keep_stretch(stretch: Stretch, place: Place) -> Restore:
    """Bytes of a storage, through a tensor of our own: it does not count as a change of theirs, which autograd would refuse."""
    storage, start, end = stretch
    size = storage.nbytes()
    window = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, start, (end - start,), (1,))
    copy = window.to("cpu" if place == "cpu" else window.device, copy=True)

    def restore() -> None:
        if storage.nbytes() < size:  # resized inside, as sharded training does
            storage.resize_(size)
        if not unchanged(window, copy):
            window.copy_(copy)

    return restore


def unchanged(window: Tensor, copy: Tensor) -> bool:
    """Whether nothing need be written: memory of a file that is mapped for reading would end the process. An accelerator has none."""
    return window.device.type == "cpu" and torch.equal(words(window), words(copy))


def words(window: Tensor) -> Tensor:
    """The same bytes, eight at a time where that comes out even: as fast to compare as to copy."""
    return window if window.numel() % 8 or int(window.storage_offset()) % 8 else window.view(torch.int64)


def keep_home(tensor: Tensor) -> Restore:
    """The storage that a tensor looks at, and how."""
    home = tensor.data

    def restore() -> None:
        if storage_of(tensor) is None or outline(tensor) != outline(home):
            tensor.data = home

    return restore


def outline(tensor: Tensor) -> tuple[Any, ...]:
    """Place and shape."""
    return tensor.dtype, tensor.device, tensor.shape, tensor.stride(), tensor.data_ptr(), tensor.storage_offset(), tensor.is_conj()


def keep_whole(tensor: Tensor, place: Place) -> Restore:
    """A sparse tensor, which has no storage to write into."""
    device = tensor.device
    value = tensor.data.clone() if place == "device" else tensor.data.to("cpu", copy=True)

    def restore() -> None:
        tensor.data = value.to(device, copy=True)

    return restore


def keep_inner(tensor: Tensor) -> Restore:
    """Which tensors a wrapper wraps."""
    kept = {name: getattr(tensor, name) for name in inner_names(tensor)}

    def restore() -> None:
        for name, part in kept.items():
            if getattr(tensor, name) is not part:
                setattr(tensor, name, part)

    return restore


def needed_bytes(tensors: Iterable[Tensor], place: Place) -> dict[torch.device, int]:
    """What a copy takes, on each device."""
    needed: dict[torch.device, int] = defaultdict(int)
    parts = list(parts_of(tensors))
    for storage, start, end in stretches_of(parts):
        needed[CPU if place == "cpu" else storage.device] += end - start
    for tensor in parts:
        if storage_of(tensor) is None:
            needed[CPU if place == "cpu" else tensor.device] += whole_bytes(tensor)
    return dict(needed)


def whole_bytes(tensor: Tensor) -> int:
    """Size of a sparse tensor: its values, and as much again for their places."""
    count = tensor._nnz() if tensor.is_sparse else tensor.numel()
    return 2 * count * tensor.element_size()


def keep_flags(tensor: Tensor) -> Restore:
    """``requires_grad`` and ``grad``. Gradients are not copied: the snapshot sets them aside, so nobody writes to them."""
    requires_grad, grad = tensor.requires_grad, tensor.grad

    def restore() -> None:
        if not tensor.is_leaf:  # written to in place, from weights: a state that is carried from step to step
            tensor.detach_()
        if tensor.requires_grad != requires_grad:
            tensor.requires_grad_(requires_grad)
        if tensor.grad is not grad:
            tensor.grad = grad

    return restore


def keep_hooks(tensor: Tensor) -> Restore:
    """Which registries of hooks a tensor has; what is in them is kept like any dictionary."""
    kept = {name: getattr(tensor, name) for name in HOOKS}

    def restore() -> None:
        for name, registry in kept.items():
            now = getattr(tensor, name)
            if now is not registry:
                if now is not None:
                    now.clear()  # setting None alone would leave torch with the hooks
                setattr(tensor, name, registry)

    return restore
