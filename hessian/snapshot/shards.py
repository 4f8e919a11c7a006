"""Models under ``fully_shard``: shards in their place before anything is copied or put back, and what FSDP2 is told to do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hessian.sharded import keep_flags, reshard
from hessian.snapshot.keeping import Restore


def shards_of(modules: Sequence[nn.Module]) -> Restore:
    """Reshard, now and whenever called: a forward pass may leave whole parameters where the shards were, which nobody would update."""
    reshard(modules)
    flags = keep_flags(modules)

    def restore() -> None:
        reshard(modules)
        flags()

    return restore
