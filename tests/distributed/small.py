"""A small training in float64, whole and in parts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hessian.errors import PeerError

CRITERION = nn.CrossEntropyLoss()


def make_model(norm: bool = False, width: int = 9) -> nn.Sequential:
    """The same weights on every rank."""
    torch.default_generator.manual_seed(0)
    middle = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(nn.Linear(5, width), *middle, nn.Tanh(), nn.Linear(width, 3)).double()


def batches(count: int, size: int, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Batches of all ranks together."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 5, generator=generator, dtype=torch.float64), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


def part(data: list[Any], sizes: list[int], rank: int) -> list[Any]:
    """What one rank reads of them."""
    start = sum(sizes[:rank])
    return [tuple(tensor[start : start + sizes[rank]] for tensor in batch) for batch in data]


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def adam(model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr)


def state_of(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """A copy of all that must come back, pieces as they lie here."""

    def here(value: Any) -> Any:
        if hasattr(value, "to_local"):
            return str(value.placements), value.to_local().clone()
        return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)

    tensors = {name: here(tensor.detach()) for name, tensor in model.state_dict().items()}
    gradients = {name: None if tensor.grad is None else here(tensor.grad) for name, tensor in model.named_parameters()}
    moments = [{name: here(value) for name, value in state.items()} for state in optimizer.state.values()]
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return {"tensors": tensors, "gradients": gradients, "moments": moments, "groups": groups, "random": torch.random.get_rng_state()}


def same(first: Any, second: Any) -> bool:
    """Bit for bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[name]) for name, value in first.items())
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def train(model: nn.Module, optimizer: Any, data: list[Any], steps: int = 5) -> None:
    """A few steps of the user's own loop."""
    for inputs, target in (data * steps)[:steps]:
        optimizer.zero_grad()
        CRITERION(model(inputs), target).backward()
        optimizer.step()


def outcome(call: Any) -> str:
    """The error of a call, in words."""
    try:
        call()
    except PeerError as error:
        return f"PeerError: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "none"
