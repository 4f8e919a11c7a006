"""The figure of edge_of_stability.py: sharpness over its limit in the course of every training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.stability import of

COLORS = {"digits": "tab:blue", "mnist1d": "tab:orange"}
TITLES = {"gd": "gradient descent, limit 2/lr", "momentum": "momentum 0.9, limit 3.8/lr", "adam": "Adam, preconditioned, limit 38/lr"}
BATCH_COLORS = {16: "tab:purple", 128: "tab:green"}
START_COLORS = {0.8: "tab:gray", 1.5: "tab:green", 2.0: "tab:orange", 3.0: "tab:red"}


def chosen(run: dict[str, Any]) -> str:
    """How the learning rate of a training was chosen."""
    return f"from {run['start']:g} of the limit" if run["start"] else f"lr {run['lr']:g}"


def draw(data: dict[str, Any]) -> Figure:
    """A panel for each optimizer, one of catapults, two of small batches; a line for each training."""
    runs = data["runs"]
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for axes, (optimizer, title) in zip(panels, TITLES.items(), strict=False):
        mine = of(runs, kind="full", optimizer=optimizer)
        styles = dict(zip(dict.fromkeys(chosen(run) for run in mine), ("--", "-", ":"), strict=False))
        for run in mine:
            lines(axes, run, "ratios", COLORS[run["data"]], f"{run['data']}, {chosen(run)}", styles[chosen(run)])
        axes.set(title=title, xlabel="step", ylabel="sharpness / limit", ylim=(0, 1.6))
    for run in of(runs, kind="catapult", data="digits"):
        lines(panels[3], run, "ratios", START_COLORS[run["start"]], f"started at {run['start']:g}")
    panels[3].set(title="catapults, digits, two-layer ReLU net", xlabel="step", ylabel="sharpness / limit", ylim=(0, 3), xlim=(0, 40))
    for axes, name, title in ((panels[4], "ratios", "sharpness of all samples"), (panels[5], "batch_ratios", "batch sharpness")):
        for run in of(runs, kind="batches"):
            style = "--" if run["data"] == "digits" else "-"
            lines(axes, run, name, BATCH_COLORS[run["batch"]], f"{run['data']}, batch {run['batch']}", style, 1 / run["steps"])
        axes.set(title=f"mini-batches: {title}", xlabel="part of training", ylabel="over 2/lr", ylim=(0, 1.6))
    for axes in panels:
        many = len(axes.get_legend_handles_labels()[1]) > 4 or axes in panels[4:]
        place = "upper right" if axes in panels[[1, 3]] else "lower right"
        axes.axhline(1, color="black", lw=0.8, ls=":")
        axes.legend(fontsize=6 if axes is panels[1] else 7, loc=place, ncols=2 if many else 1)
    return figure


def lines(axes: Axes, run: dict[str, Any], name: str, color: str, label: str, style: str = "-", scale: float = 1.0) -> None:
    """One training; of the seeds only the first has a place in the legend."""
    values = [math.nan if value is None else value for value in run[name]]
    steps = scale * np.array(run["reading_steps"])[: len(values)]
    axes.plot(steps, values, style, color=color, lw=0.8, alpha=0.7, label=label if run["seed"] == 0 else None)
