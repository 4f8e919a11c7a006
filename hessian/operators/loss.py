"""What the operators of a loss share: a problem, its batches, and named parameters as coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from hessian.errors import BadArgument
from hessian.nested import batch_size
from hessian.operators.base import CurvatureOperator
from hessian.operators.graphs import too_old
from hessian.problem import Problem, listed
from hessian.sharded import differentiates_twice, fsdp_modules, local
from hessian.vectors import real


class LossOperator(CurvatureOperator):
    """A curvature of the mean loss over some batches. A complex parameter counts as pairs of real coordinates.

    Attributes:
        names: Of the coordinates' parameters.
        parameters: The parameters themselves.
        computed: The dtype that products are computed in.
    """

    def __init__(self, problem: Problem, batches: Sequence[Any], parameters: Iterable[str] | None) -> None:
        named = choose_parameters(problem, parameters)
        if not len(batches):
            raise BadArgument("batches is empty; pass at least one batch to take the curvature on.")
        self.names = list(named)
        self.parameters = list(named.values())
        space = problem.team.space(self.parameters)
        super().__init__(space.size, real(local(self.parameters[0].detach())), space)
        self.computed = self.like.dtype
        self.problem = problem.bare()
        self.share = problem.team.share(sum(batch_size(batch) or 1 for batch in batches))

    @property
    def own_names(self) -> list[str]:
        """The same as the model itself has them, whatever it is wrapped in."""
        modules = [*listed("model", self.problem.model), *self.problem.modules]
        own = {id(parameter): name for module in reversed(modules) for name, parameter in module.named_parameters()}
        return [own.get(id(parameter), name) for parameter, name in zip(self.parameters, self.names, strict=True)]

    def pooled(self, mean: Tensor, share: float | None = None) -> Tensor:
        """The mean over the samples of all ranks, in place, from that over this rank's and its share of them."""
        team = self.problem.team
        return mean if team.alone else team.sum_(mean.mul_(self.share if share is None else share))


def refuse_shards(problem: Problem, name: str) -> None:
    """Refuse shards that autograd takes for unused, under ``fully_shard`` or an old torch: products would be wrong, without a word."""
    if fsdp_modules(problem.modules):
        raise BadArgument(
            f"the model is under fully_shard, whose shards {name} cannot differentiate twice; use "
            f"hessian.operators.unsharded.Unsharded{name}, or, where whole parameters do not fit, FiniteDifferenceOperator; "
            "hessian.stable_lr chooses by itself."
        )
    if not differentiates_twice(problem.parameters.values()):
        raise too_old("a model under tensor parallelism")


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
