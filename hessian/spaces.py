"""Flat vectors over sharded parameters: every process has the numbers of its own shards, and one all-reduce measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hessian.sharded import is_first_holder, is_sharded, local, own_part
from hessian.vectors import Space, coordinates, unflatten

AT_ONCE = 2**27  # numbers drawn in one call, as for a model that is not sharded; of larger ones each parameter by itself


class ShardedSpace(Space):
    """Vectors in pieces. What several ranks hold counts once.

    Args:
        parameters: The coordinates, in order.
        sum_: Sums a small tensor, in place, over all ranks.
    """

    def __init__(self, parameters: Sequence[Tensor], sum_: Callable[[Tensor], Tensor], firsts: Sequence[bool]) -> None:
        super().__init__(sum(parameter.numel() for parameter in parameters))
        self.parameters = parameters
        self.sum_ = sum_
        pieces = [local(parameter.detach()) for parameter in parameters]
        self.length = sum(piece.numel() for piece in pieces)
        self.counted = torch.cat([torch.full_like(piece, float(first)).reshape(-1) for piece, first in zip(pieces, firsts, strict=True)])

    def dot(self, a: Tensor, b: Tensor) -> float:
        return float(self.sum_((a * b * self.counted).sum(dtype=torch.float64)))

    def project(self, rows: Tensor, vector: Tensor) -> Tensor:
        return self.sum_((rows @ (vector * self.counted)).double()).to(vector.dtype)

    def squares(self, vector: Tensor) -> list[float]:
        """Squared length of a vector in every parameter."""
        parts = unflatten(vector * vector * self.counted, self.parameters)
        return self.sum_(torch.stack([part.sum(dtype=torch.float64) for part in parts])).tolist()

    def random_unit(self, like: Tensor, seed: int) -> Tensor:
        """The same direction however the parameters are divided: drawn whole, of which this process keeps its part."""
        generator = torch.Generator().manual_seed(seed)
        counts = [parameter.numel() for parameter in self.parameters]
        if self.size <= AT_ONCE:
            drawn = iter(torch.split(torch.randn(self.size, generator=generator, dtype=torch.float64), counts))
        else:
            drawn = (torch.randn(count, generator=generator, dtype=torch.float64) for count in counts)
        kept = [
            own_part(numbers.view(parameter.shape), parameter).reshape(-1)
            for numbers, parameter in zip(drawn, self.parameters, strict=True)
        ]
        vector = torch.cat(kept).to(like.device)
        return vector.div_(self.norm(vector)).to(like)


def space_of(parameters: Sequence[Tensor], sum_: Callable[[Tensor], Tensor], firsts_elsewhere: Callable[[Tensor], bool]) -> Space:
    """Where flat vectors over these parameters live."""
    if not any(map(is_sharded, parameters)):
        return Space(sum(map(coordinates, parameters)))
    return ShardedSpace(parameters, sum_, [is_first_holder(parameter) and firsts_elsewhere(parameter) for parameter in parameters])
