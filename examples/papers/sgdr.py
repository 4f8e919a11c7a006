"""Warm restarts (Loshchilov and Hutter 2017) against the step schedule, by epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from common.data import DATA
from common.figures import band, panels
from common.jobs import COMPARED, TUNING, jobs
from common.report import Claim, Reproduction, of_pairs
from common.statistics import Pairs, at_least_as_good, paired, spread
from common.training import Training, piecewise
from matplotlib.figure import Figure

import lrfinder

EPOCHS = 62  # of the step schedule; the paper has 200
step_schedule = partial(piecewise, drops=(0.3, 0.6, 0.8), factor=0.2)  # the paper's: at 60, 120 and 160 of 200 epochs
SETTLED = 10  # checks, after which the figure shows everything
SUGGESTED = "T_0=1, find_lr"
ENDS = {"T_0=1": (1, 3, 7, 15, 31), "T_0=10": (10, 30)}  # epochs with which a cycle ends, T_mult=2


@dataclass(frozen=True)
class Task:
    """What is trained, and the learning rates that are tried for the step schedule."""

    net: str
    grid: tuple[float, ...]
    batch: int = 64


TASKS = {
    "digits": Task("image_conv", (0.025, 0.05, 0.1, 0.2, 0.4)),
    "mnist1d": Task("conv", (0.0125, 0.025, 0.05, 0.1, 0.2)),
}
SHORT = {"digits": Task("image_conv", (0.1,), batch=256)}
WHERE = {"mnist1d": "MNIST-1D", "digits": "digits"}


def measure(short: bool) -> dict[str, Any]:
    """The step schedule's learning rate by brute force, and another by ``find_lr``; then all of them with other seeds."""
    tasks, last = SHORT if short else TASKS, max(ENDS["T_0=1"])
    epochs = {name: len(DATA[name]().inputs) // task.batch for name, task in tasks.items()}
    plans = {name: baseline(name, task, epochs[name], TUNING[: 1 if short else 3]) for name, task in tasks.items()}
    shorter = {name: replace(plan, steps=last * epochs[name]) for name, plan in plans.items()}
    with jobs(short) as work:
        tuned = work.tuned(plans, {name: task.grid for name, task in tasks.items()})
        found = work.suggested(shorter, "cosine", "quick" if short else "standard")
        seeds = COMPARED[: 2 if short else None]
        curves = work.train(
            {name: compared(replace(plans[name], seeds=seeds), epochs[name], tuned[name]["lr"], found[name]["lr"]) for name in tasks}
        )
    return {
        name: {
            "epoch": epochs[name],
            "step": tuned[name],
            "found": found[name],
            "curves": {key: curve._asdict() for key, curve in curves[name].items()},
        }
        for name in tasks
    }


def baseline(name: str, task: Task, epoch: int, seeds: tuple[int, ...]) -> Training:
    """The step schedule."""
    return Training(data=name, net=task.net, batch=task.batch, steps=EPOCHS * epoch, seeds=seeds, lr=1.0, schedule=step_schedule)


def compared(plan: Training, epoch: int, tuned: float, found: float) -> dict[str, Training]:
    """The restarts get the learning rate of the step schedule, as in the paper; those of T_0=1 once more what ``find_lr`` suggests."""
    plan = replace(plan, lr=tuned, checks=checks(epoch))
    plans = {"step": plan}
    for key, ends in ENDS.items():
        restarts = partial(lrfinder.sgdr, T_0=ends[0] * epoch, T_mult=2)
        plans[key] = replace(plan, steps=max(ends) * epoch, schedule=restarts)
    return {**plans, SUGGESTED: replace(plans["T_0=1"], lr=found)}


def checks(epoch: int) -> tuple[int, ...]:
    """After the epochs that end a cycle, and between them often enough for a curve."""
    return tuple(epoch * number for number in sorted({*range(1, 10), *range(10, EPOCHS, 2), *sum(ENDS.values(), ())}))


def claims(data: dict[str, Any]) -> list[Claim]:
    return [claim for name, found in data.items() for claim in task_claims(WHERE[name], found)]


def task_claims(where: str, found: dict[str, Any]) -> list[Claim]:
    cases = (("T_0=1", 31, "half"), ("T_0=1", 15, "a quarter"), ("T_0=10", 30, "half"))
    return [*(fewer_epochs(where, found, *case) for case in cases), anytime(where, found), suggested(where, found)]


def fewer_epochs(where: str, found: dict[str, Any], schedule: str, epochs: int, share: str) -> Claim:
    """The restarts after so many epochs beside the step schedule's end."""
    restarts, step, control = after(found, schedule, epochs), found["curves"]["step"]["accuracy"][-1], after(found, "step", epochs)
    pairs = paired(restarts, step)
    return of_pairs(
        pairs,
        at_least_as_good,
        claim=f"{schedule}, T_mult=2 reaches the accuracy of the step schedule in {share} of its epochs ({where})",
        paper="comparable or better accuracy in half to a quarter of the epochs (CIFAR-10 and CIFAR-100, wide residual nets)",
        ours=f"{spread(restarts)} % after {epochs} epochs; step schedule: {spread(step)} % after {EPOCHS}, {spread(control)} % after "
        f"{epochs}; both from {found['step']['lr']:.3g}. Pairs: {pairs}",
    )


def anytime(where: str, found: dict[str, Any]) -> Claim:
    """The ends of cycles beside the step schedule at the same time."""
    pairs = {epochs: at(found, epochs) for epochs in ENDS["T_0=1"]}
    each = ", ".join(f"{pair.median:+.1f} after {epochs}" for epochs, pair in pairs.items())
    return Claim(
        claim=f"Anytime: whenever a cycle of T_0=1, T_mult=2 ends, it is ahead of the step schedule ({where})",
        paper="a figure: ahead at the end of most cycles, until the step schedule's late drops",
        figure=f"worst {min(pair.median for pair in pairs.values()):+.1f} points",
        ours=f"medians of pairs: {each} epochs",
        held=at_least_as_good(*pairs.values()),
        seeds=len(pairs[1].differences),
    )


def suggested(where: str, found: dict[str, Any]) -> Claim:
    """Restarts from what ``find_lr`` suggests beside restarts from the best learning rate of the step schedule."""
    epochs = max(ENDS["T_0=1"])
    ours, tuned = after(found, SUGGESTED, epochs), after(found, "T_0=1", epochs)
    pairs = paired(ours, tuned)
    return of_pairs(
        pairs,
        at_least_as_good,
        claim=f"The suggestion of `find_lr` serves restarts as well as the step schedule's best learning rate ({where})",
        paper="not in the paper; lrfinder's own",
        ours=f"T_0=1, T_mult=2 from {found['found']['lr']:.3g}: {spread(ours)} % after {epochs} epochs; from {found['step']['lr']:.3g}: "
        f"{spread(tuned)} %. Pairs: {pairs}",
    )


def at(found: dict[str, Any], epochs: int) -> Pairs:
    return paired(after(found, "T_0=1", epochs), after(found, "step", epochs))


def after(found: dict[str, Any], schedule: str, epochs: int) -> list[float]:
    """Accuracy after so many epochs, one of each seed."""
    curve = found["curves"][schedule]
    accuracy: list[float] = curve["accuracy"][curve["steps"].index(epochs * found["epoch"])]
    return accuracy


def draw(data: dict[str, Any]) -> Figure:
    figure, axes = panels(len(data))
    for ax, (name, found) in zip(axes, data.items(), strict=True):
        for key, color, label in (
            ("step", "C7", "step schedule"),
            (SUGGESTED, "C2", "T_0=1 from find_lr"),
            ("T_0=10", "C1", "T_0=10, T_mult=2"),
            ("T_0=1", "C0", "T_0=1, T_mult=2"),
        ):
            curve = found["curves"][key]
            epochs = [step / found["epoch"] for step in curve["steps"]]
            ends = [epochs.index(number) for number in ENDS.get(key.split(",")[0], ())]
            band(ax, epochs, curve["accuracy"], color, label, marker="o", markevery=ends, markersize=5)
        late = [np.median(row) for curve in found["curves"].values() for row in curve["accuracy"][SETTLED:]]
        ax.set(title=WHERE[name], xlabel="epochs", ylabel="validation accuracy (%)", xscale="log", ylim=(min(late) - 10, max(late) + 4))
        ax.set_xticks(marks := sorted({*ENDS["T_0=1"], EPOCHS}), map(str, marks))
        ax.minorticks_off()
        ax.legend(fontsize=8)
    return figure


REPRODUCTION = Reproduction(
    name="sgdr",
    paper="Loshchilov and Hutter 2017, arXiv:1608.03983",
    title="Warm restarts",
    setting="Small convolutional nets without normalization on scikit-learn's digits and on MNIST-1D; SGD with Nesterov momentum 0.9, "
    "weight decay 0.0005, batches of 64. The step schedule has the paper's drops (times 0.2 at 30, 60 and 80 % of the training) and the "
    "best learning rate of a grid with factor 2. The restarts are `lrfinder.sgdr(optimizer, lr, steps, T_0=..., T_mult=2)` from the same "
    "learning rate, as in the paper, and once more from the median of three `find_lr`. The dots are the ends of cycles.",
    measure=measure,
    claims=claims,
    draw=draw,
)

if __name__ == "__main__":
    REPRODUCTION.main()
