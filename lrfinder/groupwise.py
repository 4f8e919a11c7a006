"""Each param group swept alone, the others at LR zero: which of them breaks the training first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hessian.errors import BadArgument
from hessian.groups import Group, lr_ratios
from hessian.problem import Problem
from hessian.snapshot import Snapshot
from lrfinder.curve import LRCurve
from lrfinder.progress import Progress
from lrfinder.ramp import Ramp
from lrfinder.scoring import Scores, readout_for, run
from lrfinder.steps import Recorded, Steps, SweepSettings


@dataclass(frozen=True)
class Alone:
    """One group's sweep.

    Attributes:
        index: Of the group.
        name: Its ``"name"``, where it has one.
        ratio: Its base LR over the largest.
        settings: The joint sweep's, over the group's own LRs.
    """

    index: int
    name: str
    ratio: float
    settings: SweepSettings


def groups_alone(problem: Problem, settings: SweepSettings) -> tuple[list[Alone], list[int]]:
    """The groups to sweep, and the numbers of those whose LR is zero or that are frozen.

    Raises:
        BadArgument: If there are not two to compare.
    """
    groups, ratios = problem.optimizer.param_groups, lr_ratios(problem.optimizer)
    moving = [index for index, group in enumerate(groups) if ratios[index] > 0 and can_move(group, problem)]
    left_out = [index for index in range(len(groups)) if index not in moving]
    if len(moving) < 2:
        found = f"{len(groups)} param group{'s' * (len(groups) > 1)}" + (f", of which {len(moving)} can move" if left_out else "")
        raise BadArgument(
            f"per_group compares param groups, but the optimizer has {found}; give each part of the model its own, or leave per_group out."
        )
    return [Alone(index, name_of(groups[index]), ratios[index], share_of(settings, ratios[index], index)) for index in moving], left_out


def can_move(group: Group, problem: Problem) -> bool:
    """Whether a step may change the group; a step of the user's own may unfreeze it."""
    return problem.recipe.step_fn is not None or any(parameter.requires_grad for parameter in group["params"])


def name_of(group: Group) -> str:
    """What the user calls it."""
    return str(group.get("name", ""))


def share_of(settings: SweepSettings, ratio: float, index: int) -> SweepSettings:
    """The same sweep over the LRs that the group has in it."""
    ramp = settings.ramp
    return replace(settings, ramp=Ramp(ramp.start_lr * ratio, ramp.end_lr * ratio, ramp.num_iter, ramp.mode), label=f"group {index} alone")


def sweep_groups(
    problem: Problem,
    start: Snapshot,
    plan: tuple[Sequence[Alone], Sequence[int]],
    joint: LRCurve,
    progress: Progress,
    recorded: Recorded,
    scores: Scores,
) -> LRCurve:
    """The joint curve with the sweep of each group, inside ``preserved``; cut short, with those that there are."""
    alone, left_out = plan
    for group in alone:
        ratios = [float(index == group.index) for index in everyone(problem)]
        steps = Steps([problem.optimizer], group.settings, ratios=ratios, readout=readout_for(problem, scores))
        try:
            start.restore()
            run(problem, steps, progress, scores)
        finally:
            joint = replace(joint, groups=(*joint.groups, curve_of(group, steps, joint)), left_out=tuple(left_out))
            recorded.add(joint)
    return joint


def everyone(problem: Problem) -> range:
    """Numbers of all groups."""
    return range(len(problem.optimizer.param_groups))


def curve_of(group: Alone, steps: Steps, joint: LRCurve) -> LRCurve:
    """What was recorded of one group, under the circumstances of the joint sweep."""
    shared: dict[str, Any] = {
        name: getattr(joint, name) for name in ("batch_size", "samples", "model", "optimizer", "recipe", "scored_on", "metric_name")
    }
    return steps.curve(group=group.index, group_name=group.name, ratio=group.ratio, **shared)
