"""Each param group swept alone, the others at LR zero: which of them breaks the training first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hessian.errors import BadArgument
from hessian.groups import lr_ratios
from hessian.problem import Problem
from hessian.snapshot import Snapshot
from lrfinder.curve import LRCurve
from lrfinder.progress import Progress
from lrfinder.scoring import Scores, readout_for, run
from lrfinder.steps import Recorded, Steps, SweepSettings


@dataclass(frozen=True)
class Alone:
    """One group's sweep."""

    index: int
    name: str
    ratio: float  # its base LR over the largest
    settings: SweepSettings  # the joint sweep's, over the group's own LRs


def groups_alone(problem: Problem, settings: SweepSettings) -> tuple[list[Alone], list[int]]:
    """The groups to sweep, at least two, and the numbers of those whose LR is zero or that are frozen."""
    groups, ratios = problem.optimizer.param_groups, lr_ratios(problem.optimizer)
    own_step = problem.recipe.step_fn is not None  # which may unfreeze a group
    free = [own_step or any(parameter.requires_grad for parameter in group["params"]) for group in groups]
    moving = [index for index, ratio in enumerate(ratios) if ratio > 0 and free[index]]
    left_out = [index for index in range(len(groups)) if index not in moving]
    if len(moving) < 2:
        found = f"{len(groups)} param group{'s' * (len(groups) > 1)}" + (f", of which {len(moving)} can move" if left_out else "")
        raise BadArgument(
            f"per_group compares param groups, but the optimizer has {found}; give each part of the model its own, or leave per_group out."
        )
    names = [str(group.get("name", "")) for group in groups]
    return [Alone(index, names[index], ratios[index], share_of(settings, ratios[index], index)) for index in moving], left_out


def share_of(settings: SweepSettings, ratio: float, index: int) -> SweepSettings:
    """The same sweep over the LRs that the group has in it."""
    ramp = replace(settings.ramp, start_lr=settings.ramp.start_lr * ratio, end_lr=settings.ramp.end_lr * ratio)
    return replace(settings, ramp=ramp, label=f"group {index} alone")


def sweep_groups(
    problem: Problem,
    start: Snapshot,
    plan: tuple[Sequence[Alone], Sequence[int]],
    joint: LRCurve,
    progress: Progress,
    recorded: Recorded,
    scores: Scores,
) -> LRCurve:
    """The joint curve with each group's, inside ``preserved``; cut short, with those that there are."""
    alone, left_out = plan
    for group in alone:
        ratios = [float(index == group.index) for index in range(len(problem.optimizer.param_groups))]
        steps = Steps([problem.optimizer], group.settings, ratios=ratios, readout=readout_for(problem, scores))
        try:
            start.restore()
            run(problem, steps, progress, scores)
        finally:
            joint = replace(joint, groups=(*joint.groups, curve_of(group, steps, joint)), left_out=tuple(left_out))
            recorded.add(joint)
    return joint


def curve_of(group: Alone, steps: Steps, joint: LRCurve) -> LRCurve:
    """What was recorded of one group, under the circumstances of the joint sweep."""
    names = ("batch_size", "samples", "model", "optimizer", "recipe", "scored_on", "metric_name")
    shared: dict[str, Any] = {name: getattr(joint, name) for name in names}
    return steps.curve(group=group.index, group_name=group.name, ratio=group.ratio, **shared)
