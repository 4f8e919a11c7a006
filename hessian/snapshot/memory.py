"""Whether a snapshot fits, asked before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from hessian.errors import BadArgument

GIB = 2**30
MEMINFO = Path("/proc/meminfo")


def check_fits(needed: Mapping[torch.device, int]) -> None:
    """Refuse a snapshot that needs more memory than is free.

    Raises:
        BadArgument: If it does not fit; nothing has moved yet.
    """
    for device, size in needed.items():
        free = free_bytes(device)
        if free is not None and size > free:
            cure = "free some, or measure a smaller model" if device.type == "cpu" else 'pass snapshot="cpu", or free some'
            raise BadArgument(
                f"a copy of what must come back (parameters, buffers, optimizer state) needs {size / GIB:.3g} GiB, "
                f"but {device} has {free / GIB:.3g} GiB free; {cure}."
            )


def free_bytes(device: torch.device) -> int | None:
    """Free memory in bytes, None where that cannot be told."""
    if device.type == "cpu":
        return free_host_bytes(MEMINFO)
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, and will give it to us
    return torch.cuda.mem_get_info(device)[0] + unused


def free_host_bytes(meminfo: Path) -> int | None:
    """What Linux says it can give to a new program without swapping."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
