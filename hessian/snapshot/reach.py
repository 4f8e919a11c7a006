"""What hangs on the objects handed over: found by following attributes and containers, everything once.

Followed are modules, optimizers, schedulers and gradient scalers wherever they turn up, plain records, and any other object that was
handed over itself or is the state of an optimizer. Other objects are left alone: a logger or a trainer that some attribute leads to
is not ours to turn back, and a data set is too large to copy.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType, SimpleNamespace
from typing import Any
from weakref import ProxyTypes

import numpy as np
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.jit import ScriptModule
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer
from torch.utils.data import DataLoader

from hessian.snapshot.containers import BYTES, CONTAINERS, attributes_of, slots_of
from hessian.snapshot.randomness import GENERATORS, samplers_of
from hessian.snapshot.tensors import HOOKS

PLAIN = frozenset((*CONTAINERS, OrderedDict, defaultdict, Counter))  # their attributes, if any, are nobody's
FAMILIES = (Optimizer, LRScheduler, GradScaler, SimpleNamespace)
NOTHING = frozenset((NoneType, bool, int, float, complex, str, bytes, *ProxyTypes))  # lead nowhere; a dead proxy raises if asked
CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


class Reached:
    """Everything found, by kind, each once."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.containers: list[Any] = []
        self.slotted: dict[int, Any] = {}  # beside another kind: a list may have slots too
        self.modules: list[nn.Module] = []
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.generators: list[Any] = []
        self.loaders: list[Any] = []
        self._kept: dict[int, Any] = {}
        self._seen: dict[bool, dict[int, Any]] = {False: {}, True: {}}  # handed over? Holds the objects, so that no other gets their id

    def follow(self, roots: Iterable[Any]) -> None:
        """Add what the roots lead to. A list of things to do, not recursion: nesting may be deep."""
        waiting = [(root, True) for root in roots if type(root) not in NOTHING]
        while waiting:
            value, handed = waiting.pop()
            seen = self._seen[handed]
            if id(value) not in seen:
                seen[id(value)] = value
                if type(value) in PLAIN and not value:  # most are registries of hooks that nobody set
                    self._note(self.containers, value)
                    continue
                waiting += [(part, also) for part, also in self._take(value, handed) if type(part) not in NOTHING]

    def leave_out(self, value: Any) -> None:
        """Follow this object only if it is handed over itself."""
        self._seen[False][id(value)] = value

    def _take(self, value: Any, handed: bool) -> Iterable[tuple[Any, bool]]:
        """Note the value under its kind; what it leads to, and whether that counts as handed over."""
        if isinstance(value, Tensor):
            self._note(self.tensors, value)
            return [(vars(value), False), *((getattr(value, name), False) for name in HOOKS)]
        if isinstance(value, CONTAINERS):
            self._note(self.containers, value)
            return [*contents_of(value, handed), *(() if type(value) in PLAIN else self._attributes(value))]
        if isinstance(value, (tuple, frozenset)):
            return [(part, handed) for part in value]
        return self._take_other(value, handed)

    def _take_other(self, value: Any, handed: bool) -> Iterable[tuple[Any, bool]]:
        if isinstance(value, np.ndarray):
            if value.flags.writeable:
                self._note(self.arrays, value)
        elif isinstance(value, GENERATORS):
            self._note(self.generators, value)
        elif isinstance(value, DataLoader):
            self.add_loader(value)
        elif isinstance(value, nn.Module):
            self._note(self.modules, value)
            return [*script_members(value), *self._attributes(value)]
        elif is_followed(value, handed):
            return [*optimizer_parts(value), *self._attributes(value)]
        return []

    def _attributes(self, value: Any) -> Iterator[tuple[Any, bool]]:
        if hasattr(value, "__dict__"):
            yield vars(value), False
        if next(slots_of(value), None) is not None:  # also where none is set yet
            self.slotted[id(value)] = value
            yield from ((attribute, False) for attribute in attributes_of(value).values())

    def _note(self, kind: list[Any], value: Any) -> None:
        if id(value) not in self._kept:
            self._kept[id(value)] = value
            kind.append(value)

    def add_loader(self, loader: Any) -> None:
        """Batches, or what gives them: itself and its samplers, but not the data."""
        if id(loader) in self._kept:
            return
        self._note(self.loaders, loader)
        self.leave_out(loader)
        samplers = samplers_of(loader)
        for owner in (loader, *samplers):
            for name in ("dataset", "data_source"):
                self.leave_out(getattr(owner, name, None))
        self.follow(samplers)
        if hasattr(loader, "__dict__") and not isinstance(loader, CODE):
            self._add_contents(vars(loader))
        if isinstance(loader, CONTAINERS):
            self.containers.append(loader)

    def _add_contents(self, attributes: dict[str, Any]) -> None:
        """Attributes of a loader by reference: what its lists hold may be the data."""
        self._note(self.containers, attributes)
        for value in attributes.values():
            if isinstance(value, CONTAINERS) and id(value) not in self._seen[False]:
                self._note(self.containers, value)
            elif isinstance(value, GENERATORS):
                self._note(self.generators, value)


def script_members(module: nn.Module) -> Iterator[tuple[Any, bool]]:
    """What a ``ScriptModule`` holds in C++; any other module has it in its attributes."""
    if isinstance(module, ScriptModule):
        yield from ((member, False) for member in (*module.parameters(recurse=False), *module.buffers(recurse=False), *module.children()))


def contents_of(container: Any, handed: bool) -> Iterator[tuple[Any, bool]]:
    """What a container holds; the values of a dictionary."""
    if not isinstance(container, BYTES):
        yield from ((part, handed) for part in (dict.values(container) if isinstance(container, dict) else container))


def is_followed(value: Any, handed: bool) -> bool:
    """Whether the attributes of an object count as ours."""
    if isinstance(value, CODE):
        return False
    return handed or isinstance(value, FAMILIES) or is_optimizer(value) or is_dataclass(value)


def is_optimizer(value: Any) -> bool:
    """Whether it has param groups, without asking objects that make up attributes when asked."""
    return hasattr(type(value), "param_groups") or "param_groups" in getattr(value, "__dict__", ())


def optimizer_parts(value: Any) -> Iterator[tuple[Any, bool]]:
    """An optimizer's state and groups, which a wrapper may hold elsewhere than in its attributes."""
    if is_optimizer(value):
        yield value.param_groups, False
        yield getattr(value, "state", None), True
