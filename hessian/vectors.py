"""Flat vectors over a list of parameters: one contiguous tensor for the solvers, views for autograd."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """The tensors, in order, as one 1-D tensor (a copy)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of ``vector`` in the shapes of ``like``, in the dtype of each."""
    parts = vector.split_with_sizes([tensor.numel() for tensor in like])
    return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, like, strict=True)]


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
