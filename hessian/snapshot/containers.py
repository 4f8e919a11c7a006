"""Lists, dictionaries and the like, attributes, arrays: the same objects with the same contents."""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from functools import partial
from operator import is_
from typing import Any

import numpy as np
from torch import nn
from torch.jit import ScriptModule
from torch.nn.utils.parametrize import is_parametrized

from hessian.snapshot.keeping import Restore, each, restore_all

BYTES = (bytearray, array)  # hold numbers, not objects
CONTAINERS = (list, deque, *BYTES, dict, set)
ABSENT = object()


def keep_containers(containers: Iterable[Any]) -> Restore:
    """Which objects containers hold, in order. Methods are those of the built-in class: subclasses may forbid or log theirs."""
    containers = list(containers)
    dictionaries = [container for container in containers if isinstance(container, dict)]
    restores = [keep_container(container) for container in containers if not isinstance(container, dict)]
    restores.append(keep_empty(container for container in dictionaries if not dict.__len__(container)))
    restores.append(keep_dicts(container for container in dictionaries if dict.__len__(container)))
    return lambda: restore_all(restores)


def keep_container(container: Any) -> Restore:
    """One that is no dictionary."""
    if isinstance(container, BYTES):
        return keep_bytes(container)
    return keep_set(container) if isinstance(container, set) else keep_sequence(container)


def keep_empty(dictionaries: Iterable[dict[Any, Any]]) -> Restore:
    """That there is nothing in them, as in nine of ten in a model: registries of hooks that nobody set."""
    kept = list(dictionaries)
    return lambda: restore_all(partial(kind_of(container).clear, container) for container in kept if dict.__len__(container))


def keep_dicts(dictionaries: Iterable[dict[Any, Any]]) -> Restore:
    """Keys, values and their order; entries that did not change are not written."""
    return each(restore_dict, ((container, *entries_of(container)) for container in dictionaries))


def kind_of(container: dict[Any, Any]) -> Any:
    """Its built-in class."""
    return OrderedDict if isinstance(container, OrderedDict) else dict


def entries_of(container: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    kind = kind_of(container)
    return list(kind.keys(container)), list(kind.values(container))


def restore_dict(container: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
    keys_now, values_now = entries_of(container)
    if len(keys_now) == len(keys) and all(map(is_, keys_now, keys)) and all(map(is_, values_now, values)):
        return
    kind = kind_of(container)
    kind.clear(container)
    for key, value in zip(keys, values, strict=True):
        kind.__setitem__(container, key, value)


def keep_set(container: set[Any]) -> Restore:
    """The members: the same objects, not only equal ones."""
    kept = list(container)
    names = set(map(id, kept))

    def restore() -> None:
        if set(map(id, container)) == names:
            return
        set.clear(container)
        set.update(container, kept)

    return restore


def keep_sequence(container: Any) -> Restore:
    kept = list(container)

    def restore() -> None:
        if len(container) == len(kept) and all(map(is_, container, kept)):
            return
        if isinstance(container, deque):
            deque.clear(container)
            deque.extend(container, kept)
        else:
            list.__setitem__(container, slice(None), kept)

    return restore


def keep_bytes(container: Any) -> Restore:
    """The numbers of a ``bytearray`` or an ``array``, copied as they lie there."""
    kind: Any = bytearray if isinstance(container, bytearray) else array
    kept = kind.__getitem__(container, slice(None))
    return lambda: kind.__setitem__(container, slice(None), kept)


def slots_of(thing: Any) -> Iterator[str]:
    """Names of attributes that stand outside of ``vars``."""
    for kind in type(thing).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name


def attributes_of(thing: Any) -> dict[str, Any]:
    """The values of the slots; ``vars`` is a dictionary like any other."""
    return {name: value for name in slots_of(thing) if (value := slot(thing, name)) is not ABSENT}


def slot(thing: Any, name: str) -> Any:
    """What stands in a slot, or ``ABSENT``; a ``__getattr__`` of the user's is not asked."""
    try:
        return object.__getattribute__(thing, name)
    except AttributeError:
        return ABSENT


def keep_slots(thing: Any) -> Restore:
    kept = {name: slot(thing, name) for name in slots_of(thing)}

    def restore() -> None:
        for name, value in kept.items():
            now = slot(thing, name)
            if value is ABSENT and now is not ABSENT:
                object.__delattr__(thing, name)
            elif now is not value:
                object.__setattr__(thing, name, value)

    return restore


def keep_module(module: nn.Module) -> Restore:
    """What a module has beside its attributes: its class, which a parametrization replaces, and the flag of a ``ScriptModule``."""
    kind, scripted = type(module), isinstance(module, ScriptModule)
    training: Any = getattr(module, "training", None)  # a frozen one has none
    properties = own_properties(kind) if is_parametrized(module) else None  # a class of its own, which changes with it

    def restore() -> None:
        if type(module) is not kind:
            module.__class__ = kind
        if properties is not None:
            restore_properties(kind, properties)
        if scripted and getattr(module, "training", None) != training:
            module.training = training  # lies in C++, not in vars(module)

    return restore


def own_properties(kind: type) -> dict[str, property]:
    """The properties that a class itself defines."""
    return {name: value for name, value in vars(kind).items() if isinstance(value, property)}


def restore_properties(kind: type, properties: dict[str, property]) -> None:
    for name in own_properties(kind).keys() - properties.keys():
        delattr(kind, name)
    for name, value in properties.items():
        setattr(kind, name, value)


def keep_array(values: np.ndarray[Any, Any]) -> Restore:
    """The values and shape of a NumPy array that can be written to."""
    kept, shape = values.copy(), values.shape

    def restore() -> None:
        if values.shape != shape:
            values.resize(shape, refcheck=False)
        values.flags.writeable = True
        values[...] = kept

    return restore
