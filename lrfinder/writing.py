"""Results to TensorBoard, W&B or MLflow, curves over step axes of their own, in W&B a table and a chart: the training's is left alone."""

from __future__ import annotations

import math
from typing import Any

from hessian.writers import Log, log_limit
from lrfinder.combine import corrected_break
from lrfinder.curve import LRCurve
from lrfinder.results import Suggestion

DECADE = 1000  # steps of the axis that stands for the LR


def log_suggestion(found: Suggestion, writer: Any, step: int, run: Any = None) -> None:
    """The answer at a step of the training, the sweep over its own steps and over the LR, the limit."""
    log = Log(writer, "lrfinder", run)
    low, high = found.interval
    log.write_finite(step, {"lr": found.lr, "low": low, "high": high, "midpoint": found.midpoint, "gradients": found.gradients})
    log.text("explained", f"{found}\n\n{found.explain()}", step)
    log_curve(found.curve, writer, step, run)
    if found.limit is not None:
        log_limit(found.limit, writer, step, run)


def log_curve(curve: LRCurve, writer: Any, step: int, run: Any = None) -> None:
    """The losses over the sweep's own steps, and over the LR; where it broke, at a step of the training."""
    at = f"_at_{step}" if step else ""
    metric = {curve.metric_name or "metric": curve.metric.tolist()} if len(curve.metric) else {}
    losses = {"loss": curve.losses.tolist(), "smooth": curve.smooth.tolist(), **metric}
    logs = [math.log10(lr) for lr in curve.lrs]
    Log(writer, f"lrfinder_sweep{at}", run).series(range(len(logs)), {"lr": curve.lrs.tolist(), "log10_lr": logs, **losses})
    Log(writer, f"lrfinder_by_lr{at}", run).series([round(DECADE * log) for log in logs], losses, chart=True)
    marks = {"break_lr": curve.break_lr, "unstable_from": corrected_break(curve)}
    Log(writer, "lrfinder", run).write_finite(step, {name: lr for name, lr in marks.items() if lr is not None})
