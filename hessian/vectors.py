"""Flat vectors over a list of parameters: one contiguous tensor for the solvers, views for autograd."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from hessian.sharded import local


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


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product, summed in float64: a float32 sum over 1e7 entries would cost the last digits."""
    return float((a * b).sum(dtype=torch.float64))


def norm(a: Tensor) -> float:
    """Euclidean norm, summed in float64."""
    return math.sqrt(dot(a, a))


def random_unit(size: int, like: Tensor, seed: int) -> Tensor:
    """A direction uniform on the sphere, the same on every device: drawn on the CPU from its own generator."""
    generator = torch.Generator().manual_seed(seed)
    probe = torch.randn(size, generator=generator, dtype=torch.float64)
    return probe.div_(torch.linalg.vector_norm(probe)).to(like)


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
        """Inner product."""
        return dot(a, b)

    def norm(self, a: Tensor) -> float:
        """Euclidean norm."""
        return math.sqrt(self.dot(a, a))

    def project(self, rows: Tensor, vector: Tensor) -> Tensor:
        """Inner products of a vector with every row."""
        return rows @ vector

    def random_unit(self, like: Tensor, seed: int) -> Tensor:
        """A direction uniform on the sphere."""
        return random_unit(self.size, like, seed)
