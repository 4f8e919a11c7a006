"""What a reading of ``hessian.SharpnessMonitor`` costs, and how far it is off: in real trainings, against a full measurement each time.

Writes ``benchmarks/results/monitor.json`` and the table of ``docs/schedules.md``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import page
import torch
from models import Pair, mlp, resnet
from torch import nn

import hessian.following
from hessian import HessianOperator, Problem, SharpnessMonitor, SharpnessReading, lanczos
from hessian.geometry import OptimizerGeometry
from hessian.limits import limits_of
from lrfinder.demo import data

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "monitor.json"
PAGE = HERE.parent / "docs" / "schedules.md"
CAP = 3  # products that a reading is held to, for comparison
TRUE_TOL, TRUE_HVPS = 1e-4, 120
SEEDS = 3  # of the weights
OFF = 0.05  # relative error that a reading away from the limit should not exceed
Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Training(NamedTuple):
    """``size`` is that of a batch, None for all samples at once."""

    net: Callable[[], nn.Module]
    samples: Callable[[], Pair]
    optimizer: Optimizer
    size: int | None
    steps: int
    every: int


def momentum(lr: float, mu: float = 0.9) -> Optimizer:
    return lambda weights: torch.optim.SGD(weights, lr=lr, momentum=mu)


def tanh_net() -> nn.Module:
    layers = (nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def signals() -> Pair:
    inputs, classes = data.mnist1d("mnist1d").train.tensors
    return inputs[:500], nn.functional.one_hot(classes[:500], 10).float()


def images() -> Pair:
    inputs, classes = data.digits("digits").train.tensors
    return inputs, classes


def adam(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=1e-3)


TRAININGS = {
    "tanh net, all samples, far from the limit": Training(tanh_net, signals, momentum(0.25, 0.0), None, 600, 30),
    "tanh net, all samples, at the limit": Training(tanh_net, signals, momentum(2.0, 0.0), None, 800, 20),
    "tanh net, batch 32": Training(tanh_net, signals, momentum(1.0, 0.0), 32, 1500, 50),
    "MLP, batch 64": Training(mlp, images, momentum(0.05), 64, 1000, 50),
    "MLP, batch 10": Training(mlp, images, momentum(0.01), 10, 1000, 50),
    "MLP, Adam, batch 64": Training(mlp, images, adam, 64, 1000, 50),
    "ResNet, batch 64": Training(resnet, images, momentum(0.05), 64, 150, 10),
}


class Held(SharpnessMonitor):
    """Held to a few products a reading after the first."""

    def step(self, batch: Any) -> Any:
        usual, hessian.following.MOST_HVPS = hessian.following.MOST_HVPS, CAP
        try:
            return super().step(batch)
        finally:
            hessian.following.MOST_HVPS = usual


def batches_of(samples: Pair, size: int | None, steps: int) -> Iterator[Pair]:
    """So many batches in a drawn order."""
    generator, size = torch.Generator().manual_seed(0), size or len(samples[0])
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(samples[0]), generator=generator)
        yield samples[0][order[:size]], samples[1][order[:size]]
        order = order[size:]


def true_sharpness(model: nn.Module, optimizer: Any, criterion: Any, batch: Pair) -> float:
    """By Lanczos from nothing, until no sharper direction can have been missed."""
    problem = Problem(model, optimizer, [batch], criterion)
    with problem.preserved():
        operator = OptimizerGeometry(problem, limits_of(optimizer), [1.0]).around(HessianOperator(problem, [batch]))
        return float(lanczos(operator, stop="bound", tol=TRUE_TOL, max_iter=TRUE_HVPS).values[0])


def follow(training: Training, fixed: bool) -> dict[str, Any]:
    """All readings of all seeds, with the usual monitor and the one that is held to a few products."""
    runs = [readings_of(training, fixed, seed) for seed in range(SEEDS)]
    return {name: figures([one for run in runs for one in run[name]]) for name in ("usual", "held")}


def readings_of(training: Training, fixed: bool, seed: int) -> dict[str, list[Compared]]:
    """Train once, and read with both and in full; without the first reading, which has nothing to follow."""
    torch.manual_seed(seed)
    model, samples = training.net(), training.samples()
    criterion = nn.MSELoss() if samples[1].ndim == 2 else nn.CrossEntropyLoss()
    optimizer = training.optimizer(model.parameters())
    kinds = {"usual": SharpnessMonitor, "held": Held}
    monitors = {name: kind(model, optimizer, criterion, every=training.every) for name, kind in kinds.items()}
    truth, first = list[float](), None
    for batch in batches_of(samples, training.size, training.steps):
        optimizer.zero_grad()
        criterion(model(batch[0]), batch[1]).backward()
        optimizer.step()
        first = first or batch
        read = first if fixed else batch
        made = [monitor.step(read) for monitor in monitors.values()]
        if all(made):
            truth.append(true_sharpness(model, optimizer, criterion, read))
    return {name: [compared(*pair) for pair in zip(monitor.readings, truth, strict=True)][1:] for name, monitor in monitors.items()}


class Compared(NamedTuple):
    """One reading: products, relative error, and whether the true value is within the stated error."""

    hvps: int
    error: float
    covered: bool


def compared(reading: SharpnessReading, true: float) -> Compared:
    return Compared(reading.hvps, abs(reading.sharpness / true - 1), abs(true - reading.sharpness) <= reading.error + 2 * TRUE_TOL * true)


def figures(readings: list[Compared]) -> dict[str, Any]:
    """Products and relative errors."""
    hvps, errors, covered = (np.array(column) for column in zip(*readings, strict=True))
    quantiles = dict(zip(("median", "p95", "worst"), np.quantile(errors, (0.5, 0.95, 1.0)).tolist(), strict=True))
    shares = {"off": float(np.mean(errors > OFF)), "covered": float(np.mean(covered))}
    return {"hvps": float(np.mean(hvps)), "most_hvps": int(max(hvps)), **quantiles, **shares, "readings": len(readings)}


def table(found: dict[str, Any]) -> str:
    """A row for each training."""
    head = [
        "training",
        "batch read",
        "products",
        "most",
        "error: median",
        "95 %",
        "worst",
        "within the stated",
        f"95 % with {CAP} products",
    ]
    return page.table(head, (row(name, read, figure) for name, both in found.items() for read, figure in both.items()))


def row(name: str, read: str, figure: dict[str, Any]) -> list[str]:
    usual = figure["usual"]
    median, most, worst, held = (
        page.percent(value) for value in (*(usual[name] for name in ("median", "p95", "worst")), figure["held"]["p95"])
    )
    return [name, read, f"**{usual['hvps']:.1f}**", str(usual["most_hvps"]), median, most, worst, f"{usual['covered']:.0%}", held]


@click.command(help=__doc__)
@click.option("--dry", is_flag=True, help="Print the table, write nothing.")
def main(dry: bool) -> None:
    torch.set_num_threads(1)
    logging.getLogger("hessian").setLevel(logging.ERROR)
    found = {}
    for name, training in TRAININGS.items():
        found[name] = {"all samples": follow(training, True)} if training.size is None else {}
        if training.size is not None:
            found[name] = {"the same": follow(training, True), "each step's": follow(training, False)}
        click.echo(f"{name}: {json.dumps(found[name])}", err=True)
    if dry:
        click.echo(table(found))
        return
    RESULTS.write_text(json.dumps({"trainings": found, "torch": torch.__version__}, indent=1) + "\n")
    PAGE.write_text(page.replaced(PAGE.read_text(), "monitor", table(found), writer="monitor"))


if __name__ == "__main__":
    main()
