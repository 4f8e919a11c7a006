"""Flat vectors over a list of parameters: one contiguous tensor for the solvers, views for autograd."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hessian.sharded import local

CHUNK = 2**22  # numbers that a dot product multiplies, and a generator draws, at once: what passes by is small beside the vectors
TOGETHER = 16  # torch draws normal numbers by so many; fewer in a call would be others


def real(tensor: Tensor) -> Tensor:
    """The tensor as coordinates see it: a complex one as pairs of real and imaginary part, in which its loss and gradient are real."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def dense(tensor: Tensor) -> Tensor:
    """The tensor with its zeros: embeddings with ``sparse=True`` have gradients without."""
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def coordinates(tensor: Tensor) -> int:
    """How many of a vector's entries a tensor takes."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """The tensors, in order, as one 1-D real tensor (a copy); of sharded ones what lies here."""
    return torch.cat([real(dense(local(tensor))).reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of ``vector`` in the shapes of ``like``, in the dtype of each: views where they need no other dtype.

    Of sharded tensors what lies here.
    """
    like = [local(tensor) for tensor in like]
    parts = vector.split_with_sizes([coordinates(tensor) for tensor in like])
    return [shaped(part, tensor) for part, tensor in zip(parts, like, strict=True)]


def shaped(part: Tensor, like: Tensor) -> Tensor:
    """Entries of a vector in the shape and dtype of the tensor that they belong to."""
    if not like.is_complex():
        return part.view(like.shape).to(like.dtype)
    return torch.complex(*part.view(*like.shape, 2).unbind(-1)).to(like.dtype)  # view_as_complex would not take every offset


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two vectors, or of every column of a matrix with that of another, summed in float64.

    A float32 sum over 1e7 entries would cost the last digits.
    """
    parts = zip(torch.split(a, CHUNK), torch.split(b, CHUNK), strict=True)
    return torch.stack([(x * y).sum(dim=0, dtype=torch.float64) for x, y in parts]).sum(dim=0)


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product, summed in float64."""
    return float(dots(a, b))


def norm(a: Tensor) -> float:
    """Euclidean norm, summed in float64."""
    return math.sqrt(dot(a, a))


def random_unit(size: int, like: Tensor, seed: int) -> Tensor:
    """A direction uniform on the sphere, the same on every device: drawn on the CPU from its own generator.

    A long one is drawn twice, once to know its length, for in float64 it would take twice its memory.
    """
    if size < CHUNK + TOGETHER:
        whole = torch.cat(list(normals(size, seed)))
        return whole.div_(torch.linalg.vector_norm(whole)).to(like)
    probe = like.new_empty(size)
    length = math.sqrt(sum(dot(numbers, numbers) for numbers in normals(size, seed)))
    for index, numbers in enumerate(normals(size, seed)):
        probe[index * CHUNK : index * CHUNK + len(numbers)] = numbers.div_(length)
    return probe


def normals(size: int, seed: int) -> Iterator[Tensor]:
    """Normal random numbers in float64, some at a time: the same as if they were all drawn in one call."""
    generator = torch.Generator().manual_seed(seed)
    while size > 0:
        count = CHUNK if size >= CHUNK + TOGETHER else size
        yield torch.randn(count, generator=generator, dtype=torch.float64)
        size -= count


def random_signs(rows: int, count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, shape ``(rows, count)``, the same on every device and however many rows are drawn at once."""
    return torch.randint(0, 2, (rows, count), generator=generator, dtype=like.dtype).mul_(2).sub_(1).to(like)


def probe_seed(seed: int, index: int) -> int:
    """Seed of one of several probes, so that runs with neighbouring seeds share none."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


class Space:
    """Flat vectors of ``size`` numbers, of which this process has all, and how they are measured.

    Attributes:
        size: The dimension.
        length: How many numbers of a vector lie here.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.length = size

    def dot(self, a: Tensor, b: Tensor) -> float:
        return dot(a, b)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product of every column with that of the other matrix, in float64."""
        return dots(a, b)

    def norm(self, a: Tensor) -> float:
        return math.sqrt(self.dot(a, a))

    def project(self, rows: Tensor, vector: Tensor) -> Tensor:
        """Inner products of a vector, or of every column of a matrix, with every row."""
        return rows @ vector

    def take_off(self, blocks: Sequence[Tensor], vector: Tensor) -> None:
        """Take off the vector, in place, its shares in orthonormal rows; these may lie in another memory."""
        for block in blocks:
            rows = block.to(vector.device)
            vector.addmv_(rows.T, self.project(rows, vector), alpha=-1)

    def own(self, full: Tensor) -> Tensor:
        """Of a matrix that every process has, shape ``(size, k)``, the rows that lie here."""
        return full

    def random_unit(self, like: Tensor, seed: int) -> Tensor:
        return random_unit(self.size, like, seed)

    def random_signs(self, count: int, like: Tensor, seed: int) -> Tensor:
        """Random signs, shape ``(length, count)``."""
        return random_signs(self.size, count, like, torch.Generator().manual_seed(seed))
