"""The figure of ``docs/accuracy.md``: every task's regret under every method, on the sets that nothing was fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from suite.report import METHOD_NAMES, OURS, Evidence
from suite.scoring import by_task
from suite.task import BASIC

TITLES = {"constant": "constant learning rate", "onecycle": "1cycle"}
TASK, MEAN = "0.6", "C3"


def draw(evidence: Evidence, path: Path) -> None:
    """One panel per schedule, one row per method, in the order of the mean over both."""
    from matplotlib.figure import Figure

    regrets = {schedule: regrets_by_method(evidence, schedule) for schedule in BASIC}
    shared = [name for name in METHOD_NAMES if all(name in found for found in regrets.values())]
    order = sorted(shared, key=lambda name: -sum(regrets[schedule][name].mean() for schedule in BASIC))
    figure = Figure(figsize=(10, 0.35 * len(order) + 1), layout="constrained")
    panels = figure.subplots(1, len(BASIC), sharey=True, squeeze=False)[0]
    for panel, schedule in zip(panels, BASIC, strict=True):
        fill(panel, [regrets[schedule][name] for name in order])
        panel.set(title=TITLES[schedule], xlabel="regret (0: the best LR, 1: nothing gained)", xlim=(-0.02, 1.02))
    panels[0].set_yticks(range(len(order)), [OURS.get(name, name) for name in order])
    figure.savefig(path, dpi=150)


def regrets_by_method(evidence: Evidence, schedule: str) -> dict[str, Any]:
    """Regrets of the tasks, for every method that was measured."""
    found = {name: by_task(evidence.scores(name, schedule, "unseen")) for name in METHOD_NAMES}
    return {name: np.array(list(tasks.values())) for name, tasks in found.items() if tasks}


def fill(panel: Any, rows: list[Any]) -> None:
    """A dot for every task, pushed apart a little so that none hides another, and a bar at the mean."""
    spread = np.random.default_rng(0)
    for place, regrets in enumerate(rows):
        panel.scatter(regrets, place + spread.uniform(-0.25, 0.25, len(regrets)), s=12, color=TASK, linewidths=0)
        panel.plot([regrets.mean()] * 2, [place - 0.35, place + 0.35], color=MEAN, linewidth=2.5)
        panel.annotate(
            f"{regrets.mean():.3f}", (1.02, place), va="center", fontsize=8, xycoords=("axes fraction", "data"), annotation_clip=False
        )
