"""What the tests compare with: torch's own optimizers, dense matrices, and a fingerprint of everything a measurement may touch.

Nothing here imports a formula from the packages under test.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Held = Mapping[str, Any] | Sequence[tuple[Tensor, Mapping[str, Any]]]

# Second moments to which adaptive optimizers are held. ``step`` is so large that every bias correction is 1.
HELD = {"exp_avg_sq": 0.04, "max_exp_avg_sq": 0.09, "square_avg": 0.04, "grad_avg": 0.1, "step": 1e6}


# The real optimizer, driven to divergence ---------------------------------------------------------------------------------------


def divergence_threshold(diverges: Callable[[float], bool], low: float, high: float) -> float:
    """The LR at which ``diverges`` changes its answer, to 0.2 %, by bisection."""
    assert not diverges(low), f"diverges already at {low}"
    assert diverges(high), f"does not diverge at {high}"
    while high / low > 1.004:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if diverges(middle) else (middle, high)
    return float((low * high) ** 0.5)


def is_divergent(optimizer: torch.optim.Optimizer, hessian: Tensor, held: Mapping[str, Any] | Sequence[Any] = (), steps: int = 500) -> bool:
    """Whether steps of the real optimizer on ``w' H w / 2`` grow.

    The preconditioner of an adaptive optimizer moves, and with it the limit. So before every step its state is put back to ``held``,
    as in the "frozen Adam" of Cohen et al. 2022 (arXiv:2207.14484): then the steps are linear in ``w`` and there is one threshold.
    ``held`` maps names in the state to numbers, or is a list of pairs (parameter, names and values).
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    create_state(optimizer, parameters)
    start = size_of(parameters)
    peaks = [0.0, 0.0, 0.0, 0.0]
    for step in range(steps):
        hold(optimizer, held)
        real_step(optimizer, parameters, hessian)
        size = size_of(parameters)
        if not 1e-6 < size / start < 1e4:
            return not size < start
        peaks[4 * step // steps] = max(peaks[4 * step // steps], size)
    return peaks[3] > peaks[2]


def create_state(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """One step that moves nothing: its LR and gradients are zero."""
    if hasattr(optimizer, "train"):  # Schedule-Free optimizers refuse to step otherwise
        optimizer.train()
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for buffers in optimizer.state.values():  # weight decay has entered the averages of the gradient
        for name in ("momentum_buffer", "exp_avg"):
            if buffers.get(name) is not None:
                buffers[name].zero_()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def hold(optimizer: torch.optim.Optimizer, held: Held) -> None:
    """Put back what ``held`` names, in the state of every parameter or in the param groups; a function is called with the group."""
    if isinstance(held, Mapping):
        for group in optimizer.param_groups:
            values = {name: value(group) if callable(value) else value for name, value in held.items()}
            group.update({name: values[name] for name in values.keys() & group.keys()})
            for parameter in group["params"]:
                put_back(optimizer.state[parameter], values)
    else:
        for parameter, values in held:
            put_back(optimizer.state[parameter], values)


def put_back(state: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for name in values.keys() & state.keys():
        state[name].copy_(torch.as_tensor(values[name]))


def real_step(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], hessian: Tensor) -> None:
    """One step on ``w' H w / 2``, its gradient set without autograd: the optimizer is what is tested."""
    gradient = hessian @ torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, gradient.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    optimizer.step()


def size_of(parameters: Sequence[Tensor]) -> float:
    return float(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]).norm())


# Matrices -----------------------------------------------------------------------------------------------------------------------


def random_rotation(size: int, seed: int) -> Tensor:
    """An orthogonal matrix in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def symmetric(eigenvalues: Sequence[float], seed: int = 0) -> Tensor:
    """A matrix of known spectrum, in no special basis, float64."""
    rotation = random_rotation(len(eigenvalues), seed)
    matrix = rotation @ torch.diag(torch.tensor(list(eigenvalues), dtype=torch.float64)) @ rotation.T
    return (matrix + matrix.T) / 2


class Quadratic(nn.Module):
    """``w' H w / 2`` with ``w`` in two parameters of different shape; the batch is ignored."""

    def __init__(self, hessian: Tensor, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(len(hessian), generator=generator, dtype=torch.float64)
        self.first = nn.Parameter(start[:2].reshape(1, 2))
        self.second = nn.Parameter(start[2:].clone())
        self.hessian = hessian

    def forward(self, batch: Any) -> Tensor:
        weights = torch.cat([self.first.reshape(-1), self.second])
        return weights @ (self.hessian @ weights) / 2


def loss_itself(model: Any, batch: Any) -> Tensor:
    """A ``loss_fn`` for modules that return their loss."""
    return model(batch)


def dense_hessian(problem: Any, batch: Any, *, by_rows: bool = False) -> Tensor:
    """The whole Hessian by torch, over the problem's parameters in their order.

    Forward over reverse mode, which shares no code path with a double backward. ``by_rows`` is for modules that write to buffers, which
    torch.func does not allow: reverse over reverse mode, one row at a time.
    """
    model, parameters = problem.model, problem.parameters
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    sizes = [parameter.numel() for parameter in parameters.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(parameters.items(), flat.split(sizes), strict=True)
        weights = {name: part.view_as(parameter) for (name, parameter), part in parts}
        return problem.loss_fn(lambda *args, **kwargs: torch.func.functional_call(model, {**buffers, **weights}, args, kwargs), batch)

    start = torch.cat([parameter.detach().reshape(-1) for parameter in parameters.values()])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        if by_rows:
            return torch.autograd.functional.hessian(loss, start)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)  # torch's own, in its forward mode
            return torch.func.hessian(loss)(start)


# Fingerprints -------------------------------------------------------------------------------------------------------------------


def bits(value: Any) -> str:
    """A short text that two values share only if they are the same bit for bit (NaN included)."""
    if isinstance(value, Tensor):
        plain = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
        content = plain.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return f"{tuple(value.shape)}{value.dtype}{value.device}{hashlib.sha256(content).hexdigest()[:16]}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{bits(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(bits(entry) for entry in value) + "]"
    return repr(value)


def described(value: Any, seen: set[int] | None = None) -> Any:
    """Everything that hangs on a value, with values, identities and order; slots too. Other than in the packages, by plain recursion."""
    seen = set() if seen is None else seen
    if isinstance(value, (str, int, float, complex, bool, bytes, type(None), type)) or (callable(value) and not hasattr(value, "__dict__")):
        return repr(value)
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    parts: list[Any] = [id(value), type(value).__name__]
    if isinstance(value, Tensor):
        grad = described(value.grad, seen) if value.is_leaf else None
        parts += [bits(value), place(value), value.stride() if place(value) else None, value.requires_grad, grad]
    elif isinstance(value, np.ndarray):
        parts += [value.shape, value.tobytes()]
    elif isinstance(value, torch.Generator):
        parts.append(bits(value.get_state()))
    elif isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
        parts.append(hashlib.sha256(pickle.dumps(value)).hexdigest())
    elif isinstance(value, Mapping):
        parts += [[repr(key) if isinstance(key, str) else id(key), described(entry, seen)] for key, entry in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset, deque, bytearray, array)):
        parts += [described(entry, seen) for entry in value]
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(value, name)]
    parts += [(name, described(getattr(value, name), seen)) for name in names if name not in ("__dict__", "__weakref__")]
    if not isinstance(value, (type, FunctionType)):
        parts += [(name, described(entry, seen)) for name, entry in sorted(getattr(value, "__dict__", {}).items())]
    return parts


def place(tensor: Tensor) -> int | None:
    """Where the values lie; a sparse tensor has no one place."""
    return tensor.data_ptr() if tensor.layout is torch.strided else None


def fingerprint(model: nn.Module, optimizer: Any = None, loaders: Iterable[Any] = ()) -> dict[str, str]:
    """Values, identities and places of all that ``preserve`` promises to bring back, by name."""
    found: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found[f"parameter {name}"] = (bits(parameter), id(parameter), parameter.data_ptr(), parameter.requires_grad)
        found[f"gradient {name}"] = None if parameter.grad is None else (bits(parameter.grad), id(parameter.grad), place(parameter.grad))
    for name, buffer in model.named_buffers(remove_duplicate=False):
        found[f"buffer {name}"] = (bits(buffer), id(buffer), buffer.data_ptr())
    for name, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        found[f"module {name}"] = (id(module), sorted((key, bits(value), id(value)) for key, value in plain.items()))
    if optimizer is not None:
        found |= optimizer_fingerprint(optimizer)
    for index, loader in enumerate(loaders):
        found |= loader_fingerprint(f"loader {index}", loader)
    found["torch generator"] = bits(torch.random.get_rng_state())
    found["numpy generator"] = hashlib.sha256(pickle.dumps(np.random.get_state())).hexdigest()
    found["python generator"] = hashlib.sha256(repr(random.getstate()).encode()).hexdigest()
    return {name: repr(value) for name, value in found.items()}


def optimizer_fingerprint(optimizer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"groups": [id(group) for group in optimizer.param_groups]}
    for index, group in enumerate(optimizer.param_groups):
        lr = group.get("lr")
        found[f"group {index}"] = [(key, bits(value)) for key, value in group.items() if key != "params"]
        found[f"group {index} lr"] = (bits(lr), id(lr) if isinstance(lr, Tensor) else None)
        found[f"group {index} members"] = [id(parameter) for parameter in group["params"]]
        for number, parameter in enumerate(group["params"]):
            if parameter in optimizer.state:
                state = optimizer.state[parameter]
                found[f"state {index}.{number}"] = [
                    (key, bits(value), (id(value), place(value)) if isinstance(value, Tensor) else None) for key, value in state.items()
                ]
    found["state"] = len(optimizer.state)
    found["optimizer attributes"] = sorted(
        (key, id(value)) for key, value in vars(optimizer).items() if key not in ("state", "param_groups")
    )
    return found


def loader_fingerprint(name: str, loader: Any) -> dict[str, Any]:
    owners = {"loader": loader, "sampler": getattr(loader, "sampler", None)}
    found = {
        f"{name} {owner} generator": bits(item.generator.get_state())
        for owner, item in owners.items()
        if isinstance(getattr(item, "generator", None), torch.Generator)
    }
    return {**found, f"{name} workers": id(getattr(loader, "_iterator", None))}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names whose fingerprint changed, came or went."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def assert_untouched(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    assert differences(before, after) == []
