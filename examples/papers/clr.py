"""Cyclical learning rates (Smith 2017): triangular2 against the best fixed learning rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from common.figures import band, end, panels
from common.jobs import COMPARED, TUNING, jobs
from common.report import Claim, Reproduction, of_pairs
from common.statistics import at_least_as_good, larger, paired, spread
from common.training import Training, constant
from matplotlib.figure import Figure
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler

import lrfinder

PAPER = 25 / 70  # the iterations of triangular2 over those of the fixed learning rate, in the paper
triangular2 = partial(lrfinder.clr, mode="triangular2")


def decay(optimizer: Optimizer, lr: float, steps: int) -> LRScheduler:
    """The paper's control: down from the peak to the base of the cycles in one straight line, once."""
    return LinearLR(optimizer, 1.0, 1 / 4, steps)


@dataclass(frozen=True)
class Task:
    """What is trained and for how long, and the fixed learning rates that are tried."""

    net: str
    batch: int
    grid: tuple[float, ...]
    steps: int = 2000


TASKS = {
    "mnist1d": Task("conv", 64, (0.0125, 0.025, 0.05, 0.1), steps=3000),
    "text": Task("characters", 128, (0.05, 0.1, 0.2, 0.4)),
}
SHORT = {"digits": Task("image_conv", 64, (0.0125, 0.05, 0.2), steps=200)}


def measure(short: bool) -> dict[str, Any]:
    """The fixed learning rate by brute force, that of the cycles by ``find_lr``; then all of them with other seeds."""
    tasks = SHORT if short else TASKS
    plans = {name: baseline(name, task, TUNING[: 1 if short else 3]) for name, task in tasks.items()}
    halves = {name: replace(plan, steps=plan.steps // 2) for name, plan in plans.items()}
    with jobs(short) as work:
        fixed = work.tuned(plans, {name: task.grid for name, task in tasks.items()})
        found = work.suggested(halves, "onecycle", "quick" if short else "standard")
        seeds = COMPARED[: 2 if short else 6]
        curves = work.train({name: compared(replace(plans[name], seeds=seeds), fixed[name]["lr"], found[name]["lr"]) for name in tasks})
    return {
        name: {"fixed": fixed[name], "found": found[name], "curves": {key: curve._asdict() for key, curve in curves[name].items()}}
        for name in tasks
    }


def baseline(name: str, task: Task, seeds: tuple[int, ...]) -> Training:
    return Training(data=name, net=task.net, batch=task.batch, steps=task.steps, seeds=seeds, lr=1.0, schedule=constant)


def compared(plan: Training, fixed: float, found: float) -> dict[str, Training]:
    """The fixed learning rate for all iterations, cycles and one fall for fewer."""
    steps, half = plan.steps, plan.steps // 2
    plan = replace(plan, lr=found, checks=tuple(range(steps // 20, steps, steps // 20)))
    return {
        "fixed": replace(plan, lr=fixed),
        "half": replace(plan, steps=half, schedule=triangular2),
        "paper": replace(plan, steps=round(PAPER * steps), schedule=triangular2, checks=()),
        "decay": replace(plan, steps=half, schedule=decay),
    }


def claims(data: dict[str, Any]) -> list[Claim]:
    return [claim for name, found in data.items() for claim in task_claims(WHERE[name], found)]


WHERE = {"mnist1d": "MNIST-1D", "text": "text", "digits": "digits"}


def task_claims(where: str, found: dict[str, Any]) -> list[Claim]:
    curves = found["curves"]
    finals = {name: curve["accuracy"][-1] for name, curve in curves.items()}
    lengths = {name: curve["steps"][-1] for name, curve in curves.items()}
    half = curves["fixed"]["accuracy"][curves["fixed"]["steps"].index(lengths["half"])]
    fixed = f"fixed at {found['fixed']['lr']:.3g}: {spread(finals['fixed'])} % in {lengths['fixed']:,}"
    rows = []
    for name, share, control in (("half", "half", f", {spread(half)} % in {lengths['half']:,}"), ("paper", "25/70", "")):
        pairs = paired(finals[name], finals["fixed"])
        rows.append(
            of_pairs(
                pairs,
                at_least_as_good,
                claim=f"triangular2 reaches the accuracy of the fixed learning rate in {share} of the iterations ({where})",
                paper="the same accuracy in 25,000 iterations instead of 70,000 (CIFAR-10)",
                ours=f"up to {found['found']['lr']:.3g}: {spread(finals[name])} % in {lengths[name]:,} iterations; {fixed}{control}. "
                f"Pairs: {pairs}",
            )
        )
    pairs = paired(finals["half"], finals["decay"])
    rows.append(
        of_pairs(
            pairs,
            larger,
            claim=f"It is the cycles: falling once from their top to their bottom does worse ({where})",
            paper="worse than with cycles after the same 25,000 iterations",
            ours=f"cycles {spread(finals['half'])} %, one fall {spread(finals['decay'])} %. Pairs: {pairs}",
        )
    )
    return rows


def draw(data: dict[str, Any]) -> Figure:
    figure, axes = panels(len(data))
    for ax, (name, found) in zip(axes, data.items(), strict=True):
        curves = found["curves"]
        for key, color, label in (("fixed", "C7", "fixed"), ("decay", "C1", "one fall"), ("half", "C0", "triangular2")):
            band(ax, curves[key]["steps"], curves[key]["accuracy"], color, label)
            end(ax, curves[key]["steps"][-1], curves[key]["accuracy"][-1], color)
        end(ax, curves["paper"]["steps"][-1], curves["paper"]["accuracy"][-1], "C0")
        best = max(max(row) for row in curves["fixed"]["accuracy"])
        ax.set(title=WHERE[name], xlabel="iterations", ylabel="validation accuracy (%)", ylim=(best - 25, best + 4))
        ax.legend(loc="lower right")
    return figure


REPRODUCTION = Reproduction(
    name="clr",
    paper="Smith 2017, arXiv:1506.01186",
    title="Cyclical learning rates",
    setting="A convolutional net without normalization on MNIST-1D and a fully connected net that predicts the next character of Python's "
    "standard library; SGD with Nesterov momentum 0.9, weight decay 0.0005. The fixed learning rate is the best of a grid with factor 2, "
    'at its full length. The cycles are `lrfinder.clr(optimizer, lr, steps, mode="triangular2")` up to the median of three `find_lr`. '
    "The dots are the ends of trainings; those of triangular2 stand at half and at 25/70 of the iterations.",
    measure=measure,
    claims=claims,
    draw=draw,
)

if __name__ == "__main__":
    REPRODUCTION.main()
