"""How one update is made of a batch: accumulation, mixed precision, clipping, or the user's own step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from hessian.checks import positive_float, positive_int
from hessian.errors import BadArgument, BadType

Autocast = torch.dtype | Callable[[], AbstractContextManager[Any]]
StepFn = Callable[[Any], Any]
LOW = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Recipe:
    """What happens between a batch and the moved weights, as in ``Problem``; checked when made. ``step_fn`` replaces all but the
    first two.
    """

    accumulate: int = 1
    autocast: Autocast | None = None
    scaler: Any = None
    clip_norm: float | None = None
    clip_value: float | None = None
    step_fn: StepFn | None = None

    def __post_init__(self) -> None:
        positive_int("accumulate", self.accumulate)
        check_autocast(self.autocast)
        check_scaler(self.scaler)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                positive_float(name, getattr(self, name))
        self._check_step_fn()

    def _check_step_fn(self) -> None:
        if self.step_fn is None:
            return
        if not callable(self.step_fn):
            raise BadType(f"step_fn is a {type(self.step_fn).__name__}, which cannot be called; pass a function of one batch.")
        for name in ("scaler", "clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                raise BadArgument(f"step_fn and {name} are both given, but step_fn makes the whole step; do it there and leave {name} out.")

    @property
    def clips(self) -> bool:
        return self.clip_norm is not None or self.clip_value is not None

    def __str__(self) -> str:
        """What differs from a plain step; empty if nothing does."""
        kind = str(self.autocast).removeprefix("torch.") + " autocast" if isinstance(self.autocast, torch.dtype) else "autocast"
        parts = [
            f"{self.accumulate} micro-batches a step" if self.accumulate > 1 else "",
            "own step" if self.step_fn is not None else "",
            kind if self.autocast is not None else "",
            "GradScaler" if self.scaler is not None else "",
            f"clip_norm {self.clip_norm:g}" if self.clip_norm is not None else "",
            f"clip_value {self.clip_value:g}" if self.clip_value is not None else "",
        ]
        return ", ".join(part for part in parts if part)


def check_autocast(autocast: Any) -> None:
    if isinstance(autocast, torch.dtype):
        if autocast not in LOW:
            raise BadArgument(f"autocast={autocast} is no lower precision; pass torch.bfloat16, torch.float16, or None to leave it off.")
    elif autocast is not None and (not callable(autocast) or hasattr(autocast, "__enter__")):
        raise BadType(
            f"autocast is a {type(autocast).__name__}; pass a dtype such as torch.bfloat16, or a function that returns a context manager."
        )


def check_scaler(scaler: Any) -> None:
    if scaler is not None and not all(hasattr(scaler, name) for name in ("scale", "unscale_", "step", "update", "get_scale")):
        raise BadType(f"scaler is a {type(scaler).__name__}, not a torch.amp.GradScaler; pass the one that the training uses.")
