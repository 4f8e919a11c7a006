"""The Hessian of the loss over some batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hessian.errors import BadArgument
from hessian.operators.base import CurvatureOperator
from hessian.operators.graphs import GRAPH_MEMORY, BatchGraphs, check_graph, second_derivative
from hessian.problem import Problem
from hessian.vectors import flatten, unflatten


class HessianOperator(CurvatureOperator):
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
        BadArgument: If a name is unknown, or there is no batch.

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
        named = choose_parameters(problem, parameters)
        check_batches(batches)
        self.names = list(named)
        self.parameters = list(named.values())
        super().__init__(sum(parameter.numel() for parameter in self.parameters), self.parameters[0].detach())
        self.problem = problem
        self.graphs = BatchGraphs(problem, batches, partial(gradient_graph, problem, self.parameters), graph_memory)

    def _product(self, vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        for product, share in self.graphs.map(partial(self.differentiate, vector=vector)):
            total += share * product
        return total

    def batch_products(self, vector: Tensor) -> list[Tensor]:
        """``H_B v`` of every single batch: how the batches disagree. Counts as one product."""
        self.products += 1
        return [product for product, _ in self.graphs.map(partial(self.differentiate, vector=vector))]

    def differentiate(self, gradient: list[Tensor], vector: Tensor) -> Tensor:
        """Derivative of ``<gradient, vector>``; entries that depend on no weight (of a linear loss) contribute nothing."""
        parts = unflatten(vector, self.parameters)
        live = [(entry, part) for entry, part in zip(gradient, parts, strict=True) if entry.requires_grad]
        if not live:
            return torch.zeros_like(vector)
        entries, directions = zip(*live, strict=True)
        with second_derivative():
            products = torch.autograd.grad(
                entries, self.parameters, directions, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        return flatten(products)

    def batch_gradients(self) -> list[Tensor]:
        """The gradient of every single batch, flat."""
        return [gradient for gradient, _ in self.graphs.map(detached)]

    def start_hint(self) -> Tensor:
        """The gradient: early in training it leans towards the sharp directions."""
        total = torch.zeros(self.size, dtype=self.like.dtype, device=self.like.device)
        for gradient, share in self.graphs.map(detached):
            total += share * gradient
        return total


def gradient_graph(problem: Problem, parameters: list[nn.Parameter], batch: Any) -> list[Tensor]:
    """The gradient with its graph. No method: a graph that refers to its operator would outlive it until garbage is collected."""
    with torch.enable_grad():
        loss = problem.loss(batch)
        seed = torch.ones_like(loss, requires_grad=True)  # without it a custom function next to the loss leaves no node to be checked
        gradient = torch.autograd.grad(loss, parameters, seed, create_graph=True, allow_unused=True, materialize_grads=True)
    check_graph(gradient)
    return list(gradient)


def detached(gradient: list[Tensor]) -> Tensor:
    """A gradient as one flat tensor without its graph."""
    return flatten(entry.detach() for entry in gradient)


def choose_parameters(problem: Problem, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """The named parameters, or all that are trained."""
    if names is None:
        return problem.parameters
    chosen = list(names)
    unknown = [name for name in chosen if name not in problem.parameters]
    if unknown or not chosen:
        known = ", ".join(list(problem.parameters)[:6])
        raise BadArgument(f"parameters names {unknown or 'nothing'}, which is not trained here; choose from {known}, ...")
    return {name: problem.parameters[name] for name in chosen}


def check_batches(batches: Sequence[Any]) -> None:
    """Refuse an empty list of batches."""
    if not len(batches):
        raise BadArgument("batches is empty; pass at least one batch to take the curvature on.")
