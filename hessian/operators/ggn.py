"""The generalized Gauss-Newton matrix: the part of the Hessian that a linear model would have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hessian.errors import BadArgument
from hessian.losses import PairLoss
from hessian.operators.graphs import GRAPH_MEMORY, BatchGraphs, check_graph, derivative, gradient_with_graph
from hessian.operators.loss import LossOperator, refuse_shards
from hessian.problem import Problem
from hessian.sharded import divided, placed, whole
from hessian.vectors import flatten, unflatten

OutputHessian = Callable[[Tensor], Tensor]


class GGNOperator(LossOperator):
    """``G v = J^T H_out J v`` of the mean loss over ``batches``: ``J`` the model's Jacobian, ``H_out`` the loss's Hessian in its outputs.

    Positive semi-definite wherever the loss is convex in the outputs, and close to the Hessian once a model fits (Schraudolph 2002;
    Martens 2010). One Jacobian-vector product and one vector-Jacobian product through the kept graph; ``H_out`` is closed-form for
    cross-entropy and mean squared error, so nothing of size outputs x outputs is ever made, and autograd's otherwise.

    Args:
        problem: A problem with ``criterion``: the split into model and loss must be known.
        batches: The batches, already on the model's device.
        parameters: Names of the coordinates; None takes all that are trained.
        graph_memory: Bytes of graphs to keep; see ``HessianOperator``.

    Raises:
        BadArgument: If the problem was made with ``loss_fn`` or with neither.
        CurvatureError: If an operation in the model has no second derivative.
    """

    def __init__(
        self, problem: Problem, batches: Sequence[Any], *, parameters: Iterable[str] | None = None, graph_memory: int = GRAPH_MEMORY
    ) -> None:
        pair = pair_of(problem)
        refuse_shards(problem, "GGNOperator")
        super().__init__(problem, batches, parameters)
        build = partial(linearize, self.problem, self.parameters, pair)
        self.graphs = BatchGraphs(self.problem, batches, build, graph_memory)

    def _product(self, vector: Tensor) -> Tensor:
        directions = list(map(placed, unflatten(vector, self.parameters), self.parameters))
        return self.pooled(self.graphs.mean(lambda linear: gauss_newton(linear, self.parameters, directions)))


@dataclass
class Linearization:
    """A model's outputs on one batch, ready for products with its Jacobian from both sides."""

    outputs: Tensor
    dummy: Tensor
    pulled: list[Tensor]
    hessian: OutputHessian


def gauss_newton(linear: Linearization, parameters: Sequence[Tensor], directions: Sequence[Tensor]) -> Tensor:
    """``J^T H_out J v`` of one batch, flat."""
    (ahead,) = derivative(linear.pulled, [linear.dummy], directions)
    return flatten(map(divided, derivative([linear.outputs], parameters, [linear.hessian(ahead)]), parameters))


def pair_of(problem: Problem) -> PairLoss:
    """The loss of a problem whose split into model and criterion is known."""
    if not isinstance(problem.loss_fn, PairLoss):
        raise BadArgument("GGNOperator needs criterion(model(x), y) to split the model from its loss; pass criterion, not loss_fn.")
    return problem.loss_fn


def linearize(problem: Problem, parameters: Sequence[Tensor], pair: PairLoss, batch: Any) -> Linearization:
    """One batch, forward and backward; no method, as in ``gradient_graph``."""
    inputs, target = pair.split(problem.model, batch)
    with torch.enable_grad():
        outputs = whole(problem.model(*inputs))
        if not isinstance(outputs, Tensor):
            raise BadArgument(f"the model returned a {type(outputs).__name__}, not a tensor; GGNOperator needs one output tensor.")
        # d/du <u, J v> is J v: differentiating the backward pass in its own input gives the forward derivative.
        dummy = torch.zeros_like(outputs, requires_grad=True)
    pulled = gradient_with_graph(outputs, parameters, dummy)
    return Linearization(outputs, dummy, pulled, output_hessian(pair.criterion, outputs, target))


def output_hessian(criterion: Any, outputs: Tensor, target: Tensor) -> OutputHessian:
    """``u -> H_out u`` for one batch."""
    if is_cross_entropy(criterion) and not target.is_floating_point():
        return cross_entropy_hessian(criterion, outputs.detach(), target)
    if is_mean_squared_error(criterion):
        scale = 2.0 / (outputs.numel() if getattr(criterion, "reduction", "mean") == "mean" else 1)
        return lambda u: scale * u
    return autograd_hessian(criterion, outputs.detach(), target)


def is_cross_entropy(criterion: Any) -> bool:
    """Cross-entropy without class weights, in either of torch's forms. Label smoothing does not change its Hessian."""
    plain = type(criterion) is nn.CrossEntropyLoss and criterion.weight is None and criterion.reduction in ("mean", "sum")
    return criterion is F.cross_entropy or plain


def is_mean_squared_error(criterion: Any) -> bool:
    """Mean (or summed) squared error, in either of torch's forms."""
    return criterion is F.mse_loss or (type(criterion) is nn.MSELoss and criterion.reduction in ("mean", "sum"))


def cross_entropy_hessian(criterion: Any, outputs: Tensor, target: Tensor) -> OutputHessian:
    """``(diag(p) - p p^T) u`` for every target that counts; classes lie along dimension 1 (0 without a batch)."""
    classes = 1 if outputs.ndim > 1 else 0
    ignore = getattr(criterion, "ignore_index", -100)
    counted = (target != ignore).unsqueeze(classes)
    scale = 1.0 / max(int(counted.sum()), 1) if getattr(criterion, "reduction", "mean") == "mean" else 1.0
    weights = outputs.softmax(classes) * counted * scale

    def product(u: Tensor) -> Tensor:
        weighted = weights * u
        return weighted - weights * (weighted.sum(classes, keepdim=True) / scale)

    return product


def autograd_hessian(criterion: Any, outputs: Tensor, target: Tensor) -> OutputHessian:
    """The loss's own second derivative in the outputs."""
    leaf = outputs.requires_grad_()
    with torch.enable_grad():
        loss = criterion(leaf, target)
        seed = torch.ones_like(loss, requires_grad=True)  # leaves a node to be checked, as in HessianOperator
        (gradient,) = torch.autograd.grad(loss, leaf, seed, create_graph=True)
    check_graph([gradient])
    return lambda u: derivative([gradient], [leaf], [u])[0]
