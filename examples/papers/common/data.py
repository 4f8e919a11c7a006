"""The data of the reproductions: found on this machine or generated on it, never downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from hessian import preserve
from lrfinder.demo import data as demo

CONTEXT = 8  # characters that the text nets look back on
CHUNK = 500  # validation samples at a time


class Data(NamedTuple):
    """Samples to train on with their classes, and others to judge by."""

    inputs: Tensor
    targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.val_inputs.split(CHUNK), self.val_targets.split(CHUNK), strict=True)


@cache
def digits() -> Data:
    """1,797 handwritten digits of 8x8 pixels; a fifth is held out."""
    found = demo.digits("papers")
    return Data(*found.train.tensors, *found.val.tensors)


@cache
def mnist1d() -> Data:
    """5,000 signals of 40 values in ten classes; a fifth is held out."""
    with preserve():
        found = demo.mnist1d("papers")
    return Data(*found.train.tensors, *found.val.tensors)


@cache
def text() -> Data:
    """Eight characters of Python's own modules, and the one that follows; 2,000 places in the last tenth of the text are held out."""
    codes = torch.frombuffer(bytearray(demo.library_text("papers"), "ascii"), dtype=torch.uint8).long()
    rows = codes.unfold(0, CONTEXT + 1, 1)
    tail = rows[-len(rows) // 10 :]
    held_out = tail[:: len(tail) // 2000][:2000]
    train = rows[: -len(tail)]
    return Data(train[:, :-1], train[:, -1], held_out[:, :-1], held_out[:, -1])


DATA: dict[str, Callable[[], Data]] = {"digits": digits, "mnist1d": mnist1d, "text": text}
