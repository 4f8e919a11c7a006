"""What every rank sends, from the number of ranks and the shapes of the parameters: exact, and checked against what is counted.

A ring over ``n`` ranks sends ``(n - 1) / n`` of a tensor from every rank to gather it or to sum and divide it, and twice that to sum it
everywhere. Gloo sums and divides by summing everywhere, and puts 288 bytes around every message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ITEM = 4  # bytes of a number, in float32
ROW = 48  # bytes of a rank's row in a table
HEADER = 288  # bytes that gloo sends with every message
Shapes = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Volume:
    """Of one rank.

    Attributes:
        payload: Bytes sent.
        messages: Sends one after the other, each of which takes a latency.
        tiny: How many of them gloo may leave out, for there is less than a number in them.
    """

    payload: float = 0.0
    messages: int = 0
    tiny: int = 0

    def __add__(self, other: Volume) -> Volume:
        return Volume(self.payload + other.payload, self.messages + other.messages, self.tiny + other.tiny)

    def times(self, count: int) -> Volume:
        return Volume(self.payload * count, self.messages * count, self.tiny * count)

    @property
    def on_gloo(self) -> float:
        """Most bytes that gloo sends for it."""
        return self.payload + HEADER * self.messages

    def is_what(self, sent: float) -> bool:
        """Whether so many bytes on gloo are this volume; parts of a ring are rounded up."""
        rounding = 1e-3 * self.on_gloo + 1000
        return -rounding - HEADER * self.tiny <= sent - self.on_gloo <= rounding


@dataclass(frozen=True)
class Ring:
    """Collectives over ``ranks``. ``halves``: whether a reduce-scatter costs half an all-reduce, as NCCL's, or a whole one, as gloo's."""

    ranks: int
    halves: bool = False

    def gather(self, size: float) -> Volume:
        """Everybody gets the whole of a tensor of so many bytes, of which each has a part."""
        return Volume(size * (self.ranks - 1) / self.ranks, self.ranks - 1)

    def all_reduce(self, size: float) -> Volume:
        """Everybody gets the sum of tensors of so many bytes."""
        return self.gather(size).times(2)

    def reduce_scatter(self, size: float) -> Volume:
        """Everybody gets a part of that sum."""
        return self.gather(size) if self.halves else self.all_reduce(size)

    def small_sum(self, numbers: int) -> Volume:
        """The sum of a few numbers of eight bytes."""
        found = self.all_reduce(8 * numbers)
        return Volume(found.payload, found.messages, found.messages)

    @property
    def table(self) -> Volume:
        """What the ranks agree by."""
        return self.all_reduce(ROW * self.ranks)


def numbers(shapes: Shapes) -> int:
    """Of all parameters together."""
    return sum(map(math.prod, shapes))


def padded(shapes: Shapes, ranks: int) -> int:
    """The same with shards of equal length: every rank has as many rows as the first."""
    return sum(ranks * math.ceil(shape[0] / ranks) * math.prod(shape[1:]) for shape in shapes)


def ddp(ring: Ring, shapes: Shapes) -> dict[str, Volume]:
    """``DistributedDataParallel``, whose gradients fit one bucket, or several that are summed one after the other."""
    whole = ring.all_reduce(ITEM * numbers(shapes)) if ring.ranks > 1 else Volume()
    product = whole + ring.table if ring.ranks > 1 else whole
    return {
        "step": whole,
        "sweep step": whole + ring.table,
        "exact product": product,
        "differences": product,
        "Lanczos step": product,
    }


def fsdp(ring: Ring, groups: Sequence[Shapes], steps: int = 1) -> dict[str, Volume]:
    """FSDP2 with so many calls of ``fully_shard``, none of which keeps whole parameters between forward and backward pass.

    ``steps``: of the Lanczos run whose mean step is asked for.
    """
    sizes = [ITEM * padded(shapes, ring.ranks) for shapes in groups]
    tensors = [shape for shapes in groups for shape in shapes]
    gathered, scattered = added(map(ring.gather, sizes)), added(map(ring.reduce_scatter, sizes))
    step = gathered.times(2) + scattered
    vector = added(ring.gather(ITEM * padded([shape], ring.ranks)) for shape in tensors)
    exact = gathered + vector + ring.all_reduce(ITEM * numbers(tensors)) + ring.table
    dot = ring.small_sum(1)
    rows = added(ring.small_sum(count).times(2) for count in range(1, steps + 1))
    orthogonal = dot.times(2) + Volume(rows.payload / steps, rows.messages // steps, rows.tiny // steps)
    return {
        "step": step,
        "sweep step": step + ring.table,
        "exact product": exact,
        "differences": step.times(2) + dot.times(2),
        "Lanczos step": exact + orthogonal,
        "orthogonalisation": orthogonal,
        "dot": dot,
    }


def added(volumes: object) -> Volume:
    """One after the other."""
    total = Volume()
    for volume in volumes:  # type: ignore[attr-defined]
        total += volume
    return total
