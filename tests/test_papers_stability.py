"""The papers on stability, in their short modes: the direction of each claim, read off the JSON that the script wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import python

PAPERS = Path(__file__).parents[1] / "examples" / "papers"
FIELDS = {"paper", "title", "claims", "setting", "data", "versions", "seconds", "cpu_seconds"}


def short(name: str, folder: Path) -> dict[str, Any]:
    """What the script writes in its short mode, checked for its form."""
    done = python(str(PAPERS / f"{name}.py"), "--short", "--out", str(folder), folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert set(found) == FIELDS
    for claim in found["claims"]:
        assert set(claim) == {"claim", "paper", "figure", "ours", "held", "seeds"}
        assert claim["held"] in ("yes", "no", "partly")
        assert claim["claim"] in done.stdout
    return found


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return short("edge_of_stability", tmp_path_factory.mktemp("edge"))


def runs(found: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [run for run in found["data"]["runs"] if all(run[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_the_sharpness_climbs_to_the_limit_and_stays(edge: dict[str, Any], optimizer: str):
    (run,) = runs(edge, kind="full", optimizer=optimizer)
    assert run["first"] < 0.75
    assert run["end"] == pytest.approx(1.0, abs=0.2)
    assert run["end"] == pytest.approx(np.median(run["ratios"][round(len(run["ratios"]) * 2 / 3) :]), rel=1e-3)
    assert run["loss_left"] < 0.5


def test_small_batches_stay_below_the_limit(edge: dict[str, Any]):
    (whole,), (batches,) = runs(edge, kind="full", optimizer="gd"), runs(edge, kind="batches")
    assert batches["lr"] == whole["lr"]
    assert batches["end"] < 0.8 < whole["end"]


def test_a_start_above_the_limit_is_a_catapult_and_one_below_is_not(edge: dict[str, Any]):
    below, above = sorted(runs(edge, kind="catapult"), key=lambda run: run["start"])
    assert below["limit_rise"] <= 1 < 1.2 < above["limit_rise"]
    assert above["lowest"] < 0.7
    assert above["loss_left"] < 0.5


def test_warm_up_makes_larger_learning_rates_stable_above_all_with_adam(tmp_path: Path):
    found = short("warm_up", tmp_path)
    rows = {row["optimizer"]: row for row in found["data"]["runs"]}
    gain = {name: row["with"] / row["without"] for name, row in rows.items()}
    assert gain["gd"] > 1.05
    assert gain["adam"] > 3
    for row in rows.values():
        assert 1 / 4 < row["without"] / row["limit"] < 4
        assert row["survived_without"] >= row["without"]
