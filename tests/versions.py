"""What older versions of torch do not have yet: cases that need it are left out there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Case = TypeVar("Case")
HAS_MUON = hasattr(torch.optim, "Muon")  # since 2.9


def with_muon(cases: Mapping[str, Case]) -> dict[str, Case]:
    """The cases, none where there is no Muon."""
    return dict(cases) if HAS_MUON else {}


def muon(*args: Any, **settings: Any) -> Any:
    """``torch.optim.Muon``, looked up when it is called."""
    make: Callable[..., Any] = torch.optim.Muon
    return make(*args, **settings)
