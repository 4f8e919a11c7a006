"""Exact curvature of a model under ``fully_shard``: whole parameters for the time of a product, vectors in pieces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from hessian.errors import BadArgument
from hessian.operators.ggn import GGNOperator, gauss_newton, linearize, pair_of
from hessian.operators.graphs import BatchGraphs, Graph, Value, derivative, too_old
from hessian.operators.hessian import HessianOperator, gradient_graph
from hessian.operators.loss import LossOperator
from hessian.problem import Problem
from hessian.sharded import fsdp_modules, own_part, placed, unsharded, whole
from hessian.vectors import flatten, unflatten


class UnshardedOperator(LossOperator):
    """A curvature under FSDP2 on a mesh that only divides data, whose shards cannot be differentiated twice.

    Parameters are gathered for every product and the forward and the first backward pass are run anew in it: no graph is kept, for it
    would keep the whole parameters. Vectors stay in pieces; within a product there are three whole ones.

    Raises:
        BadArgument: If a name is unknown, there is no batch, or tensor parallelism divides the parameters too.
        CurvatureError: If this torch is too old to gather them for second derivatives.
    """

    def __init__(self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None) -> None:
        if problem.team.replicas > 1:
            raise BadArgument(
                f"tensor parallelism divides the parameters too, so {type(self).__name__} cannot gather them; use FiniteDifferenceOperator."
            )
        if not all(hasattr(part, "set_reshard_after_forward") for part in fsdp_modules(problem.modules)):
            raise too_old("a model under fully_shard")
        LossOperator.__init__(self, problem, batches, parameters)  # not that of the operator beside, which keeps graphs
        self._whole: list[Any] = []
        self.graphs = BatchGraphs(self.problem, batches, self._graph, keep=False)

    @abstractmethod
    def _graph(self, batch: Any) -> Graph:
        """What is differentiated, with the whole parameters in place."""

    def through(self, use: Callable[[Any], Value]) -> list[tuple[Value, float]]:
        """``use(graph)`` and its share for every batch, with the whole parameters in place."""
        with unsharded(self.problem.modules):
            found = {name: parameter for module in self.problem.modules for name, parameter in module.named_parameters()}
            self._whole = [found[name] for name in self.names]
            self.computed = self._whole[0].dtype  # a mixed precision policy gives whole parameters another one
            try:
                return list(self.graphs.map(use))
            finally:
                self._whole = []

    def _mean(self, use: Callable[[Any], Tensor]) -> Tensor:
        """Mean of ``use(graph)``, a new tensor every time, over the samples of all ranks, of which this one keeps its part."""
        return self.pooled(reduce(torch.Tensor.add_, (value.mul_(share) for value, share in self.through(use))))

    def pooled(self, mean: Tensor, share: float | None = None) -> Tensor:
        """The mean over the samples of all ranks, of which this one keeps its part."""
        total = super().pooled(mean, share)
        parts = total.split_with_sizes([parameter.numel() for parameter in self.parameters])
        pieces = zip(parts, self.parameters, strict=True)
        return flatten(own_part(part.view(parameter.shape), parameter) for part, parameter in pieces)

    def _gathered(self, vector: Tensor) -> Tensor:
        """The whole vector, which is in pieces."""
        pieces = zip(unflatten(vector, self.parameters), self.parameters, strict=True)
        return flatten(whole(placed(piece, parameter)) for piece, parameter in pieces)


class UnshardedHessianOperator(UnshardedOperator, HessianOperator):
    """``HessianOperator`` for FSDP2; see ``UnshardedOperator``."""

    def _graph(self, batch: Any) -> list[Tensor]:
        return gradient_graph(self.problem, self._whole, batch)

    def _along(self, vector: Tensor) -> Callable[[list[Tensor]], Tensor]:
        direction = self._gathered(vector)
        return lambda gradient: flatten(derivative(gradient, self._whole, unflatten(direction, self._whole))).to(self.like)

    def differentiate(self, gradient: list[Tensor], vector: Tensor) -> Tensor:
        return self._along(vector)(gradient)


class UnshardedGGNOperator(UnshardedOperator, GGNOperator):
    """``GGNOperator`` for FSDP2; see ``UnshardedOperator``."""

    def __init__(self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None) -> None:
        self._pair = pair_of(problem)
        super().__init__(problem, batches, parameters=parameters)

    def _graph(self, batch: Any) -> Any:
        return linearize(self.problem, self._whole, self._pair, batch)

    def _product(self, vector: Tensor) -> Tensor:
        direction = self._gathered(vector)

        def product(linear: Any) -> Tensor:
            return gauss_newton(linear, self._whole, unflatten(direction, self._whole)).to(self.like)

        return self._mean(product)
