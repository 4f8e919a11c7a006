"""Numbers to a TensorBoard writer, a W&B run or MLflow. None of the three is imported."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hessian.errors import BadArgument, BadType
from hessian.results import StableLR

KNOWN = "a TensorBoard SummaryWriter, a W&B run, or the mlflow module, a run of it or an MlflowClient"


class Log:
    """One writer and one axis: every number is written as ``axis/name``, over steps that are counted for this axis alone.

    ``writer`` and ``run`` are as in ``StableLR.log_to``: anything with ``add_scalar``, or with ``log`` (W&B, whose metrics get
    ``axis/step`` as their step), or with ``log_metrics`` (the ``mlflow`` module), a run (``info.run_id``), or a client.
    """

    def __init__(self, writer: Any, axis: str, run: Any = None) -> None:
        self.axis = axis
        self._writer, self._run = mlflow_of(wandb_run_of(writer), run)
        # W&B drops what is logged at a step that its count has passed. A row of ours would move the count, so ours join the next row.
        self._joined = {"commit": False} if is_of_wandb(self._writer) else {}
        check_writer(self._writer)
        if not hasattr(self._writer, "add_scalar") and hasattr(self._writer, "define_metric"):
            self._writer.define_metric(f"{axis}/step")
            self._writer.define_metric(f"{axis}/*", step_metric=f"{axis}/step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one step."""
        writer, named = self._writer, {f"{self.axis}/{name}": value for name, value in values.items()}
        if hasattr(writer, "add_scalar"):
            for name, value in named.items():
                writer.add_scalar(name, value, step)
        elif self._run is not None:
            for name, value in named.items():
                writer.log_metric(self._run, name, value, step=step)
        elif hasattr(writer, "log_metrics"):
            writer.log_metrics(named, step=step)
        else:
            writer.log({f"{self.axis}/step": step, **named}, **self._joined)  # its own steps are those of the training

    def write_finite(self, step: int, values: Mapping[str, float]) -> None:
        """Without what is NaN or infinite, which some axes cannot show."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite:
            self.write(step, finite)

    def series(self, steps: Sequence[int], columns: Mapping[str, Sequence[float]], *, chart: bool = False) -> None:
        """Many steps at once, without what is not finite. W&B, where every row is a step of the training, gets one chart or one table."""
        if self._joined:
            drawn = chart_of(self.axis, steps, columns) if chart else table_of(steps, columns)
            self._writer.log({self.axis: drawn}, **self._joined)
            return
        for place, step in enumerate(steps):
            self.write_finite(step, {name: float(values[place]) for name, values in columns.items()})

    def text(self, name: str, text: str, step: int) -> None:
        """A text, where the writer keeps texts; TensorBoard shows it as it was printed."""
        if hasattr(self._writer, "add_text"):
            self._writer.add_text(f"{self.axis}/{name}", "\n".join(f"    {line}" for line in text.splitlines()), step)
        elif hasattr(self._writer, "log_text"):
            place = () if self._run is None else (self._run,)
            self._writer.log_text(*place, text, f"{self.axis}/{name}.txt")


def check_writer(writer: Any) -> None:
    if not any(callable(getattr(writer, name, None)) for name in ("add_scalar", "log_metrics", "log_batch", "log")):
        raise BadType(f"writer is a {type(writer).__name__} without add_scalar, log and log_metrics; pass {KNOWN}.")


def is_of_wandb(writer: Any) -> bool:
    """Whether it is a run of W&B itself; others have a ``log`` too."""
    return type(writer).__module__.partition(".")[0] == "wandb"


def wandb_run_of(writer: Any) -> Any:
    """The active run, for the module of W&B; any other writer as it is."""
    if writer is None or writer is not sys.modules.get("wandb"):
        return writer
    run = getattr(writer, "run", None)
    if run is None:
        raise BadArgument("wandb has no run yet; call wandb.init() first, or pass the run.")
    return run


def table_of(steps: Sequence[int], columns: Mapping[str, Sequence[float]]) -> Any:
    """A table of W&B, one row a step."""
    rows = [
        [step, *(float(value) if math.isfinite(value) else None for value in row)]
        for step, *row in zip(steps, *columns.values(), strict=True)
    ]
    return sys.modules["wandb"].Table(columns=["step", *columns], data=rows)


def chart_of(title: str, steps: Sequence[int], columns: Mapping[str, Sequence[float]]) -> Any:
    """Lines of W&B over the steps."""
    lines = [[(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)] for values in columns.values()]
    xs, ys = ([[point[axis] for point in line] for line in lines] for axis in (0, 1))
    return sys.modules["wandb"].plot.line_series(xs=xs, ys=ys, keys=list(columns), title=title, xname="step")


def mlflow_of(writer: Any, run: Any) -> tuple[Any, str | None]:
    """The writer, and the run that its every call must name; for a run object a client is made."""
    own = getattr(getattr(writer, "info", None), "run_id", None)
    if own is not None and not hasattr(writer, "log"):
        return sys.modules["mlflow"].MlflowClient(), str(own)  # it is loaded, for it made the run
    if not (hasattr(writer, "log_batch") and hasattr(writer, "get_run")):
        if run is not None:
            raise BadArgument(f"run is for an MlflowClient, and writer is a {type(writer).__name__}; leave run out.")
        return writer, None
    found = getattr(getattr(run, "info", run), "run_id", run) or active_run_id()
    if found is None:
        raise BadArgument("writer is an MlflowClient, which does not know a run; pass run=, the run or its id.")
    return writer, str(found)


def active_run_id() -> str | None:
    active = getattr(sys.modules.get("mlflow"), "active_run", lambda: None)()
    return None if active is None else str(active.info.run_id)


def log_limit(limit: StableLR, writer: Any, step: int, run: Any = None) -> None:
    log = Log(writer, "stable_lr", run)
    values = {name: getattr(limit, name) for name in ("lr", "curvature_lr", "noise_lr", "first_step_lr", "sharpness", "hvps")}
    log.write_finite(step, {name: float(value) for name, value in values.items() if value is not None})
    log.text("explained", limit.explain(), step)
