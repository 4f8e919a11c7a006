"""What a sweep of a hundred steps costs beside the bare loop of the same steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import peers
from models import TASKS, Pair, Task, Training
from peers import NEVER, START_LR, STEPS
from timing import Prepare, Run, Timings, interleave, quartiles, ratios

from lrfinder import LRSweep, range_test

BARE = "bare loop"
READY = "MLP, batches ready"  # the hardest case: steps so short, and data so cheap, that every line of Python shows
SWEPT = {"MLP": TASKS["MLP"], READY: replace(TASKS["MLP"], ready=True), "ResNet": TASKS["ResNet"], "GPT": TASKS["GPT"]}
PASSES = {"MLP": 10, READY: 10}  # a sweep of the MLP takes a tenth of a second: too short to be timed once a round


def bare_loop(task: Task, training: Training) -> Run:
    """What any sweep must do: the same batches, LRs, updates, and the loss of every step as a number."""

    def run() -> int:
        losses = []
        batches = cycle(training)
        for lr in np.geomspace(START_LR, task.end_lr, STEPS).tolist():
            inputs, target = next(batches)
            for group in training.optimizer.param_groups:
                group["lr"] = lr
            loss = training.backward(inputs, target)
            training.optimizer.step()
            losses.append(loss.item())
        return len(losses)

    return run


def cycle(training: Training) -> Iterator[Pair]:
    """Batches of the loader, epoch after epoch."""
    while True:
        yield from training.loader


def settings(task: Task) -> dict[str, Any]:
    """Of a sweep of ours: all of its steps, without a bar."""
    return {"start_lr": START_LR, "end_lr": task.end_lr, "num_iter": STEPS, "stop_factor": NEVER, "progress": False}


def ours(task: Task, training: Training) -> Run:
    """``lrfinder.range_test``: checks, snapshot, first loss, sweep, and everything put back."""

    def run() -> int:
        curve = range_test(
            training.model,
            training.optimizer,
            training.loader,
            training.criterion,
            **settings(task),
        )
        return len(curve.losses)

    return run


def our_loop(task: Task, training: Training) -> Run:
    """``lrfinder.LRSweep`` around the same steps, with the snapshot and everything put back."""

    def run() -> int:
        with LRSweep(
            training.model,
            training.optimizer,
            **settings(task),
            keep=[training.criterion],
        ) as sweep:
            for inputs, target in sweep(training.loader):
                loss = training.backward(inputs, target)
                training.optimizer.step()
                sweep.report(loss)
        return len(sweep.curve.losses)

    return run


SUBJECTS: dict[str, Callable[[Task, Training], Run]] = {
    BARE: bare_loop,
    "lrfinder": ours,
    "LRSweep": our_loop,
    "torch-lr-finder": peers.torch_lr_finder,
    "Lightning": peers.lightning_lr_find,
    "Lightning, no finder": peers.lightning_fit,
}


def measure(rounds: int) -> dict[str, Any]:
    """For each task and subject, wall time over that of the bare loop."""
    return {name: measure_task(name, task, rounds) for name, task in SWEPT.items()}


def measure_task(title: str, task: Task, rounds: int) -> dict[str, Any]:
    found = interleave({name: fresh(task, subject) for name, subject in SUBJECTS.items()}, rounds, PASSES.get(title, 1))
    for name, timings in found.items():
        if timings.failure or set(timings.returned) != {STEPS}:
            raise RuntimeError(f"{name} on {title}: {timings.failure or timings.returned}, not {STEPS} steps in every pass")
    return {name: summary(timings, found[BARE]) for name, timings in found.items()}


def summary(timings: Timings, bare: Timings) -> dict[str, Any]:
    """Time over that of the bare loop, round by round."""
    over = ratios(timings, bare)
    return {"ratio": quartiles(over), "ratios": over, "seconds": quartiles(timings.seconds)}


def fresh(task: Task, subject: Callable[[Task, Training], Run]) -> Prepare:
    """Every pass of every subject starts from the same new model, optimizer and data order."""
    return lambda number: subject(task, task.training())
