"""``preserve``: whatever a measurement touches comes back bit for bit, also after an exception or Ctrl-C.

One ``keep_*`` function per kind of thing; each looks now and returns the function that puts it back.
"""

from __future__ import annotations

import copy
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

Restore = Callable[[], None]
REGISTRIES = ("_parameters", "_buffers", "_modules")


class Snapshot:
    """The state at the time of its making, which changes nothing; ``restore`` returns to it, as often as wanted."""

    def __init__(self, modules: Iterable[nn.Module], optimizers: Iterable[Any], data: Iterable[Any]) -> None:
        modules, data = list(modules), list(data)
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        self._loaders = [loader for loader in data if isinstance(loader, DataLoader)]
        self._restores: list[Restore] = [
            *(keep_loader(loader) for loader in data),
            *(keep_module(module) for root in modules for module in root.modules()),
            keep_tensors(tensor for module in modules for tensor in (*module.parameters(), *module.buffers())),
            keep_flags(self._parameters),
            *(keep_optimizer(optimizer) for optimizer in optimizers),
            keep_random_state(),
        ]

    def restore(self) -> None:
        """Return to the start of the block, to go on from there."""
        self.put_back()
        self.set_aside()

    def set_aside(self) -> None:
        """Take away what costs less to hide than to copy: gradients, and a loader's live workers. ``put_back`` returns them."""
        for parameter in self._parameters:
            parameter.grad = None
        for loader in self._loaders:
            loader._iterator = None

    def put_back(self) -> None:
        """Put everything back. A part that fails does not keep the others from coming back; its error is raised at the end."""
        failures: list[BaseException] = []
        with uninterrupted():
            for restore in self._restores:
                try:
                    restore()
                except Exception as error:
                    failures.append(error)
        if failures:
            raise failures[0]


@contextmanager
def preserve(*objects: Any) -> Iterator[Snapshot]:
    """Everything inside ``with preserve(model, optimizer, loader):`` leaves no trace on them, nor on the random generators.

    Restored in place (same tensor objects, same storage): parameters, buffers (also non-persistent), tensor attributes of modules
    (every other attribute by reference: a list that grew stays grown), gradients, ``requires_grad``, train/eval flags, optimizer
    state (state created inside is gone again), param groups, a ``DataLoader``'s and its sampler's generators, and the global
    generators of torch (every accelerator), NumPy and Python. Inside, the gradients are None at first. Memory: one copy of
    parameters, buffers and optimizer state.

    Args:
        objects: Modules, optimizers (anything with ``param_groups``) and loaders, in any order.

    Yields:
        The ``Snapshot``; its ``restore()`` returns to the start in between.
    """
    modules = [item for item in objects if isinstance(item, nn.Module)]
    optimizers = [item for item in objects if hasattr(item, "param_groups")]
    data = [item for item in objects if not isinstance(item, nn.Module) and not hasattr(item, "param_groups")]
    snapshot = Snapshot(modules, optimizers, data)
    try:
        snapshot.set_aside()
        yield snapshot
    finally:
        snapshot.put_back()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, then let it through: a half-restored model is worse than a short wait."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    pressed: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler if handler is not None else signal.SIG_DFL)
        if pressed:
            signal.raise_signal(signal.SIGINT)  # to the handler that was there: the user's own may do something else than raise


def keep_tensors(tensors: Iterable[Tensor]) -> Restore:
    """Values and storage of the tensors. ``.data`` shares the storage but not the version counter that autograd checks."""
    kept = {id(tensor): (tensor, tensor.data, tensor.data.clone()) for tensor in tensors}

    def restore() -> None:
        for tensor, home, value in kept.values():
            if home.layout is not torch.strided:  # a sparse tensor has no storage to write into
                tensor.data = value.clone()
                continue
            unrepeated(home, home).copy_(unrepeated(value, home))
            if tensor.data_ptr() != home.data_ptr() or tensor.shape != home.shape or tensor.stride() != home.stride():
                tensor.data = home

    return restore


def unrepeated(tensor: Tensor, home: Tensor) -> Tensor:
    """``tensor`` without the entries that ``home`` holds in one place several times (``expand``): torch refuses to write to those."""
    for dim, (size, stride) in enumerate(zip(home.shape, home.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def keep_flags(parameters: Iterable[Tensor]) -> Restore:
    """``requires_grad`` and ``grad``. Gradients are not copied: the snapshot sets them aside, so nobody writes to them."""
    kept = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]

    def restore() -> None:
        for parameter, requires_grad, grad in kept:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad

    return restore


def keep_module(module: nn.Module) -> Restore:
    """Which parameters, buffers and submodules a module has, its train/eval flag, its other attributes."""
    contents = vars(module)
    registries = {name: dict(contents[name]) for name in REGISTRIES if isinstance(contents.get(name), dict)}  # a ScriptModule has others
    restore_attributes = keep_attributes(contents, skip=REGISTRIES)

    def restore() -> None:
        restore_attributes()
        for name, entries in registries.items():
            contents[name].clear()
            contents[name].update(entries)

    return restore


def keep_attributes(contents: dict[str, Any], skip: Iterable[str]) -> Restore:
    """Which object every attribute is, and the values of tensors; attributes that appear later are removed again."""
    names = set(contents)
    kept = {name: value for name, value in contents.items() if name not in skip}
    restore_tensors = keep_tensors(value for value in kept.values() if isinstance(value, Tensor))

    def restore() -> None:
        for name in set(contents) - names:
            del contents[name]
        contents.update(kept)
        restore_tensors()

    return restore


def keep_optimizer(optimizer: Any) -> Restore:
    """Per-parameter state, param groups and counters. ``load_state_dict`` would replace tensors and alias its argument."""
    state = {key: keep_mapping(entry) for key, entry in optimizer.state.items() if isinstance(entry, Mapping)}
    shared = keep_tensors(entry for entry in optimizer.state.values() if isinstance(entry, Tensor))
    entries = dict(optimizer.state)
    groups = [(group, keep_mapping(group, shallow={"params"})) for group in optimizer.param_groups]
    restore_attributes = keep_attributes(vars(optimizer), skip=("state", "param_groups"))

    def restore() -> None:
        optimizer.state.clear()
        optimizer.state.update(entries)
        optimizer.param_groups[:] = [group for group, _ in groups]
        for restore_mapping in (*state.values(), *(restore_group for _, restore_group in groups)):
            restore_mapping()
        shared()
        restore_attributes()

    return restore


def keep_mapping(mapping: Any, shallow: Iterable[str] = ()) -> Restore:
    """A dict that holds tensors and plain values: its tensors keep their identity, the rest is copied."""
    tensors = {key: value for key, value in mapping.items() if isinstance(value, Tensor)}
    restore_tensors = keep_tensors(tensors.values())
    lists = {key: list(mapping[key]) for key in shallow}
    others = {key: value for key, value in mapping.items() if key not in tensors and key not in lists}
    copies = copy.deepcopy(others)
    order = list(mapping)

    def restore() -> None:
        held = {key: mapping.get(key) for key in lists}
        fresh = copy.deepcopy(copies)
        mapping.clear()
        mapping.update({key: tensors[key] if key in tensors else fresh.get(key) for key in order})
        for key, items in lists.items():
            mapping[key] = held[key] if held[key] is not None else items
            mapping[key][:] = items
        restore_tensors()

    return restore


def keep_random_state() -> Restore:
    """Global generators of torch (CPU and every accelerator in use), NumPy and Python."""
    cpu = torch.random.get_rng_state()
    accelerator = accelerator_module()
    device_states = accelerator.get_rng_state_all() if accelerator else None
    numpy_state = np.random.get_state()
    python_state = random.getstate()

    def restore() -> None:
        torch.random.set_rng_state(cpu)
        if accelerator:
            accelerator.set_rng_state_all(device_states)
        np.random.set_state(numpy_state)
        random.setstate(python_state)

    return restore


def accelerator_module() -> Any:
    """``torch.cuda`` or ``torch.xpu`` where one is in use; touching an idle one would start it."""
    for module in (torch.cuda, getattr(torch, "xpu", None)):
        if module is not None and module.is_available() and module.is_initialized():
            return module
    return None


def seed_everything(seed: int, *loaders: Any) -> None:
    """Seed every global generator and those that loaders own. Only ever called inside ``preserve``.

    ``torch.manual_seed`` would also queue a seed for accelerators that have not started, which nothing could take back.
    """
    torch.default_generator.manual_seed(seed)
    accelerator = accelerator_module()
    if accelerator:
        accelerator.manual_seed_all(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    for loader in loaders:
        for generator in generators_of(loader):
            generator.manual_seed(seed)


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators a ``DataLoader`` and its samplers own."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners if owner is not None)
    return list({id(generator): generator for generator in found if isinstance(generator, torch.Generator)}.values())


def keep_loader(loader: Any) -> Restore:
    """A loader's own generators, and its live workers: a pool kept alive between epochs must not be moved on by us."""
    kept = [(generator, generator.get_state()) for generator in generators_of(loader)]
    workers = getattr(loader, "_iterator", None)

    def restore() -> None:
        for generator, state in kept:
            generator.set_state(state)
        if isinstance(loader, DataLoader):
            loader._iterator = workers

    return restore
