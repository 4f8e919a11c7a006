"""``preserve`` itself: the snapshot, the position of a loader in it, and the block that it guards."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import FunctionType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hessian.checks import one_of
from hessian.errors import BadType
from hessian.sharded import shards_of
from hessian.snapshot.containers import keep_array, keep_containers, keep_module, keep_slots
from hessian.snapshot.keeping import Place, Restore, restore_all
from hessian.snapshot.memory import check_fits
from hessian.snapshot.randomness import keep_generator, keep_random_state
from hessian.snapshot.reach import Reached
from hessian.snapshot.settings import keep_settings
from hessian.snapshot.signals import Doorkeeper, uninterrupted
from hessian.snapshot.tensors import CPU, Layout, keep_flags, keep_hooks, keep_tensors


class Snapshot:
    """The state at the time of its making, which changes nothing; ``restore`` returns to it, as often as wanted."""

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[Any],
        data: Sequence[Any],
        keep: Sequence[Any] = (),
        place: Place = "device",
    ) -> None:
        self._leaves: list[Tensor] = []
        self._pools: list[Any] = []
        self._place: Place = place
        self._restores: list[Restore] = [
            shards_of(modules),
            *self._kept(reach_of(data, (*modules, *optimizers, *keep))),
            keep_random_state(),
        ]
        self._settings = keep_settings()

    def _kept(self, reached: Reached) -> list[Restore]:
        """How to put back what was found. Nothing is set aside yet."""
        leaves = [tensor for tensor in reached.tensors if tensor.is_leaf]  # others have no gradient of their own
        layout = Layout(reached.tensors)
        needed = layout.needed_bytes(self._place)
        needed[CPU] += sum(array.nbytes for array in reached.arrays)
        check_fits(needed)
        restores = kept(reached, layout, leaves, self._place)
        self._leaves += leaves
        loaders = [loader for loader in reached.loaders if isinstance(loader, DataLoader)]
        self._pools += [loader for loader in loaders if getattr(loader, "_iterator", None) is not None]
        return restores

    def add(self, *data: Any) -> None:
        """Put these loaders back too, as they are now. First of all: what they share with the rest comes back as it was before."""
        self._restores[:0] = self._kept(reach_of(data))
        self.set_aside()

    def restore(self) -> None:
        """Return to the start of the block, to go on from there. Not so the process's settings: ``no_grad`` may be around the call."""
        with uninterrupted():
            try:
                restore_all(self._restores)
            finally:
                self.set_aside()

    def set_aside(self) -> None:
        """Take away what costs less to hide than to copy: gradients, and a loader's workers, which live on between epochs."""
        for tensor in self._leaves:
            if tensor.grad is not None:
                tensor.grad = None
        for loader in self._pools:
            loader._iterator = None

    def put_back(self) -> None:
        """Put everything back, the process's settings too."""
        with uninterrupted():
            restore_all([*self._restores, self._settings])


def reach_of(data: Iterable[Any], roots: Iterable[Any] = ()) -> Reached:
    reached = Reached()
    for loader in data:
        reached.add_loader(loader)  # first, so that nobody else copies the data
    reached.follow(roots)
    return reached


def kept(reached: Reached, layout: Layout, leaves: Iterable[Tensor], place: Place) -> list[Restore]:
    """What is where, before values, which belong to the tensors that are there then; loaders first, as theirs runs foreign code.

    The global random states come after all of it: restoring must not draw.
    """
    return [
        *(keep_loader(loader) for loader in reached.loaders),
        *(keep_module(module) for module in reached.modules),
        keep_containers(reached.containers),
        *(keep_slots(thing) for thing in reached.slotted.values()),
        keep_tensors(layout, place),
        keep_flags(leaves),
        keep_hooks(reached.tensors),
        *(keep_array(array) for array in reached.arrays),
        *(keep_generator(generator) for generator in reached.generators),
    ]


class Guard(AbstractContextManager[Snapshot]):
    """A block that leaves no trace; ``modes`` are entered first and left last.

    A class, not a generator: an interrupt could come between a generator and its caller.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[Any],
        data: Sequence[Any],
        keep: Sequence[Any] = (),
        place: Place = "device",
        modes: Sequence[AbstractContextManager[Any]] = (),
    ) -> None:
        self._arguments = (modules, optimizers, data, keep, place)
        self._modes = modes
        self._stack = ExitStack()
        self._snapshot: Snapshot | None = None
        self._door = Doorkeeper(self, Guard.__enter__.__code__, Guard.__exit__.__code__)

    def __enter__(self) -> Snapshot:
        try:
            self._door.begin()
            for mode in self._modes:
                self._stack.enter_context(mode)
            self._snapshot = Snapshot(*self._arguments)
            self._snapshot.set_aside()
            self._door.deliver()
        except BaseException:
            self._leave()
            raise
        return self._snapshot

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            if self._snapshot is not None:
                self._snapshot.put_back()
        finally:
            try:
                self._stack.close()
            finally:
                self._door.end()


def with_gradients() -> list[AbstractContextManager[Any]]:
    """Modes of a guard inside which models are trained, whatever mode the caller is in."""
    return [torch.inference_mode(False), torch.enable_grad()]


def check_choices(keep: Any, place: Any) -> None:
    """Refuse what cannot be kept, or kept there."""
    if not isinstance(keep, (list, tuple)):
        raise BadType(f"keep is a {type(keep).__name__}, not a list; pass keep=[...] with the objects that must come back.")
    one_of("snapshot", place, ("device", "cpu"))


def preserve(*objects: Any, keep: Sequence[Any] = (), snapshot: Place = "device") -> AbstractContextManager[Snapshot]:
    """Everything inside ``with preserve(model, optimizer, loader):`` leaves no trace on them, nor on the random generators.

    Restored in place (same objects, same storage): parameters, buffers (also non-persistent), other attributes of modules and what
    lists, dictionaries, sets, arrays and tensors in them hold, hooks, gradients, ``requires_grad``, train/eval flags, optimizer state
    (state created inside is gone again), param groups, a loader's attributes, samplers and generators; of any other object its
    attributes; the global generators of torch (every accelerator), NumPy and Python, torch's global modes, warning filters and the
    working directory. Inside, the gradients are None at first. Memory: one copy of parameters, buffers and optimizer state.

    Args:
        objects: Modules, optimizers (anything with ``param_groups``), loaders, and any other objects (schedulers, a ``GradScaler``,
            generators), in any order.
        keep: More of the last kind: lists and functions among ``objects`` are taken for data, which are not copied; these are.
        snapshot: Where the copy lies: ``"device"`` beside the original, or ``"cpu"`` in the host's memory.

    Returns:
        A context whose value is the ``Snapshot``; its ``restore()`` returns to the start in between.

    Raises:
        BadArgument, BadType: If the copy does not fit into the free memory (on entering, before anything moves), or an argument
            cannot be right.
    """
    check_choices(keep, snapshot)
    modules = [item for item in objects if isinstance(item, nn.Module)]
    optimizers = [item for item in objects if hasattr(item, "param_groups")]
    others = [item for item in objects if not isinstance(item, nn.Module) and not hasattr(item, "param_groups")]
    data = [item for item in others if is_data(item)]
    more = [item for item in others if not is_data(item)]
    return Guard(modules, optimizers, data, [*more, *keep], snapshot)


def is_data(item: Any) -> bool:
    """Whether it gives batches, as far as one can tell."""
    return isinstance(item, FunctionType) or (hasattr(item, "__iter__") and not isinstance(item, (Mapping, Tensor)))


def keep_loader(loader: Any) -> Restore:
    """The position of a loader that can tell it, or of its data set that can.

    A ``DataLoader`` is put back by its attributes alone. torchdata's too: asking it for its state would begin an epoch.
    """
    owners = [getattr(loader, "dataset", None), *([] if isinstance(loader, DataLoader) else [loader])]
    kept = [(owner, copy.deepcopy(owner.state_dict())) for owner in owners if is_stateful(owner)]

    def restore() -> None:
        for owner, state in kept:
            owner.load_state_dict(copy.deepcopy(state))

    return restore


def is_stateful(owner: Any) -> bool:
    """Whether it follows torch's protocol for state. No generator: a Ctrl-C while one is closed early would be lost."""
    return callable(getattr(owner, "state_dict", None)) and callable(getattr(owner, "load_state_dict", None))
