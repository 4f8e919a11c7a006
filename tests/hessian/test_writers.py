"""Numbers and texts to the three writers, as each of them takes them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hessian.errors import BadArgument, BadType
from hessian.writers import Log


class Run:
    """As a run of a tracker with the interface of W&B: its ``log`` refuses metrics whose step it was not told about."""

    def __init__(self) -> None:
        self.axes: dict[str, str | None] = {}
        self.logged: list[dict[str, float]] = []

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, float]) -> None:
        for name in values:
            prefix = name.partition("/")[0]
            assert f"{prefix}/*" in self.axes
        self.logged.append(values)


def test_a_run_gets_one_dictionary_a_step_with_the_step_of_that_axis():
    run = Run()
    log = Log(run, "sweep")
    log.write(3, {"lr": 0.1, "loss": 2.0})
    assert run.axes == {"sweep/step": None, "sweep/*": "sweep/step"}
    assert run.logged == [{"sweep/step": 3, "sweep/lr": 0.1, "sweep/loss": 2.0}]


def test_what_is_not_finite_is_left_out_where_that_is_asked_for():
    run = Run()
    log = Log(run, "sweep")
    log.write_finite(0, {"loss": math.nan, "lr": 0.1})
    log.write_finite(1, {"loss": math.inf})
    assert run.logged == [{"sweep/step": 0, "sweep/lr": 0.1}]


def test_a_writer_that_keeps_no_texts_gets_none():
    run = Run()
    Log(run, "sweep").text("explained", "words", 0)
    assert run.logged == []


@pytest.mark.parametrize("writer", [[], "runs/1", object(), None])
def test_what_is_no_writer_is_refused(writer: Any):
    with pytest.raises(
        BadType, match="without add_scalar, log and log_metrics; pass a TensorBoard SummaryWriter, a W&B run, or the mlflow"
    ):
        Log(writer, "sweep")


def test_a_run_beside_a_writer_that_is_one_is_refused():
    with pytest.raises(BadArgument, match="run is for an MlflowClient, and writer is a Run; leave run out"):
        Log(Run(), "sweep", run="abc")
