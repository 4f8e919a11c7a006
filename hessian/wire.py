"""Connections of our own between the ranks of one measurement, and how long to wait for each other; what is said where that fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from hessian.checks import positive_float
from hessian.errors import BadArgument, PeerError

TIMEOUT = "LRFINDER_TIMEOUT"  # seconds without an answer until the others count as gone
PATIENCE = 60.0
TRAINING = 0.75  # of that, for the training's own collectives: whoever hangs in one must still be able to tell
GRACE = 1.0  # seconds within which survivors report, once one of them has given up
LONGEST = 240  # bytes of the sentence that says what went wrong
BACKENDS = ("gloo", "NCCL", "Application timeout caused pair closure")  # what their errors say; the last is gloo's, which does not say so


def patience() -> float:
    """Seconds to wait for another rank."""
    text = os.environ.get(TIMEOUT, str(PATIENCE))
    try:
        return positive_float(TIMEOUT, float(text))
    except ValueError:
        raise BadArgument(f"{TIMEOUT}={text!r} in the environment is no number of seconds; set it to one such as 60.") from None


class Wire:
    """Connections between the ranks for one measurement, beside those of the training: these always fit together, and have our patience."""

    def __init__(self, ranks: Sequence[int]) -> None:
        dist: Any = torch.distributed
        self.ranks = ranks
        self.rank = dist.get_rank()
        shared = dist.PrefixStore(f"lrfinder {ranks}", dist.distributed_c10d._get_default_store())
        come = shared.add("come", 1)
        self.store = dist.PrefixStore(str((come - 1) // len(ranks)), shared)  # those who come together meet there
        try:
            place = ranks.index(self.rank)
            self.group = dist.ProcessGroupGloo(self.store, place, len(ranks), timedelta(seconds=patience()))
        except RuntimeError as error:
            shared.add("come", -1)
            raise PeerError(
                f"not all of the ranks {', '.join(map(str, ranks))} began the measurement within {patience():g} s; "
                f"call it on every rank that trains the model, or set {TIMEOUT} to more seconds."
            ) from error

    def sum_(self, tensor: Tensor) -> None:
        self.group.allreduce([tensor]).wait()

    def silent(self) -> str:
        """Who does not answer. Asked where every rank that still runs has given up at about the same time."""
        silent = list[int]()
        with suppress(Exception):
            self.store.set(f"gave up {self.rank}", "yes")
            time.sleep(GRACE)
            silent = [rank for rank in self.ranks if not self.store.check([f"gave up {rank}"])]
        who = f"rank{'s' * (len(silent) > 1)} {', '.join(map(str, silent))}" if silent else "another rank"
        return f"{who} did not answer: killed, or without progress for {patience():g} s ({TIMEOUT} sets how long to wait)"


@contextmanager
def patient(groups: Sequence[Any]) -> Iterator[None]:
    """The training's own collectives give up as early as ours. Not those of NCCL, which would end the process."""
    kept = [(backend, backend.options._timeout) for group in groups for backend in gloo_backends(group)]
    for backend, _ in kept:
        backend._set_default_timeout(timedelta(seconds=TRAINING * patience()))
    try:
        yield
    finally:
        for backend, timeout in kept:
            backend._set_default_timeout(timeout)


def gloo_backends(group: Any) -> list[Any]:
    """Those of a process group that wait in the host."""
    kind = getattr(torch.distributed, "ProcessGroupGloo", None)
    found = [group._get_backend(device) for device in group._device_types]
    return [backend for backend in found if kind is not None and isinstance(backend, kind)]


def sentence(error: BaseException | None) -> str:
    """What another rank is told."""
    if error is None:
        return ""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "was interrupted"
    return f"raised {type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def is_communication(error: BaseException) -> bool:
    """Whether an error only says that another process did not answer."""
    told = any(word in str(error) for word in BACKENDS)
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and told)
