"""The exact Hessian of a model under ``fully_shard``: whole parameters for the time of a product, vectors in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from hessian.operators.graphs import BatchGraphs, derivative
from hessian.operators.hessian import HessianOperator, detached, gradient_graph
from hessian.operators.loss import LossOperator
from hessian.problem import Problem
from hessian.sharded import own_part, placed, unsharded, whole
from hessian.vectors import flatten, unflatten


class UnshardedHessianOperator(HessianOperator):
    """``HessianOperator`` for FSDP2, which cannot differentiate its shards twice.

    Parameters are gathered for every product and the forward and the first backward pass are run anew in it: no graph is kept, for it
    would keep the whole parameters. Vectors stay in pieces; within a product there are three whole ones.

    Args:
        problem: The model, under ``fully_shard`` on a mesh that only divides data, and its loss.
        batches: The batches of this rank.
        parameters: Names of the coordinates; None takes all that are trained.
    """

    def __init__(self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None) -> None:
        LossOperator.__init__(self, problem, batches, parameters)
        self.graphs = BatchGraphs(self.problem, batches, self._gradient, keep=False)
        self._whole: list[Any] = []

    def _gradient(self, batch: Any) -> list[Tensor]:
        return gradient_graph(self.problem, self._whole, batch)

    def _through(self, use: Any) -> list[tuple[Tensor, float]]:
        """``use(gradient)`` and its share for every batch, with the whole parameters in place."""
        with unsharded(self.problem.modules):
            found = {name: parameter for module in self.problem.modules for name, parameter in module.named_parameters()}
            self._whole = [found[name] for name in self.names]
            try:
                return list(self.graphs.map(use))
            finally:
                self._whole = []

    def _product(self, vector: Tensor) -> Tensor:
        parts = self._through(partial(self._differentiate, direction=self._gathered(vector)))
        return self.pooled(sum(share * product for product, share in parts))  # type: ignore[arg-type]

    def batch_products(self, vector: Tensor) -> list[Tensor]:
        self.products += 1
        parts = self._through(partial(self._differentiate, direction=self._gathered(vector)))
        return [self.pooled_part(product, index) for index, (product, _) in enumerate(parts)]

    def start_hint(self) -> Tensor:
        return self.pooled(sum(share * gradient for gradient, share in self._through(detached)))  # type: ignore[arg-type]

    def _gathered(self, vector: Tensor) -> Tensor:
        """The whole vector, which is in pieces."""
        pieces = zip(unflatten(vector, self.parameters), self.parameters, strict=True)
        return flatten(whole(placed(piece, parameter)) for piece, parameter in pieces)

    def _differentiate(self, gradient: list[Tensor], direction: Tensor) -> Tensor:
        self.computed = self._whole[0].dtype  # a mixed precision policy gives whole parameters another one
        return flatten(derivative(gradient, self._whole, unflatten(direction, self._whole))).to(self.like)

    def pooled(self, mean: Tensor, share: float | None = None) -> Tensor:
        """The mean over the samples of all ranks, of which this one keeps its part."""
        total = super().pooled(mean, share)
        parts = total.split_with_sizes([parameter.numel() for parameter in self.parameters])
        pieces = zip(parts, self.parameters, strict=True)
        return flatten(own_part(part.view(parameter.shape), parameter) for part, parameter in pieces)
