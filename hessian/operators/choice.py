"""Which operator measures a model, and where its sharpest direction lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hessian.curvature_settings import CurvatureSettings
from hessian.operators.finite_difference import FiniteDifferenceOperator
from hessian.operators.graphs import NoSecondDerivativeError
from hessian.operators.hessian import HessianOperator
from hessian.operators.unsharded import UnshardedHessianOperator
from hessian.problem import Problem
from hessian.sharded import fsdp_modules, local
from hessian.snapshot.memory import free_bytes
from hessian.spaces import ShardedSpace
from hessian.vectors import coordinates

WHOLE = 5  # times the size of the parameters: themselves, their gradient, a vector, a product and what it is summed in


def make_operator(problem: Problem, batches: Sequence[Any], settings: CurvatureSettings) -> HessianOperator | FiniteDifferenceOperator:
    """The Hessian by the chosen method; under ``fully_shard`` the exact one only if it fits."""
    if settings.method == "finite_difference":
        return FiniteDifferenceOperator(problem, batches)
    if fsdp_modules(problem.modules):
        check_unsharded(problem)
        return UnshardedHessianOperator(problem, batches)
    return HessianOperator(problem, batches, graph_memory=settings.graph_memory)


def check_unsharded(problem: Problem) -> None:
    """Refuse, on every rank, whole parameters where they do not fit beside the shards of one, or are divided in a second way."""
    parameters = list(problem.parameters.values())
    free = free_bytes(local(parameters[0]).device)
    needed = WHOLE * sum(parameter.nbytes for parameter in parameters)
    if not problem.team.every(problem.team.replicas == 1 and (free is None or needed <= free)):
        raise NoSecondDerivativeError(
            "the model is sharded, and its whole parameters do not fit into memory or are divided by tensor parallelism too; "
            "pass method='finite_difference'."
        )


def shares_of(operator: HessianOperator | FiniteDifferenceOperator, direction: Tensor) -> dict[str, float]:
    """How much of a direction lies in every parameter, largest first."""
    if not isinstance(operator.space, ShardedSpace):
        return sharpness_by_parameter(operator.own_names, operator.parameters, direction)
    return shares(operator.own_names, operator.space.squares(direction))


def sharpness_by_parameter(names: Sequence[str], parameters: Sequence[Tensor], direction: Tensor) -> dict[str, float]:
    """How much of a direction lies in every parameter, largest first: shares of its squared length, so they add up to one.

    Args:
        names: One for each parameter; ``op.names`` of an operator.
        parameters: In the order of the coordinates; ``op.parameters``.
        direction: Shape ``(n,)``, such as ``lanczos(op).vectors[:, 0]``.
    """
    parts = torch.split(direction, [coordinates(parameter) for parameter in parameters])
    squares = [float(part.square().sum(dtype=torch.float64)) for part in parts]
    return shares(names, squares)


def shares(names: Sequence[str], squares: Sequence[float]) -> dict[str, float]:
    """Of the squared length in every parameter its share, largest first."""
    total = sum(squares) or 1.0
    found = {name: square / total for name, square in zip(names, squares, strict=True)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
