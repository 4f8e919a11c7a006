"""The figure of ``docs/fine-tuning.md``: loss against learning rate by brute force, and under it what everyone says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from suite.fine_report import HABITS, LABELS, NAMES, Evidence
from suite.fine_tuning import SCHEDULES
from suite.ours import BUDGETS
from suite.peers import PRODIGY
from suite.report import OURS
from suite.scoring import curve_of

COLOURS = dict(zip(SCHEDULES, ("C0", "C1"), strict=True))
OTHERS, HABIT = "0.45", "k"
LOWEST, HIGHEST = 3e-8, 3.0


def draw(evidence: Evidence, path: Path) -> None:
    """A column for each task: the brute force above, a row of marks for each method below, on the same axis."""
    from matplotlib.figure import Figure

    tasks = evidence.tasks()
    figure = Figure(figsize=(5.2 * len(tasks), 6.4), layout="constrained")
    panels = figure.subplots(2, len(tasks), sharex=True, squeeze=False, height_ratios=(3, 2.4))
    for column, task in enumerate(tasks):
        brute_force(panels[0][column], evidence.truth[task])
        marks(panels[1][column], evidence, task, named=column == 0)
        panels[0][column].set(title=f"{task.split('-')[0]}, {evidence.truth[task]['steps']} steps", xscale="log", xlim=(LOWEST, HIGHEST))
        panels[1][column].set_xlabel("learning rate")
    panels[0][0].set_ylabel("validation loss after fine-tuning")
    panels[0][0].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=150)


def brute_force(panel: Any, truth: Any) -> None:
    """The mean over seeds, each seed as a dot; the best learning rates as lines through both panels."""
    for schedule, colour in COLOURS.items():
        curve = curve_of(truth, schedule)
        lrs = 10 ** (curve.numbers / curve.grid)
        panel.plot(lrs, curve.losses, color=colour, label=LABELS[schedule])
        for number, runs in truth["schedules"][schedule].items():
            finals = [np.nan if run[0] is None else run[0] for run in runs]
            panel.plot([10 ** (int(number) / curve.grid)] * len(finals), finals, ".", color=colour, markersize=3, alpha=0.5)
        panel.axvline(curve.best_lr, color=colour, linewidth=0.8, linestyle=":")
    panel.axhline(np.mean(truth["initial"]), color="0.7", linewidth=0.8)
    panel.set_ylim(top=1.25 * np.mean(truth["initial"]))


def marks(panel: Any, evidence: Evidence, task: str, named: bool) -> None:
    """One dot for every seed."""
    for schedule, colour in COLOURS.items():
        panel.axvline(curve_of(evidence.truth[task], schedule).best_lr, color=colour, linewidth=0.8, linestyle=":")
    rows = [name for name in reversed(NAMES) if name != PRODIGY]
    for place, method in enumerate(rows):
        for schedule, colour in COLOURS.items():
            shift = (0.15 if schedule == SCHEDULES[0] else -0.15) if method in BUDGETS else 0.0
            lrs = [one["lr"] for one in evidence.answers(method, task, schedule) if one.get("lr")]
            shade = colour if method in BUDGETS else HABIT if method in HABITS else OTHERS
            panel.plot(lrs, [place + shift] * len(lrs), "o", color=shade, markersize=3.5)
    panel.set_yticks(range(len(rows)), [OURS.get(name, name) for name in rows] if named else [], fontsize=8)
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.grid(axis="y", linewidth=0.3)
