"""Super-convergence (Smith and Topin 2017): 1cycle to a large learning rate against the piecewise schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from common.figures import end, panels
from common.jobs import COMPARED, TUNING, Jobs, jobs
from common.report import Claim, Reproduction, of_pairs
from common.secant import draw_course, draw_echo, echo_claim, estimates
from common.statistics import Pairs, at_least_as_good, larger, paired, spread
from common.training import Training, piecewise
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lrfinder

STEPS = 1200  # of the piecewise schedule
GRID, PEAKS = (0.1, 0.2, 0.4, 0.8, 1.6), (0.2, 0.4, 0.8, 1.6, 3.2)
LABELS = (1.0, 0.25, 0.1)
MORE = {"dropout": {"dropout": 0.3}, "weight decay": {"weight_decay": 5e-3}}  # instead of none and 5e-4
ECHO = (0.01, 0.03, 0.1, 0.3)  # training LRs of the Hessian-free estimate
ECHO_SEEDS, ECHO_STEPS = 5, 180
one_cycle = partial(lrfinder.one_cycle, three_phase=True, anneal="linear")
PLAN = Training(data="mnist1d", net="resnet", steps=STEPS, seeds=TUNING, lr=1.0, schedule=piecewise)
QUICK = replace(PLAN, data="digits", net="image_conv", steps=160, seeds=TUNING[:1])


def measure(short: bool) -> dict[str, Any]:
    """Both learning rates by brute force for every number of labels, and that of 1cycle by ``find_lr``; then all with other seeds."""
    plan, seeds = (QUICK, COMPARED[:2]) if short else (PLAN, COMPARED[:6])
    plans = {str(share): replace(plan, labels=share) for share in LABELS[:: 2 if short else 1]}
    more = dict(list(MORE.items())[-1 if short else 0 :])
    with jobs(short) as work:
        tuned = brute_force(work, plans, *(((0.1,), (0.23,)) if short else (GRID, PEAKS)))
        found = work.suggested({share: quarter(plan) for share, plan in plans.items()}, "onecycle", "quick" if short else "standard")
        pairs = {share: pair(replace(plan, seeds=seeds), tuned[share]) for share, plan in plans.items()}
        again = {name: {key: replace(each, **settings) for key, each in pairs["1.0"].items()} for name, settings in more.items()}
        finals = ends(work, {**{share: {**mine, **controls(mine, found[share]["lr"])} for share, mine in pairs.items()}, **again})
        return {
            "labels": {share: {**tuned[share], "found": found[share], "steps": plan.steps, "final": finals[share]} for share in plans},
            "more": {name: {"settings": settings, "final": finals[name]} for name, settings in more.items()},
            "echo": echo(work, plan, short),
        }


def brute_force(work: Jobs, plans: dict[str, Training], grid: Sequence[float], peaks: Sequence[float]) -> dict[str, Any]:
    """The best of the grid for either schedule."""
    cycles = {f"{share}, 1cycle": replace(quarter(plan), schedule=one_cycle) for share, plan in plans.items()}
    found = work.tuned_side_by_side({**plans, **cycles}, {**dict.fromkeys(plans, grid), **dict.fromkeys(cycles, peaks)})
    return {share: {"piecewise": found[share], "1cycle": found[f"{share}, 1cycle"]} for share in plans}


def quarter(plan: Training) -> Training:
    return replace(plan, steps=plan.steps // 4)


def pair(plan: Training, tuned: dict[str, Any]) -> dict[str, Training]:
    """The piecewise schedule, and 1cycle in a quarter of its iterations."""
    cycle = replace(quarter(plan), lr=tuned["1cycle"]["lr"], schedule=one_cycle)
    return {"piecewise": replace(plan, lr=tuned["piecewise"]["lr"]), "1cycle": cycle}


def controls(plans: dict[str, Training], found: float) -> dict[str, Training]:
    """The piecewise schedule in as few iterations, and 1cycle to what ``find_lr`` suggests."""
    return {"piecewise, 1/4": quarter(plans["piecewise"]), "find_lr": replace(plans["1cycle"], lr=found)}


def ends(work: Jobs, plans: dict[str, dict[str, Training]]) -> dict[str, dict[str, list[float]]]:
    """The last accuracies."""
    return {task: {name: curve.final for name, curve in curves.items()} for task, curves in work.train(plans).items()}


def echo(work: Jobs, plan: Training, short: bool) -> dict[str, Any]:
    """The Hessian-free estimate along trainings at several LRs; one curve of each seed."""
    seeds, steps = COMPARED[: 1 if short else ECHO_SEEDS], 36 if short else ECHO_STEPS
    plans = [replace(plan, seeds=(seed,), lr=lr, steps=steps) for lr in ECHO for seed in seeds]
    curves = iter(work.run([partial(estimates, plan, 2 if short else 4) for plan in plans]))
    return {str(lr): [next(curves) for _ in seeds] for lr in ECHO}


def claims(data: dict[str, Any]) -> list[Claim]:
    labels = {float(share): found for share, found in data["labels"].items()}
    return [
        *(share_claim(share, found) for share, found in labels.items()),
        margin_claim(data["labels"]),
        *(less_claim(name, data) for name in data["more"]),
        *(suggested(share, found) for share, found in labels.items()),
        echo_claim(data["echo"]),
    ]


def share_claim(share: float, found: dict[str, Any]) -> Claim:
    final, steps = found["final"], found["steps"]
    pairs = margin(found)
    return of_pairs(
        pairs,
        at_least_as_good,
        claim=f"1cycle is as good or better in a quarter of the iterations, with {share:.0%} of the labels",
        paper="better in an eighth of the iterations (CIFAR-10, ResNet-56)",
        ours=f"1cycle to {found['1cycle']['lr']:.2g}: {spread(final['1cycle'])} % in {steps // 4:,} iterations; piecewise from "
        f"{found['piecewise']['lr']:.2g}: {spread(final['piecewise'])} % in {steps:,}, {spread(final['piecewise, 1/4'])} % in "
        f"{steps // 4:,}. Pairs: {pairs}",
    )


def suggested(share: float, found: dict[str, Any]) -> Claim:
    """1cycle to what ``find_lr`` suggests beside 1cycle to the best peak."""
    final = found["final"]
    pairs = paired(final["find_lr"], final["1cycle"])
    lowest, highest = min(found["found"]["each"]), max(found["found"]["each"])
    return of_pairs(
        pairs,
        at_least_as_good,
        claim=f"The suggestion of `find_lr` serves 1cycle as well as the best peak, with {share:.0%} of the labels",
        paper="not in the paper; lrfinder's own",
        ours=f"1cycle to {found['found']['lr']:.2g} (three seeds: {lowest:.2g} to {highest:.2g}): {spread(final['find_lr'])} %; to "
        f"{found['1cycle']['lr']:.2g}: {spread(final['1cycle'])} %. Pairs: {pairs}",
    )


def margin(found: dict[str, Any]) -> Pairs:
    """Of 1cycle over four times as many iterations of the piecewise schedule."""
    return paired(found["final"]["1cycle"], found["final"]["piecewise"])


def margin_claim(shares: dict[str, Any]) -> Claim:
    margins = {share: margin(found).differences for share, found in shares.items()}
    pairs = paired(margins[min(shares, key=float)], margins["1.0"])
    each = ", ".join(f"{spread(values, signed=True)} with {float(share):.0%}" for share, values in margins.items())
    return of_pairs(
        pairs,
        larger,
        claim="The margin grows as labels get fewer",
        paper="larger with 10,000 to 40,000 samples than with 50,000",
        ours=f"{each} of the labels. Fewest against all: {pairs}",
    )


def less_claim(name: str, data: dict[str, Any]) -> Claim:
    """What more regularization does to one schedule beside what it does to the other."""
    base, more = data["labels"]["1.0"]["final"], data["more"][name]["final"]
    gains = {schedule: paired(more[schedule], base[schedule]).differences for schedule in more}
    pairs = paired(gains["piecewise"], gains["1cycle"])
    ((setting, value),) = data["more"][name]["settings"].items()
    return of_pairs(
        pairs,
        larger,
        claim=f"1cycle wants less other regularization: {name}",
        paper="all other regularization has to be reduced",
        ours=f"`{setting}={value:g}` gives {spread(gains['1cycle'], signed=True)} with 1cycle and "
        f"{spread(gains['piecewise'], signed=True)} with the piecewise schedule. Pairs: {pairs}",
    )


def draw(data: dict[str, Any]) -> Figure:
    figure, axes = panels(3)
    draw_labels(axes[0], data["labels"])
    draw_course(axes[1], data["echo"])
    draw_echo(axes[2], data["echo"])
    return figure


def draw_labels(ax: Axes, shares: dict[str, Any]) -> None:
    styles = {"piecewise": ("C7", -0.15), "1cycle": ("C0", -0.05), "piecewise, 1/4": ("C1", 0.05), "find_lr": ("C2", 0.15)}
    labels = {"1cycle": "1cycle, 1/4", "find_lr": "1cycle from find_lr, 1/4"}
    for name, (color, aside) in styles.items():
        for place, found in enumerate(shares.values()):
            end(ax, place + aside, found["final"][name], color)
        ax.plot([], [], color=color, marker="o", label=labels.get(name, name))
    ax.set_xticks(range(len(shares)), [f"{float(share):.0%}" for share in shares])
    ax.set(xlabel="labels", ylabel="validation accuracy (%)", title="accuracy at the end")
    ax.legend(fontsize=8, loc="lower left")


REPRODUCTION = Reproduction(
    name="super_convergence",
    paper="Smith and Topin 2017, arXiv:1708.07120",
    title="Super-convergence",
    setting="A residual convolutional net with BatchNorm (without scale and shift) on MNIST-1D; SGD with Nesterov momentum 0.9, weight "
    "decay 0.0005, batches of 64. The piecewise schedule divides by ten after a half and after three quarters; for every number of labels "
    "its learning rate is the best of a grid with factor 2, and so is the peak of 1cycle, which is `lrfinder.one_cycle(optimizer, lr, "
    'steps, three_phase=True, anneal="linear")` in a quarter of the iterations; it is trained once more to the median of three `find_lr`. '
    "The estimate is made along plain SGD at constant learning rates; the true limit there is that of `hessian.stable_lr`.",
    measure=measure,
    claims=claims,
    draw=draw,
)

if __name__ == "__main__":
    REPRODUCTION.main()
