"""``log_to`` on the real TensorBoard and MLflow, read back from their files."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import make_curve, make_limit, piecewise
from test_writers import Run

from hessian.errors import BadArgument, BadType
from lrfinder import suggest_lr

LR_GRID = np.geomspace(1e-6, 10.0, 29)
KEEP = LR_GRID < 1.01
VALLEY = piecewise([(-6, 2.0), (-3, 2.0), (-2, 0.5), (-1, 0.5), (0, 4.0)], np.log10(LR_GRID))
CURVE = make_curve(
    [*VALLEY[KEEP][:-1], math.inf], LR_GRID[KEEP], status="nonfinite", metric=np.linspace(0, 1, sum(KEEP)), metric_name="accuracy"
)
FOUND = suggest_lr(CURVE, make_limit(0.02, noise_lr=0.01), total_steps=100)
COUNT = len(CURVE.lrs)


# TensorBoard ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board():
    """The real package, whose own imports warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter, EventAccumulator


def read_back(board: Any, folder: Path, result: Any, step: int) -> Any:
    """What TensorBoard reads from the files that were written."""
    writer_class, accumulator = board
    with writer_class(str(folder)) as writer:
        result.log_to(writer, step=step)
    events = accumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def points(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_has_the_sweep_over_its_own_steps_and_over_the_lr(board, tmp_path):
    events = read_back(board, tmp_path, FOUND, 0)
    assert [step for step, _ in points(events, "lrfinder_sweep/lr")] == list(range(COUNT))
    assert [lr for _, lr in points(events, "lrfinder_sweep/lr")] == pytest.approx(CURVE.lrs.tolist(), rel=1e-6)  # float32 in the file
    assert [loss for _, loss in points(events, "lrfinder_sweep/loss")] == pytest.approx(CURVE.losses[:-1].tolist(), rel=1e-6)
    assert len(points(events, "lrfinder_sweep/accuracy")) == COUNT
    places = [step for step, _ in points(events, "lrfinder_by_lr/smooth")]
    assert places == [round(1000 * math.log10(lr)) for lr in CURVE.lrs[:-1]]
    assert -3000 in [step for step, _ in points(events, "lrfinder_by_lr/loss")]  # an LR of 1e-3


def test_tensorboard_has_the_answer_at_the_step_of_the_training(board, tmp_path):
    events = read_back(board, tmp_path, FOUND, 500)
    low, high = FOUND.interval
    for name, value in {"lr": FOUND.lr, "low": low, "high": high, "break_lr": CURVE.break_lr}.items():
        ((step, read),) = points(events, f"lrfinder/{name}")
        assert (step, read) == (500, pytest.approx(value, rel=1e-6))
    for name, value in {"lr": 0.02, "noise_lr": 0.01, "sharpness": 100.0}.items():
        assert points(events, f"stable_lr/{name}") == [(500, pytest.approx(value))]
    assert "lrfinder_sweep_at_500/loss" in events.Tags()["scalars"]  # so that the sweeps of several steps are told apart
    text = events.Tensors("lrfinder/explained/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"suggested lr {FOUND.lr:.2g}" in text
    assert "lr_break / exp(sqrt(r ln A))" in text


def test_the_steps_of_the_users_own_curves_are_left_alone(board, tmp_path):
    writer_class, accumulator = board
    with writer_class(str(tmp_path)) as writer:
        writer.add_scalar("train/loss", 1.0, 7)
        FOUND.log_to(writer)
        writer.add_scalar("train/loss", 0.5, 8)
    events = accumulator(str(tmp_path))
    events.Reload()
    assert points(events, "train/loss") == [(7, 1.0), (8, 0.5)]


# MLflow ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """The real package on a folder of its own; it warns about its own ways of storing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
        yield mlflow
        if mlflow.active_run():
            mlflow.end_run()


def history(mlflow: Any, run: str, name: str) -> list[tuple[int, float]]:
    found = mlflow.MlflowClient().get_metric_history(run, name)
    return sorted((metric.step, metric.value) for metric in found)


def ways(mlflow: Any, run: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Every way to name a run of MLflow."""
    client = mlflow.MlflowClient()
    return {
        "module": (mlflow, {}),
        "run": (run, {}),
        "client": (client, {}),
        "client and run": (client, {"run": run}),
        "client and id": (client, {"run": run.info.run_id}),
    }


@pytest.mark.parametrize("way", ["module", "run", "client", "client and run", "client and id"])
def test_mlflow_has_the_sweep_and_the_answer(way, mlflow):
    run = mlflow.start_run()
    writer, more = ways(mlflow, run)[way]
    brief = replace(CURVE, lrs=CURVE.lrs[:4], losses=CURVE.losses[:4], metric=np.empty(0))
    brief.log_to(writer, **more)
    assert history(mlflow, run.info.run_id, "lrfinder_sweep/loss") == list(enumerate(brief.losses.tolist()))
    assert [step for step, _ in history(mlflow, run.info.run_id, "lrfinder_by_lr/loss")] == [
        round(1000 * math.log10(lr)) for lr in brief.lrs
    ]
    make_limit(0.02).log_to(writer, 3, **more)
    assert history(mlflow, run.info.run_id, "stable_lr/lr") == [(3, 0.02)]
    saved = mlflow.MlflowClient().list_artifacts(run.info.run_id, "stable_lr")
    assert [artifact.path for artifact in saved] == ["stable_lr/explained.txt"]


def test_a_client_without_a_run_is_refused(mlflow):
    with pytest.raises(BadArgument, match="writer is an MlflowClient, which does not know a run; pass run=, the run or its id"):
        make_limit(0.02).log_to(mlflow.MlflowClient())


# W&B ------------------------------------------------------------------------------------------------------------------------------


def test_wandb_has_axes_of_their_own():
    run = Run()
    FOUND.log_to(run, step=9)
    assert {axis for name, axis in run.axes.items() if axis} == {
        f"{prefix}/step" for prefix in ("lrfinder", "lrfinder_sweep_at_9", "lrfinder_by_lr_at_9", "stable_lr")
    }
    sweep = [values for values in run.logged if "lrfinder_sweep_at_9/lr" in values]
    assert [values["lrfinder_sweep_at_9/step"] for values in sweep] == list(range(COUNT))
    assert [values["lrfinder_sweep_at_9/log10_lr"] for values in sweep] == pytest.approx(np.log10(CURVE.lrs).tolist())
    assert all(math.isfinite(value) for values in run.logged for value in values.values())


@pytest.mark.parametrize("result", [FOUND, CURVE, make_limit(0.1)], ids=lambda result: result.kind)
def test_what_takes_no_numbers_is_refused(result):
    with pytest.raises(BadType, match="writer is a list without add_scalar, log and log_metrics"):
        result.log_to([])
