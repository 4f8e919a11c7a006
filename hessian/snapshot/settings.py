"""Switches of the whole process that a user's loss may throw: each is read, and written only where it was changed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.backends import cudnn
from torch.nn.modules import module as hooks_of_modules
from torch.optim import optimizer as hooks_of_optimizers

from hessian.snapshot.containers import keep_containers, keep_sequence
from hessian.snapshot.keeping import Restore, restore_all


class Switch(NamedTuple):
    """How to read and write one setting."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]


def attribute(owner: Any, name: str) -> Switch:
    return Switch(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def autocast(device: str) -> Iterator[Switch]:
    yield Switch(lambda: torch.is_autocast_enabled(device), lambda on: torch.set_autocast_enabled(device, on))
    yield Switch(lambda: torch.get_autocast_dtype(device), lambda dtype: torch.set_autocast_dtype(device, dtype))


def default_device() -> Any:
    """The device of ``torch.set_default_device``, None if it was never called."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def set_default_device(device: Any) -> None:
    """Put it back; before torch 2.7 ``torch.get_default_device`` fails where None was set, and works where nothing was."""
    torch.set_default_device(device)
    if device is None and hasattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context"):
        del torch._GLOBAL_DEVICE_CONTEXT.device_context


SWITCHES = (
    Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    Switch(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
    ),
    Switch(
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda flags: torch.set_anomaly_enabled(flags[0], flags[1]),
    ),
    Switch(torch.get_default_dtype, torch.set_default_dtype),
    Switch(default_device, set_default_device),
    Switch(torch.get_num_threads, torch.set_num_threads),
    Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    *(attribute(cudnn, name) for name in ("benchmark", "deterministic", "enabled")),
    attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
    *autocast("cpu"),
    *autocast("cuda"),
    Switch(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    Switch(np.geterr, lambda flags: np.seterr(**flags)),
    attribute(warnings, "showwarning"),
    Switch(os.getcwd, os.chdir),
)


def keep_settings() -> Restore:
    """Every switch, the filters of warnings, and the hooks on all modules and optimizers."""
    restores = [*(keep_switch(switch) for switch in SWITCHES), keep_filters(), keep_containers(global_hooks())]
    return lambda: restore_all(restores)


def keep_switch(switch: Switch) -> Restore:
    """One setting; one that cannot be read (a directory that is gone) is left alone."""
    try:
        kept = switch.read()
    except (OSError, RuntimeError):
        return lambda: None

    def restore() -> None:
        with suppress(OSError, RuntimeError):  # one that can no longer be read has changed
            if switch.read() == kept:
                return
        switch.write(kept)

    return restore


def keep_filters() -> Restore:
    filters: Any = warnings.filters
    kept, restore_list = list(filters), keep_sequence(filters)

    def restore() -> None:
        if warnings.filters is filters and filters == kept:
            return
        warnings.filters = filters
        restore_list()
        with warnings.catch_warnings():  # tells Python that the filters changed
            pass

    return restore


def global_hooks() -> list[dict[Any, Any]]:
    return [
        value
        for owner in (hooks_of_modules, hooks_of_optimizers)
        for name, value in vars(owner).items()
        if name.startswith("_global_") and isinstance(value, dict)
    ]
