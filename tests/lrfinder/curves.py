"""Recorded curves made by hand, and published rules written a second time from their description."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hessian.result_base import Floats
from hessian.results import StableLR
from lrfinder.curve import LRCurve


def make_curve(losses: Any, lrs: Any = None, **changes: Any) -> LRCurve:
    """A curve of these losses, not smoothed unless asked; by default over 1e-6 to 1e1."""
    losses = np.asarray(losses, dtype=np.float64)
    if lrs is None:
        lrs = np.geomspace(1e-6, 10.0, len(losses)) if len(losses) > 1 else [1e-6][: len(losses)]
    lrs = np.asarray(lrs, dtype=np.float64)
    settings: dict[str, Any] = {
        "status": "completed",
        "mode": "exponential",
        "start_lr": float(lrs[0]) if len(lrs) else 1e-6,
        "end_lr": float(lrs[-1]) if len(lrs) else 10.0,
        "num_iter": len(lrs),
        "stop_factor": 4.0,
        "smoothing": 0.0,
        "seed": 0,
        "model": "Net",
        "optimizer": "SGD",
    }
    return LRCurve(lrs=lrs, losses=losses, **{**settings, **changes})


def make_limit(lr: float = 1.0, **changes: Any) -> StableLR:
    """A curvature limit of gradient descent."""
    settings: dict[str, Any] = {
        "sharpness": 2.0 / lr,
        "residual": 0.001 / lr,
        "converged": True,
        "hvps": 8,
        "gradients": 4,
        "formula": "2 / sharpness",
        "preconditioned": False,
        "curvature_lr": lr,
        "noise_lr": None,
        "first_step_lr": None,
        "bound": math.nan,
        "by_parameter": {"weight": 1.0},
        "doubts": (),
        "method": "autograd",
        "along": "hessian",
        "mode": "train",
        "num_batches": 4,
        "batch_size": 16,
        "tol": 0.01,
        "seed": 0,
        "model": "Net",
        "optimizer": "SGD",
    }
    return StableLR(lr=lr, **{**settings, **changes})


def brute_valley(lrs: Floats, losses: Floats) -> float:
    """fastai's valley, from its description: quadratic search, no shortcut."""
    longest = [1] * len(losses)
    for here in range(len(losses)):
        for earlier in range(here):
            if losses[earlier] > losses[here]:
                longest[here] = max(longest[here], longest[earlier] + 1)
    end = longest.index(max(longest))
    start = end - longest[end]  # the published slip: the members are counted as if they were neighbours
    third = (end - start) / 3
    index = start + int(third) + int(third / 2)
    return float(lrs[max(index, 0)])  # fastai would wrap round to the last LR here


def brute_slide(lrs: Floats, losses: Floats, width: int = 15, threshold: float = 0.005) -> float:
    """fastai's slide, from its description: a window moves left until the slopes at its two ends are alike."""
    slope = [losses[1] - losses[0], *((losses[i + 1] - losses[i - 1]) / 2 for i in range(1, len(losses) - 1)), losses[-1] - losses[-2]]
    lefts = range(max(len(losses) - 1 - width, 0), -1, -1)
    answer = lefts[0]
    for moved, left in enumerate(lefts):
        if abs(slope[len(losses) - 1 - moved] - slope[left]) <= threshold:
            break
        answer = left
    return float(lrs[answer])


def piecewise(points: Sequence[tuple[float, float]], x: Floats) -> Floats:
    """Straight lines through ``(log10 lr, loss)``, level outside."""
    places, values = zip(*points, strict=True)
    return np.interp(x, places, values)
