"""What goes wrong in the middle of a sweep."""

from __future__ import annotations

import math
import signal
from typing import Literal

from torch import Tensor

AT = 7  # which loss that is trained on

Kind = Literal["none", "raise", "interrupt", "nan", "read"]


class UsersError(RuntimeError):
    """What the user's own code raises."""


class Fault:
    """Counts losses once armed, and strikes at the seventh: in the loss, or at the first sample read after the sixth."""

    def __init__(self) -> None:
        self.kind: Kind = "none"
        self.losses = 0
        self.error = UsersError("something in the user's code")

    def arm(self, kind: Kind) -> None:
        self.kind, self.losses = kind, 0

    def hit_loss(self, loss: Tensor) -> Tensor:
        self.losses += 1
        if self.losses < AT:
            return loss
        if self.kind == "raise":
            raise self.error
        if self.kind == "interrupt":
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C does
        return loss * math.nan if self.kind == "nan" else loss

    def hit_reading(self) -> None:
        if self.kind == "read" and self.losses >= AT - 1:
            raise self.error
