"""The curvature limit on an Axes. No pyplot and no global settings: it works headless and inside anyone's figure."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessian.codec import LARGEST_LOSS
from hessian.readings import SharpnessRecord
from hessian.result_base import Floats, save_figure
from hessian.results import SpectralDensity, StableLR

LIMIT_COLOUR = "#D55E00"  # vermillion of the Okabe-Ito set, told apart from its neighbours by colour-blind eyes

SHOWN = 1e-100, 1e100  # matplotlib's logarithmic ticks overflow on an axis of some three hundred decades
LETTERS = 200  # of one text: matplotlib gives up the layout where a text leaves no room for the axes


def shown(text: str) -> str:
    """Text as it stands in a picture: a ``$`` is no formula, and what cannot be printed is a box."""
    cut = text if len(text) <= LETTERS else f"{text[: LETTERS - 3]}..."
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut).replace("$", r"\$")


def in_sight(lr: float) -> float:
    """The LR, or the end of what an axis can show."""
    return float(min(max(lr, SHOWN[0]), SHOWN[1]))


def drawable(values: Floats) -> Floats:
    """Values with gaps where they are so large that a picture's arithmetic overflows."""
    return np.where(np.abs(values) <= LARGEST_LOSS, values, np.nan)


def draw_limit(limit: StableLR, ax: Axes) -> None:
    """A dashed line and a hatched band above it; the x axis must be the learning rate."""
    lr = in_sight(limit.curvature_lr)
    shade_above(lr, ax, facecolor="none", edgecolor=LIMIT_COLOUR, alpha=0.35, hatch="///", zorder=0.6)
    label = f"curvature limit {limit.curvature_lr:.2g}"
    ax.axvline(lr, color=LIMIT_COLOUR, linestyle=(0, (5, 2)), linewidth=1.6, label=label)
    if limit.noise_lr is not None and limit.binding == "noise":
        ax.axvline(
            in_sight(limit.noise_lr),
            color=LIMIT_COLOUR,
            linestyle=(0, (1, 2)),
            linewidth=1.6,
            label=f"batch-noise limit {limit.noise_lr:.2g}",
        )


def shade_above(lr: float, ax: Axes, **style: Any) -> None:
    """A band from ``lr`` to beyond the right end, for what is drawn later may move that; ``lr`` itself comes into sight."""
    (left, right), lr = ax.get_xlim(), in_sight(lr)
    ax.axvspan(lr, 100 * max(lr, right), linewidth=0, **style)
    ax.set_xlim(left, max(right, lr * (1.5 if ax.get_xscale() == "log" else 1.05)))


def new_axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The caller's, or new ones."""
    if ax is not None:
        return ax.figure.canvas.figure, ax  # the outermost, where ax.figure is a SubFigure
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    return figure, figure.add_subplot()


def draw_legend(ax: Axes, columns: int = 3) -> None:
    """Below the axes, where it hides nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=5, ncols=columns, fontsize=8, frameon=False)


def finished(figure: Figure, ax: Axes, path: str | os.PathLike[str] | None) -> Figure:
    """The figure with its legend, written where a path is given."""
    draw_legend(ax)
    if path is not None:
        save_figure(figure, path)
    return figure


def plot_limit(limit: StableLR, path: str | os.PathLike[str] | None, ax: Axes | None) -> Figure:
    """On an LR axis that has something on it already, or alone on a logarithmic one three decades wide."""
    figure, ax = new_axes(ax)
    if not ax.has_data():
        ax.set_xscale("log")
        ax.set_xlim(in_sight(limit.lr) / 100, in_sight(limit.lr) * 10)
        ax.yaxis.set_visible(False)
        ax.set_xlabel("learning rate")
        title = f"{shown(limit.optimizer)}: stable up to {limit.lr:.3g} ({shown(limit.formula)}, sharpness {limit.sharpness:.3g})"
        ax.set_title(title, fontsize=10)
    draw_limit(limit, ax)
    return finished(figure, ax, path)


def plot_density(density: SpectralDensity, path: str | os.PathLike[str] | None, ax: Axes | None) -> Figure:
    """A line with a band of two standard errors; a logarithmic axis, since a few outliers are what matters."""
    figure, ax = new_axes(ax)
    width = float(density.grid[-1] - density.grid[0]) or 1.0
    floor = in_sight(1 / density.size / width) / 10  # a tenth of a single eigenvalue's, spread over the whole range
    height, error = drawable(density.density), drawable(density.error)
    ax.plot(density.grid, height, color="#0072B2", linewidth=1.6, label=f"density, {density.num_probes} probes")
    if density.num_probes > 1:
        low, high = (height - 2 * error).clip(floor), height + 2 * error
        ax.fill_between(density.grid, low, high, color="#0072B2", alpha=0.25, linewidth=0, label="two standard errors")
    largest = float(drawable(np.array(density.largest)))
    ax.axvline(largest, color=LIMIT_COLOUR, linestyle="--", linewidth=1.2, label=f"largest {density.largest:.3g}")
    ax.set_yscale("log")
    ax.set_ylim(bottom=floor)
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density")
    ax.set_title(f"{density.size:,} eigenvalues, {density.hvps} products", fontsize=10)
    return finished(figure, ax, path)


def draw_record(record: SharpnessRecord, ax: Axes) -> None:
    """The LR and its limit over the steps; where the LR lies above, the space between is hatched."""
    steps = np.array([reading.step for reading in record.readings], dtype=np.float64)
    lrs, limits = (on_log_axis([getattr(reading, name) for reading in record.readings]) for name in ("lr", "limit_lr"))
    if np.isfinite([*lrs, *limits]).any():
        ax.set_yscale("log")
    ax.plot(steps, limits, "--o", color=LIMIT_COLOUR, linewidth=1.6, markersize=3, label="limit of the curvature")
    ax.plot(steps, lrs, "-", color="#0072B2", linewidth=2, label="lr")
    ax.fill_between(
        steps,
        limits,
        lrs,
        where=(lrs > limits).tolist(),
        interpolate=True,
        facecolor="none",
        edgecolor=LIMIT_COLOUR,
        alpha=0.5,
        hatch="///",
        label="above",
    )
    ax.set_xlabel("step")
    ax.set_ylabel("learning rate")


def on_log_axis(values: list[float]) -> Floats:
    """Values with gaps where an LR is zero or a limit infinite."""
    found = np.array(values, dtype=np.float64)
    return np.where((found >= SHOWN[0]) & (found <= SHOWN[1]), found, np.nan)


def plot_record(record: SharpnessRecord, path: str | os.PathLike[str] | None, ax: Axes | None) -> Figure:
    figure, ax = new_axes(ax)
    if record.readings:
        draw_record(record, ax)
        ax.set_title(f"{shown(record.optimizer)}: learning rate against its limit", fontsize=10)
        draw_legend(ax)
    if path is not None:
        save_figure(figure, path)
    return figure
