"""Models that lie in pieces on several processes: ``DTensor`` parameters of FSDP2 (``fully_shard``) and of tensor parallelism.

Nothing is imported here that the user's code has not imported before: without it there can be no such tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FLAGS = ("_auto_reshard_after_forward", "post_forward_mesh_info", "reshard_after_backward", "reduce_grads", "all_reduce_grads")


def is_sharded(tensor: Any) -> bool:
    """Whether it is a ``DTensor``."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Any) -> Any:
    """What of a tensor lies here; anything else as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Any) -> Any:
    """The full value: ``item()`` of a ``DTensor`` that is yet to be summed gives this rank's part, silently."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def fsdp_modules(modules: Iterable[Any]) -> list[Any]:
    """Every part that ``fully_shard`` was applied to."""
    library = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(library, "FSDPModule", None)
    return [] if kind is None else [part for root in modules for part in root.modules() if isinstance(part, kind)]


def reshard(modules: Iterable[Any]) -> None:
    """Give the shards their place back where a forward pass has left whole parameters."""
    for module in fsdp_modules(modules):
        module.reshard()


def mesh_groups(modules: Sequence[nn.Module]) -> tuple[list[Any], list[Any]]:
    """Process groups over which batches differ (FSDP2's), and those over which only the model is divided."""
    sharded = [part for module in fsdp_modules(modules) for part in param_groups_of(module._get_fsdp_state())]
    over_data = [group for part in sharded for group in part.mesh_info.mesh.get_all_groups()]
    known = set(map(ranks_of, over_data))
    tensors: list[Any] = [tensor for root in modules for tensor in root.parameters() if is_sharded(tensor)]
    every = [group for tensor in tensors for group in tensor.device_mesh.get_all_groups()]
    return over_data, [group for group in every if ranks_of(group) not in known]


def ranks_of(group: Any) -> tuple[int, ...]:
    return tuple(torch.distributed.get_process_group_ranks(group))


@contextmanager
def gradients_aside(modules: Iterable[Any]) -> Iterator[None]:
    """No gradients inside, the user's own afterwards."""
    kept = [(parameter, parameter.grad) for root in modules for parameter in root.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


def own_part(full: Tensor, like: Any) -> Tensor:
    """Of a full value, which every rank has, the part that lies here of a tensor like it."""
    if not is_sharded(like):
        return full
    return local(replicated(full.to(like.to_local().device), like).redistribute(placements=like.placements))  # type: ignore[no-any-return]


def replicated(full: Tensor, like: Any) -> Any:
    """A ``DTensor`` of which every rank in the mesh of another has the whole."""
    kind, mesh = sys.modules["torch.distributed.tensor"], like.device_mesh
    return kind.DTensor.from_local(full, mesh, [kind.Replicate()] * mesh.ndim, run_check=False)


def placed(part: Tensor, like: Any) -> Tensor:
    """The part that lies here as a tensor divided like another."""
    if not is_sharded(like):
        return part
    kind = sys.modules["torch.distributed.tensor"].DTensor
    return kind.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())  # type: ignore[no-any-return]


def divided(value: Any, like: Any) -> Any:
    """A ``DTensor`` divided like another: a derivative may come in parts that are yet to be summed."""
    if not is_sharded(like) or not is_sharded(value):
        return value
    return value if value.placements == like.placements else value.redistribute(placements=like.placements)


def is_first_holder(tensor: Any) -> bool:
    """Whether no rank before this one in the tensor's mesh holds the same part."""
    if not is_sharded(tensor):
        return True
    mesh = tensor.device_mesh
    return all(mesh.get_local_rank(place) == 0 for place, kind in enumerate(tensor.placements) if kind.is_replicate())


def ranks_of_mesh(tensor: Any) -> set[tuple[int, ...]]:
    """Ranks that the mesh of a tensor connects, for every dimension of it."""
    return set(map(ranks_of, tensor.device_mesh.get_all_groups())) if is_sharded(tensor) else set()


def differentiates_twice(parameters: Iterable[Any]) -> bool:
    """Whether derivatives in a ``DTensor`` can be derived: torch 2.6 takes what comes out of one for a constant, without a word."""
    for tensor in filter(is_sharded, parameters):
        one = replicated(torch.ones(1, device=tensor.to_local().device), tensor).requires_grad_()
        with torch.enable_grad():
            (first,) = torch.autograd.grad(one.to_local().square().sum(), one, create_graph=True)
            return torch.autograd.grad(first.to_local().sum(), one, allow_unused=True)[0] is not None
    return True


@contextmanager
def unsharded(modules: Sequence[Any]) -> Iterator[None]:
    """Whole parameters in every part that ``fully_shard`` was applied to: plain tensors that autograd can differentiate twice.

    Backward passes leave them there and reduce nothing. Afterwards shards and flags are as before.
    """
    restore = shards_of(modules)
    try:
        for part in fsdp_modules(modules):
            part.set_reshard_after_forward(False, recurse=False)
            part.set_reshard_after_backward(False, recurse=False)
            part.set_requires_gradient_sync(False, recurse=False)
            part.unshard()
        yield
    finally:
        restore()


def keep_flags(modules: Iterable[Any]) -> Callable[[], None]:
    """What ``fully_shard`` is told to do in forward and backward passes."""
    states = [module._get_fsdp_state() for module in fsdp_modules(modules)]
    groups = [group for state in states for group in param_groups_of(state)]
    kept = [(thing, name, getattr(thing, name)) for thing in (*states, *groups) for name in FLAGS if hasattr(thing, name)]

    def restore() -> None:
        for thing, name, value in kept:
            setattr(thing, name, value)

    return restore


def param_groups_of(state: Any) -> list[Any]:
    """Parameters that one call of ``fully_shard`` took; earlier versions of torch have at most one group of them."""
    groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
    return [group for group in groups if group is not None]


def shards_of(modules: Sequence[nn.Module]) -> Callable[[], None]:
    """Reshard, now and whenever called: a forward pass may leave whole parameters where the shards were, which nobody would update."""
    reshard(modules)
    flags = keep_flags(modules)

    def restore() -> None:
        reshard(modules)
        flags()

    return restore
