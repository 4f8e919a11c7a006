"""The edge of stability (Cohen et al. 2021, 2022): sharpness climbs to the optimizer's limit and stays; catapults; small batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from common.edge_figure import COLORS, chosen, draw
from common.jobs import jobs
from common.report import Claim, Reproduction
from common.stability import OPTIMIZERS, Pair, batches_of, limit_at_start, mlp, of, samples, seeds, squared_error
from common.statistics import quartiles, spread, within
from torch import nn

import hessian

SAMPLES = 500
READINGS = 40  # of the sharpness in each training
LAST = 1 / 3  # of the readings: where the sharpness ended up
SAMPLED = 8  # batches that batch sharpness is averaged over
NEAR = 0.10  # of the limit: "hovers"
ARRIVED = 0.95  # of the limit


class Job(NamedTuple):
    """One training: ``start`` is the LR over the limit at step 0 where it is chosen so, else ``lr``; ``batch`` None for all samples."""

    kind: str
    data: str
    optimizer: str
    lr: float
    steps: int
    seed: int
    batch: int | None = None
    start: float = 0.0


STARTS = {"gd": (0.5, 0.75), "momentum": (0.1, 0.25, 0.5)}  # of the limit at step 0
STEPS = {"gd": 1200, "momentum": 800, "adam": 1200}
ADAM = (1e-3, 3e-3)  # torch's default, and three times that: Adam's limit at step 0 is not that of its later, smaller preconditioner
BATCH_STEPS = {16: 6000, 128: 2000}
FULL = [
    *(
        Job("full", data, optimizer, 0.0, STEPS[optimizer], 0, start=start)
        for data in COLORS
        for optimizer in ("gd", "momentum")
        for start in STARTS[optimizer]
    ),
    *(Job("full", data, "adam", lr, STEPS["adam"], 0) for data in COLORS for lr in ADAM),
]
BATCHES = [
    Job("batches", data, "gd", 0.0, steps, 0, batch=size, start=STARTS["gd"][0]) for data in COLORS for size, steps in BATCH_STEPS.items()
]
CATAPULTS = [Job("catapult", data, "gd", 0.0, 50, 0, start=start) for data in COLORS for start in (0.8, 1.5, 2.0, 3.0)]
SHORT = [
    Job("full", "mnist1d", "gd", 0.4, 400, 0),
    Job("full", "mnist1d", "momentum", 0.2, 300, 0),
    Job("full", "mnist1d", "adam", 3e-3, 300, 0),
    Job("batches", "mnist1d", "gd", 0.4, 400, 0, batch=16),
    *(Job("catapult", "digits", "gd", 0.0, 40, 0, start=start) for start in (0.8, 2.0)),
]


def train(job: Job) -> dict[str, Any]:
    """Train, and read the sharpness of the whole data set against the limit on the way."""
    logging.getLogger("hessian").setLevel(logging.ERROR)  # the monitor's advice: these trainings are at their limit on purpose
    whole = samples(job.data, SAMPLES)
    torch.manual_seed(job.seed)
    hidden, kind = ([128], nn.ReLU) if job.kind == "catapult" else ([64, 64], nn.Tanh)
    model = mlp(whole[0].shape[1], hidden, 10, kind)
    optimizer = OPTIMIZERS[job.optimizer](model.parameters(), job.lr or job.start * limit_at_start(model, whole, job.optimizer))
    every = 1 if job.kind == "catapult" else max(20, job.steps // READINGS)
    monitor = hessian.SharpnessMonitor(model, optimizer, squared_error, every=every)
    batches = repeat(whole, job.steps) if job.batch is None else batches_of(whole, job.batch, job.steps, job.seed)
    losses, batch_ratios = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = squared_error(model(batch[0]), batch[1])
        loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.step()
        if monitor.step(whole) is not None and job.batch is not None:
            batch_ratios.append(batch_ratio(model, optimizer, whole, job, monitor.steps))
    readings = monitor.readings
    return {
        **job._asdict(),
        "lr": float(f"{optimizer.param_groups[0]['lr']:.4g}"),
        "ratios": rounded(reading.ratio for reading in readings),
        "batch_ratios": rounded(batch_ratios),
        "reading_steps": [reading.step for reading in readings],
        **summary(job, losses, [reading.ratio for reading in readings], batch_ratios, every),
    }


def rounded(values: Iterable[float]) -> list[float]:
    """Four digits, enough for a curve."""
    return [float(f"{value:.4g}") for value in values]


def batch_ratio(model: nn.Module, optimizer: Any, whole: Pair, job: Job, step: int) -> float:
    """Batch sharpness over ``2 / lr``, on batches like those of the training."""
    batches = list(batches_of(whole, job.batch or SAMPLES, SAMPLED, 1000 * job.seed + step))
    operator = hessian.HessianOperator(hessian.Problem(model, optimizer, batches, squared_error), batches)
    return hessian.batch_sharpness(operator).value * optimizer.param_groups[0]["lr"] / 2


def summary(job: Job, losses: list[float], ratios: list[float], batch_ratios: list[float], every: int) -> dict[str, Any]:
    """The numbers that the claims are made of; infinite where the training diverged, None where there is none."""
    survived = len(losses) == job.steps and losses[-1] < losses[0]
    last = round(len(ratios) * (1 - LAST))
    found: dict[str, Any] = {
        "survived": survived,
        "reached": max(ratios, default=0.0) >= ARRIVED,
        "first": ratios[0] if ratios else None,
        "end": float(np.median(ratios[last:])) if survived else None,
        "batch_end": float(np.mean(batch_ratios[last:])) if survived and batch_ratios else None,
        "limit_rise": float((np.array(losses[1:]) / np.minimum.accumulate(losses)[:-1]).max()) if survived else None,
        "lowest": min(ratios) if survived else None,
        "loss_left": losses[-1] / losses[0] if survived else None,
    }
    arrived = next((index * every for index, ratio in enumerate(ratios, 1) if ratio >= ARRIVED), None)
    if survived and arrived is not None and arrived < job.steps:
        rises = np.diff(losses) > 0
        found |= {"rising_before": float(rises[: arrived - every].mean()) if arrived > every else None}
        found |= {"rising_after": float(rises[arrived:].mean()), "loss_since": losses[-1] / losses[arrived]}
    return found


def numbers(runs: Iterable[dict[str, Any]], name: str) -> list[float]:
    """One number of every run; infinite where the run diverged."""
    return [math.inf if run.get(name) is None else float(run[name]) for run in runs]


def hovering(runs: list[dict[str, Any]], optimizer: str, limit: str, source: str) -> Claim:
    """Whether full-batch training ends at its limit."""
    mine = of(runs, kind="full", optimizer=optimizer)
    ends, reached = numbers(mine, "end"), [run for run in mine if run["reached"]]
    near = sum(abs(end - 1) <= NEAR for end in ends)
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in mine:
        groups.setdefault(f"{run['data']}, {chosen(run)}", []).append(run)
    each = "; ".join(f"{name}: {ending(numbers(group, 'end'))}" for name, group in groups.items())
    return Claim(
        claim=f"{source}: in full-batch training the sharpness climbs to {limit} and hovers there",
        paper=f"just at or above {limit}, for every net and learning rate shown",
        figure=f"ends at {ending(ends)} of it; {near} of {len(ends)} trainings within 10 %",
        ours=f"sharpness over {limit}: {spread(numbers(mine, 'first'), 2)} at the first reading, {ending(ends)} over the last third of "
        f"training; of {len(mine)} trainings {len(reached)} reached {ARRIVED:.0%} of it, {near} end within 10 % ({each})",
        held=within(ends, 1 - NEAR, 1 + NEAR),
        seeds=seeds(mine),
    )


def ending(ratios: list[float]) -> str:
    return spread(ratios, 2).replace("inf", "diverged")


def falling_on(runs: list[dict[str, Any]]) -> Claim:
    """Whether the loss rises every other step at the edge, and falls all the same."""
    mine = [run for run in of(runs, kind="full", optimizer="gd") if run.get("loss_since") is not None]
    before = [run["rising_before"] for run in mine if run["rising_before"] is not None]
    after, since = numbers(mine, "rising_after"), numbers(mine, "loss_since")
    held = bool(before) and np.median(before) < 0.01 and np.median(after) > 0.1 and np.median(since) < 1
    rose = f"{percent(before) if before else 'none'} before the sharpness reached {ARRIVED:.0%} of 2/lr, {percent(after)} after"
    return Claim(
        claim="Cohen et al. 2021: at the edge of stability the loss of gradient descent goes up and down over short times, yet falls over "
        "long ones",
        paper="monotone before, non-monotone from then on, still decreasing",
        figure=f"rises on {np.median(after):.0%} of the steps, falls to {np.median(since):.2f} of what it was",
        ours=f"steps on which the loss rose: {rose}; the loss fell to {spread(since, 2)} of what it was then ({len(mine)} trainings)",
        held="yes" if held else "no",
        seeds=seeds(mine),
    )


def percent(values: list[float]) -> str:
    return f"{spread([100 * value for value in values])} %"


def catapulting(runs: list[dict[str, Any]]) -> Claim:
    """Whether a start above the limit ends below it."""
    above = [run for run in of(runs, kind="catapult") if run["start"] > 1]
    below = [run for run in of(runs, kind="catapult") if run["start"] < 1]
    jumped = [bool(run["survived"] and run["limit_rise"] > 1 and run["lowest"] < 1 and run["loss_left"] < 1) for run in above]
    rises, lowest, left = (numbers(above, name) for name in ("limit_rise", "lowest", "loss_left"))
    starts = ", ".join(f"{start:g}" for start in sorted({run["start"] for run in above}))
    share = sum(jumped) / len(jumped)
    return Claim(
        claim="Lewkowycz et al. 2020, seen again by Cohen et al. 2021: started above 2/sharpness at a moderate learning rate, the loss "
        "spikes, the sharpness falls below 2/lr, and training goes on (catapult)",
        paper="for learning rates from 2/sharpness to about 4/sharpness (more with ReLU)",
        figure=f"{sum(jumped)} of {len(jumped)} trainings",
        ours=f"started at {starts} times the limit, {sum(jumped)} of {len(jumped)} trainings did so: the loss rose to {spread(rises)} "
        f"times its lowest, lr x sharpness / 2 fell to {spread(lowest, 2)}, the loss to {spread(left, 2)} of that at the start; below the "
        f"limit, at 0.8, it never rose above {max(numbers(below, 'limit_rise')):.2f} times",
        held="yes" if share >= 0.9 else "partly" if share >= 0.5 else "no",
        seeds=seeds(above),
    )


def batches_stay_below(runs: list[dict[str, Any]]) -> Claim:
    """Whether small batches keep the sharpness of the whole data set below the limit."""
    groups = by_batch(runs)
    medians = [[quartiles(numbers(group, "end"))[1] for group in sizes.values()] for sizes in groups.values()]
    below = all(median < 1 for data in medians for median in data)
    ordered = all(data == sorted(data) for data in medians)
    return Claim(
        claim="Cohen et al. 2021: with mini-batches the sharpness of the whole data set stays below 2/lr, the further the smaller the "
        "batch",
        paper="it does not flatline at 2/lr; smaller batches, lower sharpness",
        figure=batch_figure(groups, "end"),
        ours=f"sharpness over 2/lr in the last third of training: {batch_table(groups, 'end')}",
        held="yes" if below and ordered else "partly" if below or ordered else "no",
        seeds=seeds(of(runs, kind="batches")),
    )


def batch_sharpness_hovers(runs: list[dict[str, Any]]) -> Claim:
    """Whether the curvature of batches along their own gradients settles at the limit."""
    groups = by_batch(runs)
    verdicts = {within(numbers(group, "batch_end"), 1 - NEAR, 1 + NEAR) for sizes in groups.values() for group in sizes.values()}
    return Claim(
        claim="Andreyev and Beneventano 2024 (arXiv:2412.20553): with mini-batches it is the batch sharpness that climbs to 2/lr and "
        "hovers there",
        paper="batch sharpness at 2/lr, for every batch size",
        figure=batch_figure(groups, "batch_end"),
        ours=f"batch sharpness over 2/lr in the last third of training: {batch_table(groups, 'batch_end')}",
        held="yes" if verdicts == {"yes"} else "no" if verdicts == {"no"} else "partly",
        seeds=seeds(of(runs, kind="batches")),
    )


def by_batch(runs: list[dict[str, Any]]) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The mini-batch runs by data and, from small to large, by batch size."""
    mine = of(runs, kind="batches")
    sizes = sorted({run["batch"] for run in mine})
    return {data: {size: of(mine, data=data, batch=size) for size in sizes} for data in dict.fromkeys(run["data"] for run in mine)}


def batch_figure(groups: dict[str, dict[int, list[dict[str, Any]]]], name: str) -> str:
    """The medians alone."""
    sizes = ", ".join(str(size) for size in next(iter(groups.values())))
    each = (
        f"{data} " + ", ".join(f"{quartiles(numbers(group, name))[1]:.2f}" for group in found.values()) for data, found in groups.items()
    )
    return f"{'; '.join(each)} of it (batch {sizes})"


def batch_table(groups: dict[str, dict[int, list[dict[str, Any]]]], name: str) -> str:
    return "; ".join(
        f"{data}, batch {size}: {spread(numbers(group, name), 2)}" for data, found in groups.items() for size, group in found.items()
    )


def measure(short: bool) -> dict[str, Any]:
    plan = SHORT if short else [job._replace(seed=seed) for seed in range(5) for job in (*BATCHES, *FULL, *CATAPULTS)]
    with jobs(short) as work:
        return {"runs": work.run([partial(train, job) for job in plan])}


def claims(data: dict[str, Any]) -> list[Claim]:
    runs = data["runs"]
    return [
        hovering(runs, "gd", "2/lr", "Cohen et al. 2021"),
        hovering(runs, "momentum", "3.8/lr", "Cohen et al. 2021, momentum 0.9"),
        hovering(runs, "adam", "38/lr", "Cohen et al. 2022, Adam, preconditioned sharpness"),
        falling_on(runs),
        catapulting(runs),
        batches_stay_below(runs),
        batch_sharpness_hovers(runs),
    ]


REPRODUCTION = Reproduction(
    name="edge_of_stability",
    paper="Cohen et al. 2021, arXiv:2103.00065; Cohen et al. 2022, arXiv:2207.14484",
    title="The edge of stability",
    setting=f"{SAMPLES} digits of scikit-learn or signals of MNIST-1D, squared error; a tanh net with two hidden layers of 64, for "
    "catapults a ReLU net with one of 128, as torch initialises them. The learning rate of every net is a share of its "
    "own limit at step 0: a half and three quarters with gradient descent, a tenth, a quarter and a half with momentum, a half with "
    "mini-batches; Adam's is torch's default and three times that. All trainings count, also those that did not reach the limit in their "
    f"time. Sharpness is that of all samples, read by `hessian.SharpnessMonitor` {READINGS} times in a training (at every step of the "
    "catapults), over the limit that hessian knows for the optimizer. Seeds change the initial weights and the order of batches. Medians "
    "with quartiles; 'yes' where both quartiles are within 10 % of the limit, 'partly' where only the median is.",
    measure=measure,
    claims=claims,
    draw=draw,
)

if __name__ == "__main__":
    REPRODUCTION.main()
