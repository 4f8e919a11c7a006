"""The loss somewhere else than where the weights are, and everything back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from hessian.problem import Problem
from hessian.sharded import local, reshard
from hessian.snapshot import Layout, Restore, keep_random_state, keep_tensors


@contextmanager
def moved(problem: Problem, parameters: Sequence[Tensor], parts: Sequence[Tensor], step: float, random: Restore) -> Iterator[None]:
    """The parameters moved by ``step`` along ``parts``, with the generators where ``random`` puts them.

    Weights come back by copying, for subtracting would leave rounding behind; so do buffers and generators.
    """
    buffers = [buffer for module in problem.modules for buffer in module.buffers()]
    reshard(problem.modules)  # whole parameters that a forward pass has left would not move with the shards
    restore_tensors, restore_random = keep_tensors(Layout([*parameters, *buffers])), keep_random_state()
    random()
    try:
        for parameter, part in zip(parameters, parts, strict=True):
            local(parameter.data).add_(part, alpha=step)
        yield
    finally:
        reshard(problem.modules)
        restore_tensors()
        restore_random()
