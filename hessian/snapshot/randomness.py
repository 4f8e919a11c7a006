"""Random generators: those of torch, NumPy and Python, and anybody's own."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch

from hessian.snapshot.keeping import Restore

GENERATORS = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)


def keep_generator(generator: Any) -> Restore:
    if isinstance(generator, np.random.Generator):
        return keep_generator(generator.bit_generator)
    if isinstance(generator, np.random.BitGenerator):
        return keep_bits(generator)
    if isinstance(generator, random.SystemRandom):  # the operating system's has no state
        return lambda: None
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    return partial(generator.set_state, generator.get_state())


def keep_bits(generator: Any) -> Restore:
    """The state of NumPy's source of random bits."""
    return partial(setattr, generator, "state", generator.state)


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
    found = (getattr(owner, "generator", None) for owner in (loader, *samplers_of(loader)))
    return list({id(generator): generator for generator in found if isinstance(generator, torch.Generator)}.values())


def samplers_of(loader: Any) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return [sampler for sampler in samplers if sampler is not None]
