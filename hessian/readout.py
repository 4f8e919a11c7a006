"""Losses, read at once on a CPU, in blocks on an accelerator, and agreed on by all ranks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from hessian.batches import Ahead
from hessian.distributed import Team, mean_of

BLOCK = 8  # forward passes whose losses are read together: waiting for the device is then rare, and few steps are made in vain

Told = tuple[float, float]  # a loss, and what it weighs among those of other ranks; nothing was told yet where that is zero


class Readout:
    """The losses of the steps of one training, in order, each as soon as it is known, the same on every rank.

    To read a tensor on an accelerator is to wait for all that the device still has to do, so ``BLOCK`` of them are read together: what is
    known lags by up to ``BLOCK - 1`` forward passes. Ranks meet once at every forward pass, before the backward pass, and tell each
    other one loss: there it lags by up to twice as many.

    Args:
        team: The ranks.
        at_once: Read every loss where it is reported, also on an accelerator.

    Attributes:
        ahead: The batches of all ranks; the next one is read before they meet, which settles that there is one for all.
        more: Whether a next one is wanted.
        made: Whether the last step was made, on every rank.
    """

    def __init__(self, team: Team | None = None, *, at_once: bool = False) -> None:
        self.team = team or Team()
        self.ahead: Ahead | None = None
        self.more = False
        self.made = True
        self._alone, self._at_once = self.team.alone, at_once  # asked at every step
        self._unread: list[tuple[Tensor, float]] = []
        self._own = deque[Told]()  # read, and not told to the others
        self._told = [deque[Told]() for _ in range(self.team.size)]
        self._means = deque[float]()  # of all ranks, one a forward pass
        self._steps = deque[tuple[int, int]]()  # forward passes of those whose loss is not known, and what divides the sum
        self._open = 0  # forward passes of the step under way
        self._behind = 0  # forward passes whose mean is not known

    def single(self, loss: float | Tensor, weight: float | None = None, *, made: bool = True) -> list[float]:
        """A step of one forward pass: the losses that are known by now and were not given before."""
        if self._is_at_hand(loss):
            self.made = made
            return [number_of(loss)]
        self.add(loss, weight, made=made)
        return self.close()

    def add(self, loss: float | Tensor, weight: float | None = None, *, last: bool = True, made: bool = True) -> bool:
        """Take the loss of a forward pass over ``weight`` samples; whether to go on, which is not so where one is known not to be finite.

        ``last``: the step has no further one; ``made``: it was made, or is going to be.
        """
        self._open += 1
        if self._is_at_hand(loss):
            self.made = made
            self._means.append(number_of(loss))
            return math.isfinite(self._means[-1])
        if is_away(loss) and not self._at_once:
            self._unread.append((loss.detach().clone(), weight or 1))  # a graph on the device may write the next one to the same place
            self._behind += 1
            if len(self._unread) >= BLOCK:
                self._read()
        else:
            self._read()
            self._own.append((number_of(loss), weight or 1))
            self._behind += 1
        self._meet(last and self.more, made)
        return self._behind > 0 or math.isfinite(self._means[-1])

    def close(self, parts: int = 1) -> list[float]:
        """End the step, whose loss is the sum over its forward passes divided by ``parts``: the losses that are known by now."""
        self._steps.append((self._open, parts))
        self._open = 0
        return self._known()

    def forget(self) -> None:
        """Drop the step under way, which was read at once: it is made again."""
        for _ in range(self._open):
            self._means.pop()
        self._open = 0

    def rest(self) -> list[float]:
        """The losses of all steps that were closed. Every rank has to ask at the same step."""
        self._read()
        while self._behind:
            self._meet(False, True)
        return self._known()

    def rest_of_own(self) -> list[float]:
        """The same, but on several ranks what is known anyway."""
        return self.rest() if self.team.alone else self._known()

    def _is_at_hand(self, loss: float | Tensor) -> bool:
        """With nobody to ask and nothing to wait for."""
        return self._alone and not self._behind and (self._at_once or not is_away(loss))

    def _read(self) -> None:
        """Wait for the device, once. Where that fails or is interrupted they stay unread: whoever asks again must not wait for ever."""
        if self._unread:
            values = values_of([loss for loss, _ in self._unread])
            unread, self._unread = self._unread, []
            self._own.extend((value, weight) for value, (_, weight) in zip(values, unread, strict=True))

    def _meet(self, more: bool, made: bool) -> None:
        """Tell a loss and hear others. Alone, all that is read is known."""
        if self.team.alone:
            self.made = made
            self._means.extend(loss for loss, _ in self._own)
            self._behind -= len(self._own)
            self._own.clear()
            return
        loss, weight = self._own.popleft() if self._own else (0.0, 0.0)
        ahead = self.ahead if more else None
        rows = self.team.rows("a loss", loss, weight, float(made), 0.0 if ahead is None else ahead.fetch())
        self.made = all(row[2] for row in rows)
        if ahead is not None:
            ahead.agree(int(min(row[3] for row in rows)))
        for queue, row in zip(self._told, rows, strict=True):
            queue.extend([(row[0], row[1])] if row[1] else [])
        while all(self._told):
            self._means.append(mean_of([queue.popleft() for queue in self._told]))
            self._behind -= 1

    def _known(self) -> list[float]:
        """The losses of closed steps all of whose forward passes are known."""
        found = []
        while self._steps and len(self._means) >= self._steps[0][0]:
            passes, parts = self._steps.popleft()
            found.append(loss_of([self._means.popleft() for _ in range(passes)], parts))
        return found


def is_away(loss: float | Tensor) -> TypeGuard[Tensor]:
    """Whether it lies on an accelerator."""
    return isinstance(loss, Tensor) and not loss.is_cpu


def number_of(loss: float | Tensor) -> float:
    return float(loss.item()) if isinstance(loss, Tensor) else loss


def values_of(losses: Sequence[Tensor]) -> list[float]:
    if len({(loss.dtype, loss.device) for loss in losses}) > 1:
        return [number_of(loss) for loss in losses]
    return list(map(float, torch.stack([loss.reshape(()) for loss in losses]).tolist()))


def loss_of(losses: Sequence[float], parts: int) -> float:
    """Of a step; what comes after a forward pass whose loss is not finite does not count."""
    total = 0.0
    for loss in losses:
        total += loss / parts
        if not math.isfinite(total):
            break
    return total
