"""What older versions of torch, NumPy and click do not have yet: cases that need it are left out there, or look for something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, TypeVar

import torch

Case = TypeVar("Case")
HAS_MUON = hasattr(torch.optim, "Muon")  # since 2.9
HAS_DECOUPLED_ADAM = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters  # since 2.7; RAdam's and NAdam's are older
SHARDS_ON_CPU = hasattr(torch.cpu.Stream, "record_event")  # torch 2.6 cannot train under fully_shard there; nor derive a DTensor twice
GLOO_GIVES_UP = SHARDS_ON_CPU  # with 2.6 a rank whose peer is silent did not come back from its backward pass
HAS_NUMPY_2 = int(version("numpy").split(".")[0]) >= 2
TORCH = tuple(map(int, version("torch").split(".")[:2]))
CLICK = tuple(map(int, version("click").split(".")[:2]))  # from 8.2 on a group without a command is wrong usage


def with_muon(cases: Mapping[str, Case]) -> dict[str, Case]:
    """The cases, none where there is no Muon."""
    return dict(cases) if HAS_MUON else {}


def muon(*args: Any, **settings: Any) -> Any:
    """``torch.optim.Muon``, looked up when it is called."""
    make: Callable[..., Any] = torch.optim.Muon
    return make(*args, **settings)
