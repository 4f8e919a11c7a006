"""Loaders that have more to bring back than attributes."""

from __future__ import annotations

import copy
from typing import Any

from torch.utils.data import DataLoader

from hessian.snapshot.keeping import Restore


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
    """Whether it follows torch's protocol for state."""
    return all(callable(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict"))
