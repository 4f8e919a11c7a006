"""What the operators of a loss share: a problem, its batches, and named parameters as coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from hessian.errors import BadArgument
from hessian.operators.base import CurvatureOperator
from hessian.problem import Problem
from hessian.vectors import coordinates, real


class LossOperator(CurvatureOperator):
    """A curvature of the mean loss over some batches. A complex parameter counts as pairs of real coordinates.

    Args:
        problem: The model and its loss.
        batches: The batches, already on the model's device.
        parameters: Names of the parameters that are the coordinates, in that order; None takes all of ``problem.parameters``.

    Raises:
        BadArgument: If a name is unknown, or there is no batch.

    Attributes:
        names: Of the coordinates' parameters.
        parameters: The parameters themselves.
    """

    def __init__(self, problem: Problem, batches: Sequence[Any], parameters: Iterable[str] | None) -> None:
        named = choose_parameters(problem, parameters)
        if not len(batches):
            raise BadArgument("batches is empty; pass at least one batch to take the curvature on.")
        self.names = list(named)
        self.parameters = list(named.values())
        super().__init__(sum(map(coordinates, self.parameters)), real(self.parameters[0].detach()))
        self.problem = problem


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
