"""What older versions of torch do not have yet: cases that need it are left out there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Case = TypeVar("Case")
HAS_MUON = hasattr(torch.optim, "Muon")  # since 2.9
HAS_DECOUPLED_ADAM = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters  # since 2.7; RAdam's and NAdam's are older


def with_muon(cases: Mapping[str, Case]) -> dict[str, Case]:
    """The cases, none where there is no Muon."""
    return dict(cases) if HAS_MUON else {}


def muon(*args: Any, **settings: Any) -> Any:
    """``torch.optim.Muon``, looked up when it is called."""
    make: Callable[..., Any] = torch.optim.Muon
    return make(*args, **settings)
