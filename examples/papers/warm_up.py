"""Warm-up (Kalra and Barkeshli 2024): the largest stable learning rate with and without it, by brute force, against the predicted ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from common.data import CONTEXT
from common.jobs import jobs
from common.report import Claim, Reproduction
from common.stability import OPTIMIZERS, batches_of, mlp, of, samples, seeds, squared_error
from common.statistics import quartiles, spread
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import hessian
import lrfinder
from lrfinder.combine import break_ceiling
from lrfinder.horizon import SHARE, warm_up

STEPS, WARM, BATCH = 150, 40, 128
EXCURSION = 2.0  # times the first loss: a training that goes above is not called stable
LOST = 1e3  # times the first loss, from where it is not followed any further
EXACT = 1.1  # of the bisection
FARTHEST = 2.0**12  # from the prediction, up or down
LAST = 20  # steps over which the final loss is averaged
TWICE = 2.0  # a prediction within this factor is called right
AS_GOOD = 0.8  # of the largest stable LR
GAIN = 1.1  # of which it is said that there is one
MOST = 0.9  # of the cases: held


class Job(NamedTuple):
    """A net, its loss and its optimizer; how many steps are made, and over how many the LR rises."""

    task: str
    optimizer: str
    seed: int
    steps: int = STEPS
    warm: int = WARM


PLAN = [
    *(("digits, tanh, squared error", optimizer) for optimizer in ("gd", "momentum", "adam")),
    *(("mnist1d, ReLU, squared error", optimizer) for optimizer in ("gd", "adam")),
    *(("mnist1d, ReLU, cross-entropy", optimizer) for optimizer in ("gd", "momentum", "adam")),
    *(("text, ReLU, cross-entropy", optimizer) for optimizer in ("momentum", "adam")),
]
SHORT = [("digits, tanh, squared error", "gd"), ("mnist1d, ReLU, squared error", "adam")]
COUNTS = {"digits": None, "mnist1d": 1000, "text": None}  # of samples


# The tasks ----------------------------------------------------------------------------------------------------------------------------


def make_net(task: str) -> nn.Module:
    if task.startswith("text"):
        return nn.Sequential(nn.Embedding(128, 16), nn.Flatten(), *mlp(16 * CONTEXT, [64], 128, nn.ReLU))
    return mlp(64 if task.startswith("digits") else 40, [64, 64], 10, nn.Tanh if "tanh" in task else nn.ReLU)


class Trainings:
    """Short trainings from the same weights, on the same batches, at any learning rate; each is made once."""

    def __init__(self, job: Job) -> None:
        torch.manual_seed(job.seed)
        self.model = make_net(job.task)
        name = job.task.split(",")[0]
        self.batches = list(batches_of(samples(name, COUNTS[name]), BATCH, job.steps, job.seed))
        self.criterion: Any = cross_entropy if "entropy" in job.task else squared_error
        self.make_optimizer = OPTIMIZERS[job.optimizer]
        self._known: dict[tuple[float, float, int], list[float]] = {}

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one of the initial weights."""
        return self.make_optimizer(self.model.parameters(), 0.01)

    def losses(self, peak: float, start: float, warm: int) -> list[float]:
        """Of a training whose LR rises in a straight line from ``start`` to ``peak`` over the first ``warm`` steps."""
        key = (peak, start, warm)
        if key not in self._known:
            self._known[key] = list(self._train(peak, start, warm))
        return self._known[key]

    def _train(self, peak: float, start: float, warm: int) -> Iterator[float]:
        model = copy.deepcopy(self.model)
        optimizer = self.make_optimizer(model.parameters(), peak)
        for step, (inputs, target) in enumerate(self.batches, 1):
            optimizer.param_groups[0]["lr"] = start + (peak - start) * min(step / warm, 1.0) if warm else peak
            optimizer.zero_grad()
            loss: Tensor = self.criterion(model(inputs), target)
            loss.backward()
            optimizer.step()
            yield loss.item()
            if not loss.item() <= LOST * self.first_loss:
                return

    @cached_property
    def first_loss(self) -> float:
        """The mean loss of a few batches at the initial weights."""
        with torch.no_grad():
            return sum(float(self.criterion(self.model(inputs), target)) for inputs, target in self.batches[:4]) / 4


# Brute force --------------------------------------------------------------------------------------------------------------------------


def survives(losses: list[float], runs: Trainings) -> bool:
    """Made all its steps, and ended below where it began."""
    return len(losses) == len(runs.batches) and all(map(math.isfinite, losses)) and sum(losses[-LAST:]) / LAST < runs.first_loss


def is_stable(losses: list[float], runs: Trainings) -> bool:
    """Survived, and was never far above where it began."""
    return survives(losses, runs) and max(losses) <= EXCURSION * runs.first_loss


def largest(holds: Callable[[float], bool], near: float) -> float:
    """The LR up to which it holds: by factors of two until it changes, then by bisection; where it does not, the last one tried."""
    low = near
    while not holds(low) and low > near / FARTHEST:
        low /= 2
    while holds(2 * low) and low < near * FARTHEST:
        low *= 2
    high = 2 * low
    while high / low > EXACT:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return math.sqrt(low * high)


def measure_job(job: Job) -> dict[str, Any]:
    """What is predicted, and what is."""
    runs = Trainings(job)
    limit = hessian.stable_lr(runs.model, runs.optimizer(), runs.batches, runs.criterion, num_batches=8)
    curve = lrfinder.range_test(runs.model, runs.optimizer(), runs.batches, runs.criterion, progress=False)

    def advised(lr: float, start: float) -> list[float]:
        advice = warm_up(lr, start, round(job.warm / SHARE), None)
        return runs.losses(lr, advice.start_lr, advice.steps)

    near = limit.lr
    return {
        **job._asdict(),
        "limit": limit.lr,
        "curvature_limit": limit.curvature_lr,
        "first_step_limit": limit.first_step_lr,
        "sweep": break_ceiling(curve),
        "sweep_broke": curve.break_lr is not None,
        "without": largest(lambda lr: is_stable(runs.losses(lr, 0.0, 0), runs), near),
        "with": largest(lambda lr: is_stable(runs.losses(lr, 0.0, job.warm), runs), near),
        "with_advised": largest(lambda lr: is_stable(advised(lr, limit.curvature_lr), runs), near),
        "with_first": largest(lambda lr: is_stable(advised(lr, min(limit.lr, limit.first_step_lr or limit.lr)), runs), near),
        "survived_without": largest(lambda lr: survives(runs.losses(lr, 0.0, 0), runs), near),
        "survived_with": largest(lambda lr: survives(runs.losses(lr, 0.0, job.warm), runs), near),
    }


# The claims ---------------------------------------------------------------------------------------------------------------------------


def ratios(rows: list[dict[str, Any]], above: str, below: str) -> list[float]:
    return [row[above] / row[below] for row in rows]


def medians(rows: list[dict[str, Any]], above: str, below: str) -> dict[tuple[str, str], float]:
    """The median of every task and optimizer."""
    kinds = dict.fromkeys((row["task"], row["optimizer"]) for row in rows)
    return {(task, name): quartiles(ratios(of(rows, task=task, optimizer=name), above, below))[1] for task, name in kinds}


def each(found: dict[tuple[str, str], float]) -> str:
    """Median by median."""
    words: dict[str, list[str]] = {}
    for (task, name), median in found.items():
        words.setdefault(task, []).append(f"{name} {median:.2g}")
    return "; ".join(f"{task}: {', '.join(mine)}" for task, mine in words.items())


def claim(rows: list[dict[str, Any]], says: str, paper: str, what: str, above: str, below: str, good: tuple[float, float]) -> Claim:
    """A claim about one ratio, judged by how many of the medians are in the range."""
    found = medians(rows, above, below)
    right = sum(good[0] <= median <= good[1] for median in found.values())
    values = spread(ratios(rows, above, below), 2)
    return Claim(
        claim=says,
        paper=paper,
        figure=f"ratio {values}; {right} of {len(found)} cases",
        ours=f"{what}: {values} (medians: {each(found)})",
        held="yes" if right >= MOST * len(found) else "partly" if right >= len(found) / 2 else "no",
        seeds=seeds(rows),
    )


def claims(data: dict[str, Any]) -> list[Claim]:
    rows = data["runs"]
    sgd, adam = ([row for row in rows if (row["optimizer"] == "adam") == wanted] for wanted in (False, True))
    unbroken = len(of(rows, sweep_broke=False))
    near, more, at_least = (1 / TWICE, TWICE), (GAIN, math.inf), (AS_GOOD, math.inf)
    step_0 = "without warm-up training becomes unstable where the learning rate exceeds the limit of the "
    warm = "Kalra and Barkeshli 2024 (arXiv:2406.09405): warm-up makes a larger learning rate possible; "
    measured = "largest stable learning rate without warm-up over the limit that hessian.stable_lr predicts at step 0"
    gain = f"largest stable learning rate with a warm-up of {WARM} steps over that without"
    shorter = "Kalra and Barkeshli 2024: a warm-up may begin at the largest LR stable at step 0, shorter by that LR's share of the peak; "
    no_loss, over_zero = "saves that share of the steps at no loss", "largest stable learning rate with it over that with one from zero"
    gilmer, cohen = "Gilmer et al. 2021 (arXiv:2110.04369): ", "Cohen et al. 2022 (arXiv:2207.14484): "
    at_start = "its main benefit; large, as the preconditioned sharpness starts far above"
    return [
        claim(sgd, gilmer + step_0 + "curvature; SGD and momentum", "at 2/sharpness", measured, "without", "limit", near),
        claim(adam, cohen + step_0 + "preconditioned curvature; Adam", "at 38/sharpness", measured, "without", "limit", near),
        claim(sgd, warm + "SGD and momentum", "its main benefit", gain, "with", "without", more),
        claim(adam, warm + "Adam", at_start, gain, "with", "without", more),
        claim(sgd, shorter + "SGD and momentum, from the limit", no_loss, over_zero, "with_advised", "with", at_least),
        claim(adam, shorter + "Adam, from the steady limit", no_loss, over_zero, "with_advised", "with", at_least),
        claim(adam, shorter + "Adam, from the limit of its first step", no_loss, over_zero, "with_first", "with", at_least),
        claim(
            rows,
            "lrfinder's own: the break of a range test, corrected for the ramp, is the largest stable learning rate with warm-up",
            "no paper: a rising learning rate is a warm-up (docs/formulas.md, overshoot)",
            f"largest stable learning rate with warm-up over the corrected break, or over the end of the {unbroken} of {len(rows)} sweeps "
            "that never broke",
            "with",
            "sweep",
            near,
        ),
    ]


# The picture --------------------------------------------------------------------------------------------------------------------------


def draw(data: dict[str, Any]) -> Figure:
    """Predicted against measured, without and with warm-up, and the gain."""
    rows = data["runs"]
    figure = Figure(figsize=(13, 5), layout="constrained")
    panels = figure.subplots(1, 3)
    colors = {name: f"C{index}" for index, name in enumerate(dict.fromkeys(row["task"] for row in rows))}
    marks = {"gd": "o", "momentum": "s", "adam": "^"}
    for axes, across, up, title, below in (
        (panels[0], "limit", "without", "without warm-up, against the limit at step 0", "predicted limit"),
        (panels[1], "sweep", "with", "with warm-up, against the break of the sweep", "corrected break"),
        (panels[2], "without", "with", "with warm-up, against without", "largest stable LR without"),
    ):
        for row in rows:
            label = f"{row['task']}, {row['optimizer']}" if row["seed"] == 0 else None
            axes.plot(row[across], row[up], marks[row["optimizer"]], color=colors[row["task"]], ms=5, alpha=0.7, label=label)
        ends = [min(row[name] for row in rows for name in (across, up)) / 2, 2 * max(row[name] for row in rows for name in (across, up))]
        axes.plot(ends, ends, color="black", lw=0.8, ls=":")
        axes.fill_between(ends, [end / TWICE for end in ends], [end * TWICE for end in ends], color="gray", alpha=0.15, lw=0)
        axes.set(title=title, xscale="log", yscale="log", xlabel=below, ylabel=f"largest stable LR {up}")
        axes.title.set_fontsize(10)
        axes.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=5)
    return figure


def measure(short: bool) -> dict[str, Any]:
    plan = [Job(task, optimizer, seed) for seed in range(5) for task, optimizer in PLAN]
    if short:
        plan = [Job(task, optimizer, 0, steps=80, warm=25) for task, optimizer in SHORT]
    with jobs(short) as work:
        return {"runs": work.run([partial(measure_job, job) for job in plan])}


REPRODUCTION = Reproduction(
    name="warm_up",
    paper="Kalra and Barkeshli 2024, arXiv:2406.09405",
    title="Warm-up",
    setting="Digits of scikit-learn, MNIST-1D and the source text of Python's standard library; nets with one or two hidden "
    f"layers of 64 as torch initialises them; batches of {BATCH}. Brute force: the real optimizer trains {STEPS} steps from the same "
    f"weights on the same batches, at learning rates found by doubling and bisection to {EXACT - 1:.0%}. Stable: the loss ends below "
    f"where it began and is never above {EXCURSION:g} times that. The predictions are `hessian.stable_lr` on 8 batches (the lower of "
    "the curvature and the noise limit) and the break of one `lrfinder.range_test`. A case is a task "
    f"with an optimizer; its median over seeds counts where it is within a factor of {TWICE:g} of the prediction, above {GAIN:g} for a "
    f"gain, above {AS_GOOD:g} for 'at no loss'. 'yes' where {MOST:.0%} of the cases do, 'partly' where half do.",
    measure=measure,
    claims=claims,
    draw=draw,
)

if __name__ == "__main__":
    REPRODUCTION.main()
