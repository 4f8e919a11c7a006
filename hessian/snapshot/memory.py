"""Whether a snapshot fits, asked before it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from hessian.errors import BadArgument

GIB = 2**30
SMALL = 4 * 2**20  # bytes; whoever has less than that left fails at the next step, with or without a copy
ROOT = Path("/")
CGROUPS = {  # kind of hierarchy: where it is mounted, and its files for the limit, what is used, and what is used but can be given up
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def check_fits(needed: Mapping[torch.device, int]) -> None:
    """Refuse a snapshot that needs more memory than is free; of a small one, to look that up would take longer than to make it."""
    for device, size in needed.items():
        if size <= SMALL:
            continue
        free = free_bytes(device)
        if free is not None and size > free:
            cure = "free some, or measure a smaller model" if device.type == "cpu" else 'pass snapshot="cpu", or free some'
            raise BadArgument(
                f"a copy of what must come back (parameters, buffers, optimizer state) needs {size / GIB:.3g} GiB, "
                f"but {device} has {free / GIB:.3g} GiB free; {cure}."
            )


def free_bytes(device: torch.device) -> int | None:
    """None where that cannot be told."""
    if device.type == "cpu":
        return free_host_bytes(ROOT)
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch holds it, and will give it to us
    return torch.cuda.mem_get_info(device)[0] + unused


def free_host_bytes(root: Path) -> int | None:
    """What Linux says it can give to a program without swapping; no more than the control groups of this process (a container, a job
    of a cluster) allow it. ``proc`` and ``sys`` lie under ``root``.
    """
    kibibytes = number_after("MemAvailable:", root / "proc/meminfo")
    known = [None if kibibytes is None else 1024 * kibibytes, *(free_of_group(*group) for group in groups_of(root))]
    return min((free for free in known if free is not None), default=None)


def groups_of(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """The control groups of this process and those around them, of version 2 and of version 1, with the names of their files.

    In a container the path may be the one outside of it, which cannot be seen; its own group then lies where they are mounted.
    """
    for line in lines_of(root / "proc/self/cgroup"):
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        for kind in CGROUPS.keys() & set(kinds.split(",")):
            mounted, limit, used, given_up = CGROUPS[kind]
            inner = Path(path.lstrip("/"))
            yield from ((root / mounted / part, limit, used, given_up) for part in (inner, *inner.parents))


def free_of_group(folder: Path, limit: str, used: str, given_up: str) -> int | None:
    """What a control group leaves; None without a limit."""
    most, taken = number_after("", folder / limit), number_after("", folder / used)
    if most is None or taken is None:
        return None
    return max(0, most - taken + (number_after(given_up, folder / "memory.stat") or 0))


def number_after(name: str, file: Path) -> int | None:
    """The number that follows a name in a file, or that it begins with; None if there is none (no file, ``max``)."""
    lines = [line.split() for line in lines_of(file)]
    found = [words[1 if name else 0 :] for words in lines if not name or words[:1] == [name]]
    return int(found[0][0]) if found and found[0] and found[0][0].isdecimal() else None


def lines_of(file: Path) -> list[str]:
    """None if it cannot be read."""
    try:
        return file.read_text().splitlines()
    except (OSError, ValueError):
        return []
