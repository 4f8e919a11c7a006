"""The edge of stability (Cohen et al. 2021, 2022): sharpness climbs to the optimizer's limit and stays; catapults; small batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import stability
import torch
from matplotlib.figure import Figure
from torch import nn

import hessian

SAMPLES = 500
READINGS = 80  # of the sharpness in each training
LAST = 1 / 3  # of the readings: where the sharpness ended up
SAMPLED = 16  # batches that batch sharpness is averaged over
NEAR = 0.10  # of the limit: "hovers"
ARRIVED = 0.95  # of the limit
COLORS = {"digits": "tab:blue", "mnist1d": "tab:orange"}


class Job(NamedTuple):
    """One training: ``start`` is the LR over its limit at step 0 where it is chosen so, ``batch`` None for all samples at once."""

    kind: str
    data: str
    optimizer: str
    lr: float
    steps: int
    seed: int
    batch: int | None = None
    start: float = 0.0


FULL = [  # learning rates that training can reach the limit of before it has learned everything
    Job("full", "mnist1d", "gd", 0.2, 2400, 0),
    Job("full", "mnist1d", "gd", 0.4, 1600, 0),
    Job("full", "digits", "gd", 0.2, 1600, 0),
    Job("full", "mnist1d", "momentum", 0.2, 1200, 0),
    Job("full", "digits", "momentum", 0.3, 1200, 0),
    Job("full", "mnist1d", "adam", 1e-3, 2000, 0),
    Job("full", "mnist1d", "adam", 3e-3, 1200, 0),
    Job("full", "digits", "adam", 3e-3, 2000, 0),
]
BATCHES = [
    Job("batches", "mnist1d", "gd", 0.2, 9000, 0, batch=16),
    Job("batches", "mnist1d", "gd", 0.2, 6000, 0, batch=32),
    Job("batches", "mnist1d", "gd", 0.2, 3000, 0, batch=128),
]
CATAPULTS = [Job("catapult", data, "gd", 0.0, 80, 0, start=start) for data in ("digits", "mnist1d") for start in (0.8, 1.5, 2.0, 3.0)]
SHORT = [
    Job("full", "mnist1d", "gd", 0.4, 400, 0),
    Job("full", "mnist1d", "momentum", 0.2, 300, 0),
    Job("full", "mnist1d", "adam", 3e-3, 300, 0),
    Job("batches", "mnist1d", "gd", 0.4, 400, 0, batch=16),
    *(Job("catapult", "digits", "gd", 0.0, 40, 0, start=start) for start in (0.8, 2.0)),
]
OPTIMIZERS = {
    "gd": lambda weights, lr: torch.optim.SGD(weights, lr=lr),
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.9),
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr),
}


# One training -------------------------------------------------------------------------------------------------------------------------


@cache
def load(name: str) -> stability.Pair:
    """The first samples of a data set; all in one batch for full-batch training."""
    inputs, classes = stability.digits() if name == "digits" else stability.signals(SAMPLES)
    return inputs[:SAMPLES], classes[:SAMPLES]


def train(job: Job) -> dict[str, Any]:
    """Train, and read the sharpness of the whole data set against the limit on the way."""
    began = time.process_time()
    whole = load(job.data)
    torch.manual_seed(job.seed)
    hidden, kind = ([128], nn.ReLU) if job.kind == "catapult" else ([64, 64], nn.Tanh)
    model = stability.mlp(whole[0].shape[1], hidden, 10, kind)
    optimizer = OPTIMIZERS[job.optimizer](model.parameters(), job.lr or job.start * limit_at_start(model, whole))
    every = 1 if job.kind == "catapult" else max(20, job.steps // READINGS)
    monitor = hessian.SharpnessMonitor(model, optimizer, stability.squared_error, every=every)
    batches = repeat(whole, job.steps) if job.batch is None else stability.batches_of(whole, job.batch, job.steps, job.seed)
    losses, batch_ratios = [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = stability.squared_error(model(batch[0]), batch[1])
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
        "ratios": stability.rounded(reading.ratio for reading in readings),
        "batch_ratios": stability.rounded(batch_ratios),
        "reading_steps": [reading.step for reading in readings],
        "hvps": [reading.hvps for reading in readings],
        "losses": stability.rounded(losses[:: max(1, job.steps // 200)]),
        "cpu_seconds": round(time.process_time() - began, 2),
        **summary(job, losses, [reading.ratio for reading in readings], batch_ratios, every),
    }


def limit_at_start(model: nn.Module, whole: stability.Pair) -> float:
    """2 / sharpness before the first step, of gradient descent."""
    return hessian.stable_lr(model, torch.optim.SGD(model.parameters(), lr=1.0), [whole], stability.squared_error, num_batches=1).lr


def batch_ratio(model: nn.Module, optimizer: Any, whole: stability.Pair, job: Job, step: int) -> float:
    """Batch sharpness over ``2 / lr``, on batches like those of the training."""
    batches = list(stability.batches_of(whole, job.batch or SAMPLES, SAMPLED, 1000 * job.seed + step))
    operator = hessian.HessianOperator(hessian.Problem(model, optimizer, batches, stability.squared_error), batches)
    return hessian.batch_sharpness(operator).value * optimizer.param_groups[0]["lr"] / 2


def summary(job: Job, losses: list[float], ratios: list[float], batch_ratios: list[float], every: int) -> dict[str, Any]:
    """The numbers that the claims are made of; infinite where the training diverged, None where there is none."""
    survived = len(losses) == job.steps and losses[-1] < losses[0]
    last = round(len(ratios) * (1 - LAST))
    found: dict[str, Any] = {
        "survived": survived,
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


# The claims ---------------------------------------------------------------------------------------------------------------------------


def of(runs: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The runs with these settings."""
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def numbers(runs: Iterable[dict[str, Any]], name: str) -> list[float]:
    """One number of every run; infinite where the run diverged."""
    return [math.inf if run.get(name) is None else float(run[name]) for run in runs]


def hovering(runs: list[dict[str, Any]], optimizer: str, limit: str, source: str) -> dict[str, Any]:
    """Whether full-batch training ends at its limit."""
    mine = of(runs, kind="full", optimizer=optimizer)
    ends = numbers(mine, "end")
    near = sum(abs(end - 1) <= NEAR for end in ends)
    by_data = "; ".join(
        f"{data} at lr {lr:g}: {stability.spread(numbers(of(mine, data=data, lr=lr), 'end'))}"
        for data, lr in dict.fromkeys((run["data"], run["lr"]) for run in mine)
    )
    return {
        "claim": f"{source}: in full-batch training the sharpness climbs to {limit} and hovers there",
        "paper": f"just at or above {limit}, for every net and learning rate shown",
        "ours": f"sharpness over {limit}: {stability.spread(numbers(mine, 'first'))} at the first reading, {stability.spread(ends)} over "
        f"the last third of training; {near} of {len(ends)} trainings end within 10 % ({by_data})",
        "held": stability.verdict(ends, 1 - NEAR, 1 + NEAR),
        "seeds": seeds(mine),
    }


def falling_on(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the loss rises every other step at the edge, and falls all the same."""
    mine = [run for run in of(runs, kind="full", optimizer="gd") if run.get("loss_since") is not None]
    before = [run["rising_before"] for run in mine if run["rising_before"] is not None]
    after, since = numbers(mine, "rising_after"), numbers(mine, "loss_since")
    held = bool(before) and np.median(before) < 0.01 and np.median(after) > 0.1 and np.median(since) < 1
    return {
        "claim": "Cohen et al. 2021: at the edge of stability the loss of gradient descent goes up and down over short times, yet falls "
        "over long ones",
        "paper": "monotone before, non-monotone from then on, still decreasing",
        "ours": f"steps on which the loss rose: {stability.spread(before, '.1%') if before else 'none'} before the sharpness reached 95 % "
        f"of 2/lr, {stability.spread(after, '.0%')} after; the loss fell to {stability.spread(since)} of what it was then",
        "held": "yes" if held else "no",
        "seeds": seeds(mine),
    }


def catapulting(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether a start above the limit ends below it."""
    above = [run for run in of(runs, kind="catapult") if run["start"] > 1]
    below = [run for run in of(runs, kind="catapult") if run["start"] < 1]
    jumped = [bool(run["survived"] and run["limit_rise"] > 1 and run["lowest"] < 1 and run["loss_left"] < 1) for run in above]
    rises, lowest, left = (numbers(above, name) for name in ("limit_rise", "lowest", "loss_left"))
    starts = ", ".join(f"{start:g}" for start in sorted({run["start"] for run in above}))
    share = sum(jumped) / len(jumped)
    return {
        "claim": "Lewkowycz et al. 2020, seen again by Cohen et al. 2021: started above 2/sharpness at a moderate learning rate, the loss "
        "spikes, the sharpness falls below 2/lr, and training goes on (catapult)",
        "paper": "for learning rates from 2/sharpness to about 4/sharpness (more with ReLU)",
        "ours": f"started at {starts} times the limit, {sum(jumped)} of {len(jumped)} trainings did so: the loss rose to "
        f"{stability.spread(rises, '.1f')} times its lowest so far, lr x sharpness / 2 fell to {stability.spread(lowest)}, and the loss to "
        f"{stability.spread(left)} of that at the start; below the limit, at 0.8, it never rose above "
        f"{max(numbers(below, 'limit_rise')):.2f} times",
        "held": "yes" if share >= 0.9 else "partly" if share >= 0.5 else "no",
        "seeds": seeds(above),
    }


def batches_stay_below(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether small batches keep the sharpness of the whole data set below the limit."""
    mine = sorted(of(runs, kind="batches"), key=lambda run: run["batch"])
    sizes = list(dict.fromkeys(run["batch"] for run in mine))
    medians = [stability.quartiles(numbers(of(mine, batch=size), "end"))[0] for size in sizes]
    smaller_is_lower = medians == sorted(medians)
    below = all(median < 1 for median in medians)
    table = "; ".join(f"batch {size}: {stability.spread(numbers(of(mine, batch=size), 'end'))}" for size in sizes)
    return {
        "claim": "Cohen et al. 2021: with mini-batches the sharpness of the whole data set stays below 2/lr, the further the smaller the "
        "batch",
        "paper": "it does not flatline at 2/lr; smaller batches, lower sharpness",
        "ours": f"sharpness over 2/lr in the last third of training: {table}",
        "held": "yes" if below and smaller_is_lower else "partly" if medians[0] < 1 else "no",
        "seeds": seeds(mine),
    }


def batch_sharpness_hovers(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the curvature of batches along their own gradients settles at the limit."""
    mine = sorted(of(runs, kind="batches"), key=lambda run: run["batch"])
    sizes = list(dict.fromkeys(run["batch"] for run in mine))
    table = "; ".join(f"batch {size}: {stability.spread(numbers(of(mine, batch=size), 'batch_end'))}" for size in sizes)
    verdicts = [stability.verdict(numbers(of(mine, batch=size), "batch_end"), 1 - NEAR, 1 + NEAR) for size in sizes]
    return {
        "claim": "Andreyev and Beneventano 2024 (arXiv:2412.20553): with mini-batches it is the batch sharpness that climbs to 2/lr and "
        "hovers there",
        "paper": "batch sharpness at 2/lr, for every batch size",
        "ours": f"batch sharpness over 2/lr in the last third of training: {table}",
        "held": "yes" if set(verdicts) == {"yes"} else "no" if set(verdicts) == {"no"} else "partly",
        "seeds": seeds(mine),
    }


def seeds(runs: list[dict[str, Any]]) -> int:
    return len({run["seed"] for run in runs})


# The picture ---------------------------------------------------------------------------------------------------------------------------


def draw(runs: list[dict[str, Any]]) -> Figure:
    """A panel for each optimizer, one of catapults, two of small batches; a line for each training."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    titles = {"gd": "gradient descent, limit 2/lr", "momentum": "momentum 0.9, limit 3.8/lr", "adam": "Adam, preconditioned, limit 38/lr"}
    for axes, (optimizer, title) in zip(panels, titles.items(), strict=False):
        for run in of(runs, kind="full", optimizer=optimizer):
            label = f"{run['data']}, lr {run['lr']:g}" if run["seed"] == 0 else None
            style = "--" if run["lr"] == min(other["lr"] for other in of(runs, kind="full", optimizer=optimizer)) else "-"
            axes.plot(run["reading_steps"], clipped(run["ratios"]), style, color=COLORS[run["data"]], lw=0.8, alpha=0.7, label=label)
        axes.set(title=title, xlabel="step", ylabel="sharpness / limit", ylim=(0, 1.6))
    for run in of(runs, kind="catapult", data="digits"):
        color = {0.8: "tab:gray", 1.5: "tab:green", 2.0: "tab:orange", 3.0: "tab:red"}[run["start"]]
        label = f"started at {run['start']:g}" if run["seed"] == 0 else None
        panels[3].plot(run["reading_steps"], clipped(run["ratios"]), color=color, lw=0.8, alpha=0.7, label=label)
    panels[3].set(title="catapults, digits, two-layer ReLU net", xlabel="step", ylabel="sharpness / limit", ylim=(0, 3), xlim=(0, 40))
    for axes, name, title in ((panels[4], "ratios", "sharpness of all samples"), (panels[5], "batch_ratios", "batch sharpness")):
        for run in of(runs, kind="batches"):
            color = {16: "tab:purple", 32: "tab:green", 128: "tab:red"}[run["batch"]]
            label = f"batch {run['batch']}" if run["seed"] == 0 else None
            progress = np.array(run["reading_steps"]) / run["steps"]
            axes.plot(progress, clipped(run[name]), color=color, lw=0.8, alpha=0.7, label=label)
        axes.set(title=f"mini-batches, mnist1d: {title}", xlabel="part of training", ylabel="over 2/lr", ylim=(0, 1.6))
    for axes in panels:
        axes.axhline(1, color="black", lw=0.8, ls=":")
        axes.legend(fontsize=7, loc="lower right")
    return figure


def clipped(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def main() -> None:
    started, asked = time.perf_counter(), stability.options(__doc__)
    plan = SHORT if asked.short else [job._replace(seed=seed) for seed in range(5) for job in (*BATCHES, *FULL, *CATAPULTS)]
    runs = stability.run_all(asked, "edge_of_stability", train, plan)
    claims = [
        hovering(runs, "gd", "2/lr", "Cohen et al. 2021"),
        hovering(runs, "momentum", "3.8/lr", "Cohen et al. 2021, momentum 0.9"),
        hovering(runs, "adam", "38/lr", "Cohen et al. 2022, Adam, preconditioned sharpness"),
        falling_on(runs),
        catapulting(runs),
        batches_stay_below(runs),
        batch_sharpness_hovers(runs),
    ]
    found = {
        "paper": "Cohen et al. 2021, arXiv:2103.00065; Cohen et al. 2022, arXiv:2207.14484",
        "title": "The edge of stability",
        "claims": claims,
        "setting": f"{SAMPLES} digits of scikit-learn or signals of MNIST-1D, squared error; a tanh net with two hidden layers of 64, for "
        "catapults a ReLU net with one of 128, as torch initialises them. Sharpness is that of all samples, read by "
        f"hessian.SharpnessMonitor {READINGS} times in a training (at every step of the catapults), over the limit that "
        "hessian knows for the optimizer. Seeds change the initial weights and the order of batches. Medians with quartiles; 'yes' "
        "where both quartiles are within 10 % of the limit, 'partly' where only the median is.",
        "data": {"runs": runs},
    }
    stability.write(asked, "edge_of_stability", found, draw(runs), started)


if __name__ == "__main__":
    main()
