"""Curvature is measured in the precision of the weights, whatever autocast the caller stands in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


def autocast_devices() -> list[str]:
    """For which autocast is on."""
    return [kind for kind in ("cpu", "cuda", "xpu", "mps") if torch.is_autocast_enabled(kind)]


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn the caller's autocast off: for forward passes, backward passes (which obey the autocast they run under) and the solvers' own
    matrix products."""
    with ExitStack() as stack:
        for kind in autocast_devices():
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
