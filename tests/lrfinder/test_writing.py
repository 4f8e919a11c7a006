"""``log_to`` on the real TensorBoard and MLflow, and on W&B where it is installed, read back from their files."""

from __future__ import annotations

import json
import math
import struct
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from curves import make_curve, make_limit, piecewise
from test_writers import Run

from hessian.errors import BadArgument, BadType
from hessian.writers import Log
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


class CountingRun(Run):
    """Counts as a run of W&B does: without commit, values join the row that is yet to be written, and what comes for a step before it
    is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, Any]] = {0: {}}

    def log(self, values: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        last = max(self.rows)
        if step is None or step >= last:
            self.rows.setdefault(last if step is None else step, {}).update(values)
        if commit or (step is None and commit is None):
            self.rows[last + 1] = {}


CountingRun.__module__ = "wandb.sdk.wandb_run"


@pytest.fixture
def counting(monkeypatch):
    """Such a run, and a module that has what is taken of W&B's."""
    run = CountingRun()
    plot = SimpleNamespace(line_series=lambda **drawn: drawn)
    table = lambda columns, data: [dict(zip(columns, row, strict=True)) for row in data]  # noqa: E731
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run, Table=table, plot=plot))
    return run


@pytest.fixture
def real(tmp_path):
    """A run of the real package, and a function that ends it and reads its file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wandb = pytest.importorskip("wandb", reason="needs wandb, which is large")
        run = wandb.init(project="lr", mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True))

        def rows() -> dict[int, dict[str, Any]]:
            run.finish()
            wandb.teardown()  # the process that writes has written all
            return dict(stored_rows(next(tmp_path.glob("wandb/offline-run-*/*.wandb"))))

        yield run, rows
        wandb.teardown()


def stored_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows in the file of a run: records in blocks of 32 KiB, as LevelDB writes its log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<4xHB", data[place : place + 7])
        record = (b"" if kind in (1, 2) else record) + data[place + 7 : place + 7 + length]  # whole, or the first part
        place += 7 + length
        found = Record.FromString(record) if kind in (1, 4) else Record()  # whole, or the last part
        if found.HasField("history"):
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in found.history.item}
            yield found.history.step.num, values


def train_with(run: Any) -> None:
    """A search, then a training that is watched and logs at steps of its own."""
    FOUND.log_to(run)
    log = Log(run, "sharpness")
    for step in range(3):
        log.write(step, {"ratio": 0.5 + step})
        run.log({"loss": 2.0 - step}, step=step)


def check_rows(rows: dict[int, dict[str, Any]]) -> None:
    """Nothing of the training was dropped, and ours stands beside it."""
    assert {step: row["loss"] for step, row in rows.items()} == {0: 2, 1: 1, 2: 0}
    readings = {row["sharpness/step"]: row["sharpness/ratio"] for row in rows.values() if "sharpness/step" in row}
    assert readings == {1: 1.5, 2: 2.5}, "of the two that came before the row was written, the latest"
    assert (rows[0]["lrfinder/lr"], rows[0]["stable_lr/lr"]) == pytest.approx((FOUND.lr, 0.02))


def test_wandb_keeps_what_the_training_logs_at_steps_of_its_own(counting):
    """It drops what comes for a step that its count has passed, so nothing of ours may move the count."""
    train_with(counting)
    check_rows(counting.rows)


def test_wandb_itself_keeps_it_too_and_has_table_and_chart(real):
    run, rows = real
    train_with(run)
    found = rows()
    check_rows(found)
    assert found[0]["lrfinder_sweep.nrows"] == COUNT
    assert found[0]["lrfinder_by_lr_table.nrows"] == 3 * COUNT - sum(~np.isfinite([*CURVE.losses, *CURVE.smooth]))


def test_wandb_has_the_sweep_as_one_table_and_one_chart(counting):
    FOUND.log_to(counting, step=9)
    (row,) = counting.rows.values()
    assert set(counting.axes.values()) >= {"lrfinder/step", "stable_lr/step"}
    assert row["lrfinder/step"] == 9
    table, chart = row["lrfinder_sweep_at_9"], row["lrfinder_by_lr_at_9"]
    assert [line["step"] for line in table] == list(range(COUNT))
    assert [line["log10_lr"] for line in table] == pytest.approx(np.log10(CURVE.lrs).tolist())
    assert [line["loss"] for line in table] == [*CURVE.losses[:-1].tolist(), None]
    assert (chart["keys"], chart["title"]) == (["loss", "smooth", "accuracy"], "lrfinder_by_lr_at_9")
    assert (chart["xs"][0], chart["ys"][0]) == ([round(1000 * math.log10(lr)) for lr in CURVE.lrs[:-1]], CURVE.losses[:-1].tolist())


def test_the_module_of_wandb_stands_for_its_run(counting):
    FOUND.log_to(sys.modules["wandb"])
    assert counting.rows[0]["lrfinder/lr"] == FOUND.lr


def test_wandb_without_a_run_is_refused(counting):
    sys.modules["wandb"].run = None
    with pytest.raises(BadArgument, match=r"wandb has no run yet; call wandb.init\(\) first, or pass the run"):
        FOUND.log_to(sys.modules["wandb"])


# Others ---------------------------------------------------------------------------------------------------------------------------


def test_another_run_has_axes_of_their_own():
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
