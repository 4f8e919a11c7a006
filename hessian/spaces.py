"""Flat vectors over sharded parameters: every process has the numbers of its own shards, and one all-reduce measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from hessian.sharded import is_first_holder, is_sharded, local, own_part
from hessian.vectors import Space, coordinates, dots, normals, random_signs


class ShardedSpace(Space):
    """Vectors in pieces. What several ranks hold counts once: where ``firsts`` says so of this rank's piece of a parameter.

    ``sum_`` sums a small tensor, in place, over all ranks.
    """

    def __init__(self, parameters: Sequence[Tensor], sum_: Callable[[Tensor], Tensor], firsts: Sequence[bool]) -> None:
        super().__init__(sum(parameter.numel() for parameter in parameters))
        self.parameters = parameters
        self.sum_ = sum_
        self.lengths = [local(parameter.detach()).numel() for parameter in parameters]
        self.length = sum(self.lengths)
        self.counted = stretches(self.lengths, firsts)
        self.firsts = firsts

    def dot(self, a: Tensor, b: Tensor) -> float:
        return float(self.dots(a, b))

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(a.shape[1:], dtype=torch.float64)
        for place in self.counted:
            total += dots(a[place], b[place])
        return self._summed(total)

    def project(self, rows: Tensor, vector: Tensor) -> Tensor:
        return self._summed(self._shares(rows, vector)).to(vector.dtype)

    def take_off(self, blocks: Sequence[Tensor], vector: Tensor) -> None:
        """The same with one all-reduce: the shares in all rows are found before any is taken off."""
        shares = torch.cat([self._shares(block.to(vector.device), vector) for block in blocks])
        parts = self._summed(shares).to(vector.dtype).split_with_sizes([len(block) for block in blocks])
        for block, part in zip(blocks, parts, strict=True):
            vector.addmv_(block.to(vector.device).T, part, alpha=-1)

    def _shares(self, rows: Tensor, vector: Tensor) -> Tensor:
        """What of the inner products lies here, in float64."""
        total = vector.new_zeros((len(rows), *vector.shape[1:]), dtype=torch.float64)
        for place in self.counted:
            total += rows[:, place] @ vector[place]
        return total

    def _summed(self, small: Tensor) -> Tensor:
        return self.sum_(small) if small.numel() else small

    def squares(self, vector: Tensor) -> list[float]:
        """Squared length of a vector in every parameter."""
        parts = zip(vector.split_with_sizes(self.lengths), self.firsts, strict=True)
        return self.sum_(torch.stack([dots(part, part) * float(first) for part, first in parts])).tolist()

    def own(self, full: Tensor) -> Tensor:
        return self._kept(full.split_with_sizes([parameter.numel() for parameter in self.parameters]))

    def random_unit(self, like: Tensor, seed: int) -> Tensor:
        """The same direction however the parameters are divided: drawn whole, of which this process keeps its part."""
        drawn = regrouped(normals(self.size, seed), [parameter.numel() for parameter in self.parameters])
        vector = self._kept(numbers[:, None] for numbers in drawn)[:, 0].to(like.device)
        return vector.div_(self.norm(vector)).to(like)

    def random_signs(self, count: int, like: Tensor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return self._kept(random_signs(parameter.numel(), count, like, generator) for parameter in self.parameters)

    def _kept(self, rows: Iterable[Tensor]) -> Tensor:
        """Of the rows of every parameter, one parameter at a time, those that lie here."""
        kept = [
            own_part(full.reshape(*parameter.shape, full.shape[1]), parameter).reshape(-1, full.shape[1])
            for full, parameter in zip(rows, self.parameters, strict=True)
        ]
        return torch.cat(kept)


def stretches(lengths: Sequence[int], firsts: Sequence[bool]) -> list[slice]:
    """Where in a vector the pieces lie that count, neighbours as one."""
    found: list[slice] = []
    end = 0
    for length, first in zip(lengths, firsts, strict=True):
        start, end = end, end + length
        if first and found and found[-1].stop == start:
            found[-1] = slice(found[-1].start, end)
        elif first:
            found.append(slice(start, end))
    return found


def regrouped(chunks: Iterator[Tensor], counts: Iterable[int]) -> Iterator[Tensor]:
    """The same numbers in groups of these lengths."""
    held = torch.empty(0, dtype=torch.float64)
    for count in counts:
        while len(held) < count:
            held = torch.cat([held, next(chunks)])
        yield held[:count]
        held = held[count:]


def space_of(parameters: Sequence[Tensor], sum_: Callable[[Tensor], Tensor], firsts_elsewhere: Callable[[Tensor], bool]) -> Space:
    """Where flat vectors over these parameters live."""
    if not any(map(is_sharded, parameters)):
        return Space(sum(map(coordinates, parameters)))
    return ShardedSpace(parameters, sum_, [is_first_holder(parameter) and firsts_elsewhere(parameter) for parameter in parameters])
