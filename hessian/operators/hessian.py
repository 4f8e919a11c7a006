"""The Hessian of the loss over some batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hessian.nested import batch_size
from hessian.operators.graphs import GRAPH_MEMORY, BatchGraphs, Value, derivative, gradient_with_graph
from hessian.operators.loss import LossOperator, refuse_shards
from hessian.problem import Problem
from hessian.sharded import divided, placed
from hessian.vectors import flatten, unflatten


class HessianOperator(LossOperator):
    """Hessian of the mean loss over ``batches``, each weighted by its number of samples, by double backward.

    The forward pass and the first backward pass of a batch run once, here, and every product is one more backward pass through the
    kept graph (Pearlmutter 1994). Batches whose graphs do not fit ``graph_memory`` are run again for every product, with the same
    dropout masks, so any number of them takes constant memory. Buffers (running statistics) are as before afterwards.

    Args:
        problem: The model and its loss, in train or eval mode as it stands.
        batches: The batches, already on the model's device.
        parameters: Names of the parameters that are the coordinates, in that order; None takes all of ``problem.parameters``.
        graph_memory: Bytes of graphs to keep; that of the first batch is kept in any case.

    Raises:
        CurvatureError: If an operation in the model has no second derivative.
        BadArgument: If a name is unknown, there is no batch, or the model is under ``fully_shard``.

    Example:
        >>> import torch
        >>> from hessian import HessianOperator, Problem
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> batch = (torch.eye(2), torch.zeros(2, 1))  # loss = (w1^2 + w2^2) / 2
        >>> HessianOperator(Problem(model, None, [batch], torch.nn.MSELoss()), [batch]) @ torch.tensor([3.0, 4.0])
        tensor([3., 4.])
    """

    def __init__(
        self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None, graph_memory: int = GRAPH_MEMORY
    ) -> None:
        refuse_shards(problem, "HessianOperator")
        super().__init__(problem, batches, parameters)
        self.graphs = BatchGraphs(self.problem, batches, partial(gradient_graph, self.problem, self.parameters), graph_memory)

    def _product(self, vector: Tensor) -> Tensor:
        return self._mean(self._along(vector))

    def _mean(self, use: Callable[[Any], Tensor]) -> Tensor:
        """Mean of ``use(gradient)``, a new tensor every time, over the samples of all ranks."""
        return self.pooled(self.graphs.mean(use))

    def _along(self, vector: Tensor) -> Callable[[list[Tensor]], Tensor]:
        """What differentiates a gradient along a vector."""
        return partial(self.differentiate, vector=vector)

    def batch_products(self, vector: Tensor) -> list[Tensor]:
        """``H_B v`` of every single batch: how the batches disagree. Counts as one product."""
        self.products += 1
        products = self.through(self._along(vector))
        return [self.pooled_part(product, index) for index, (product, _) in enumerate(products)]

    def through(self, use: Callable[[list[Tensor]], Value]) -> list[tuple[Value, float]]:
        """``use(gradient)``, the gradient with its graph, and the share of the samples for every batch of this rank."""
        return list(self.graphs.map(use))

    def pooled_part(self, product: Tensor, index: int) -> Tensor:
        """What all ranks have for one of their micro-batches, from what this one has."""
        return self.pooled(product, self.problem.team.share(batch_size(self.graphs.batches[index]) or 1))

    def differentiate(self, gradient: list[Tensor], vector: Tensor) -> Tensor:
        """Derivative of ``<gradient, vector>``."""
        directions = map(placed, unflatten(vector, self.parameters), self.parameters)
        return flatten(map(divided, derivative(gradient, self.parameters, list(directions)), self.parameters)).detach()

    def start_hint(self) -> Tensor:
        """The gradient: early in training it leans towards the sharp directions."""
        return self._mean(detached)


def gradient_graph(problem: Problem, parameters: list[nn.Parameter], batch: Any) -> list[Tensor]:
    """The gradient with its graph. No method: a graph that refers to its operator would outlive it until garbage is collected."""
    with torch.enable_grad():
        loss = problem.loss_in_full(batch)
        seed = torch.ones_like(loss, requires_grad=True)  # without it a custom function next to the loss leaves no node to be checked
    return gradient_with_graph(loss, parameters, seed)


def detached(gradient: list[Tensor]) -> Tensor:
    """A gradient as one flat tensor without its graph."""
    return flatten(entry.detach() for entry in gradient)
