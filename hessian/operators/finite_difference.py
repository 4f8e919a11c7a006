"""The Hessian by differences of gradients, for models whose operations have no second derivative."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hessian.batches import batch_size
from hessian.operators.base import CurvatureOperator
from hessian.operators.hessian import check_batches, choose_parameters
from hessian.precision import full_precision
from hessian.problem import Problem
from hessian.snapshot import keep_random_state, keep_tensors
from hessian.vectors import flatten, norm, unflatten


class FiniteDifferenceOperator(CurvatureOperator):
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
        named = choose_parameters(problem, parameters)
        check_batches(batches)
        self.names = list(named)
        self.parameters = list(named.values())
        super().__init__(sum(parameter.numel() for parameter in self.parameters), self.parameters[0].detach())
        self.problem = problem
        self.batches = batches
        self._random = keep_random_state()

    def _product(self, vector: Tensor) -> Tensor:
        return self.difference(vector, self.step(vector))

    def step(self, vector: Tensor) -> float:
        """``r`` for a vector."""
        epsilon = float(torch.finfo(self.like.dtype).eps)
        length = norm(vector)
        weights = norm(flatten(parameter.detach() for parameter in self.parameters))
        return epsilon ** (1 / 3) * (1 + weights) / length if length > 0 else 1.0

    def difference(self, vector: Tensor, step: float) -> Tensor:
        """The central difference with a given step."""
        parts = unflatten(vector, self.parameters)
        return (self.gradient(parts, step) - self.gradient(parts, -step)) / (2 * step)

    def relative_error(self, vector: Tensor) -> float:
        """Estimated relative error of one product: doubling the step multiplies the truncation error by four. Two products."""
        step = self.step(vector)
        once, twice = self.difference(vector, step), self.difference(vector, 2 * step)
        return norm(twice - once) / 3 / max(norm(once), 1e-30)

    def gradient(self, parts: list[Tensor] | None = None, step: float = 0.0) -> Tensor:
        """Mean gradient over the batches, flat, at the weights moved by ``step`` along ``parts``; always the same random numbers."""
        sizes = [batch_size(batch) or 1 for batch in self.batches]
        total = torch.zeros(self.size, dtype=self.like.dtype, device=self.like.device)
        with self._moved(parts or [], step), full_precision(), torch.enable_grad():
            for batch, size in zip(self.batches, sizes, strict=True):
                loss = self.problem.loss(batch)
                entries = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
                total += size / sum(sizes) * flatten(entries)
        return total

    @contextmanager
    def _moved(self, parts: list[Tensor], step: float) -> Iterator[None]:
        """The weights moved along a direction, and back by copying: adding and subtracting would leave rounding behind."""
        buffers = [buffer for module in self.problem.modules for buffer in module.buffers()]
        restore_tensors, restore_random = keep_tensors([*self.parameters, *buffers]), keep_random_state()
        self._random()
        try:
            for parameter, part in zip(self.parameters, parts, strict=False):
                parameter.data.add_(part, alpha=step)
            yield
        finally:
            restore_tensors()
            restore_random()

    def start_hint(self) -> Tensor:
        return self.gradient()
