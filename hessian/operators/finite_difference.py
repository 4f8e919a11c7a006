"""The Hessian by differences of gradients, for models whose operations have no second derivative; and the loss at moved weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hessian.nested import micro_batches
from hessian.operators.base import full_precision
from hessian.operators.loss import LossOperator
from hessian.problem import Problem
from hessian.sharded import divided, fsdp_modules, gradients_aside, local, reshard
from hessian.snapshot import Layout, Restore, keep_random_state, keep_tensors
from hessian.vectors import flatten, unflatten


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


class FiniteDifferenceOperator(LossOperator):
    """``H v ~ (g(w + r v) - g(w - r v)) / 2r``: two gradients a product, any kernel, no graph kept.

    ``r = eps^(1/3) (1 + |w|) / |v|`` balances the truncation error, which falls with ``r^2``, against rounding, which grows with
    ``1 / r``; ``eps`` is the machine epsilon of the weights. In float32 three digits are usual; kinks (ReLU) and batch norm cost more.
    Weights, buffers and generators are back bit for bit after every product.

    Args:
        problem: The model and its loss.
        batches: The batches, already on the model's device.
        parameters: Names of the coordinates; None takes all that are trained.

    Raises:
        BadArgument: If a name is unknown, or there is no batch.
    """

    def __init__(self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None) -> None:
        super().__init__(problem, batches, parameters)
        self.batches, self.shares = micro_batches(batches)
        self._random = keep_random_state()
        self.reduced = bool(fsdp_modules(self.problem.modules))

    def _product(self, vector: Tensor) -> Tensor:
        return self.difference(vector, self.step(vector))

    def step(self, vector: Tensor) -> float:
        """``r`` for a vector."""
        epsilon = float(torch.finfo(self.like.dtype).eps)
        length = self.space.norm(vector)
        weights = self.space.norm(flatten(parameter.detach() for parameter in self.parameters))
        return epsilon ** (1 / 3) * (1 + weights) / length if length > 0 else 1.0

    def difference(self, vector: Tensor, step: float) -> Tensor:
        """The central difference with a given step."""
        parts = unflatten(vector, self.parameters)
        ahead = self._gradient(parts, step)
        change = ahead.sub_(self._gradient(parts, -step)).div_(2 * step)
        return change if self.reduced else self.pooled(change)

    def relative_error(self, vector: Tensor) -> float:
        """Estimated relative error of one product: doubling the step multiplies the truncation error by four. Two products."""
        step = self.step(vector)
        once, twice = self.difference(vector, step), self.difference(vector, 2 * step)
        return self.space.norm(twice - once) / 3 / max(self.space.norm(once), 1e-30)

    def gradient(self) -> Tensor:
        """Mean gradient over the batches of all ranks, flat, at the present weights."""
        total = self._gradient()
        return total if self.reduced else self.pooled(total)

    def _gradient(self, parts: Sequence[Tensor] = (), step: float = 0.0) -> Tensor:
        """The same at the weights moved by ``step`` along ``parts``, always with the same random numbers; not ``pooled`` yet."""
        total = self.like.new_zeros(self.space.length)
        parameters = self.parameters if parts else []
        with moved(self.problem, parameters, parts, step, self._random), full_precision(), torch.enable_grad():
            for batch, share in zip(self.batches, self.shares, strict=True):
                loss = self.problem.loss_in_full(batch)
                total.add_(flatten(self.derivatives(loss)), alpha=share)
        return total

    def derivatives(self, loss: Tensor) -> Sequence[Tensor]:
        """Gradient of one batch's loss; under ``fully_shard`` that of all ranks, which only a backward pass gives."""
        if not self.reduced:
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
            return list(map(divided, found, self.parameters))
        with gradients_aside(self.problem.modules):
            torch.autograd.backward(loss * (self.share * self.problem.team.readers))  # FSDP2 takes the mean over the ranks
            return [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]

    def start_hint(self) -> Tensor:
        return self.gradient()
