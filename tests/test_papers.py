"""The reproductions of papers run, what they claim follows from their numbers, and docs/papers.md says what they wrote."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from commands import python
from versions import HAS_NUMPY_2

ROOT = Path(__file__).parents[1]
FOLDER, WRITTEN = ROOT / "examples" / "papers", ROOT / "docs" / "papers"
PNG = b"\x89PNG\r\n\x1a\n"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text() and path.stem != "write_page")
RECORDS = sorted(path.stem for path in WRITTEN.glob("*.json"))


def median(values: Any) -> float:
    return float(np.median(values))


def clr(data: dict[str, Any]) -> None:
    curves = data["digits"]["curves"]
    steps = curves["half"]["steps"][-1]
    fixed = curves["fixed"]["accuracy"][curves["fixed"]["steps"].index(steps)]
    assert median(curves["half"]["accuracy"][-1]) > median(fixed)  # after as many iterations
    assert min(curves["half"]["accuracy"][-1]) > 90  # chance is 10


def sgdr(data: dict[str, Any]) -> None:
    found = data["digits"]
    curves = {
        name: dict(zip([step / found["epoch"] for step in curve["steps"]], map(median, curve["accuracy"]), strict=True))
        for name, curve in found["curves"].items()
    }
    assert curves["T_0=10"][10] < curves["T_0=10"][30]
    assert curves["T_0=1"][1] < curves["T_0=1"][3] < curves["T_0=1"][7] < curves["T_0=1"][31]
    assert curves["T_0=1"][31] > curves["step"][62] - 1


def super_convergence(data: dict[str, Any]) -> None:
    labels = {share: found["final"] for share, found in data["labels"].items()}
    for final in labels.values():
        assert median(final["1cycle"]) > median(final["piecewise, 1/4"])  # after as many iterations
    margins = {share: median(np.subtract(final["1cycle"], final["piecewise"])) for share, final in labels.items()}
    assert margins["0.1"] > margins["1.0"]
    published = {float(lr): curves[0]["published"][-1] for lr, curves in data["echo"].items()}
    limits = [curves[0]["limit"][-1] for curves in data["echo"].values()]
    assert all(estimate == pytest.approx(lr, rel=0.5) for lr, estimate in published.items())  # an echo of the training LR
    assert limits[0] > 10 * published[0.01]


DIRECTIONS: dict[str, Callable[[dict[str, Any]], None]] = {"clr": clr, "sgdr": sgdr, "super_convergence": super_convergence}


STABILITY = {"edge_of_stability", "warm_up"}  # tests/test_papers_stability.py


def test_every_script_is_tested():
    assert set(SCRIPTS) - STABILITY == set(DIRECTIONS)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_short_run_writes_both_files_and_goes_in_the_right_direction(name: str, tmp_path: Path):
    done = python(str(FOLDER / f"{name}.py"), "--short", "--out", "papers", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "papers").iterdir()) == [f"{name}.json", f"{name}.png"]
    assert (tmp_path / "papers" / f"{name}.png").read_bytes().startswith(PNG)
    paper = json.loads((tmp_path / "papers" / f"{name}.json").read_text())
    check_format(paper, seeds=1)
    DIRECTIONS[name](paper["data"])


def check_format(paper: dict[str, Any], seeds: int) -> None:
    assert set(paper) == {"paper", "title", "claims", "setting", "data", "versions", "seconds", "cpu_seconds"}
    assert "arXiv:" in paper["paper"]
    assert paper["claims"]
    for claim in paper["claims"]:
        assert set(claim) == {"claim", "paper", "figure", "ours", "held", "seeds"}
        assert claim["held"] in ("yes", "no", "partly")
        assert "nan" not in claim["ours"]
        assert claim["seeds"] >= seeds


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_in_the_docs_is_whole_and_from_a_full_run(name: str):
    assert name in SCRIPTS
    check_format(json.loads((WRITTEN / f"{name}.json").read_text()), seeds=5)
    assert (WRITTEN / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", RECORDS)
def test_the_claims_follow_from_the_numbers_beside_them(name: str, script: Callable[[str], ModuleType]):
    paper = json.loads((WRITTEN / f"{name}.json").read_text())
    reproduction = script(name).REPRODUCTION
    claims = reproduction.claims(paper["data"])
    assert re.sub(r"\d", "", json.dumps(paper["claims"])) == re.sub(r"\d", "", json.dumps(claims))
    assert paper["claims"] == claims or not HAS_NUMPY_2  # whose quantiles end in other bits, and so round otherwise at a tie
    assert (paper["paper"], paper["title"], paper["setting"]) == (reproduction.paper, reproduction.title, reproduction.setting)


@pytest.mark.parametrize("name", sorted(set(RECORDS) & set(DIRECTIONS)))
def test_the_best_learning_rate_of_a_baseline_is_not_at_the_edge_of_its_grid(name: str):
    tuned = list(baselines(json.loads((WRITTEN / f"{name}.json").read_text())["data"]))
    assert tuned
    for found in tuned:
        assert found["grid"][0] < found["lr"] < found["grid"][-1], found["grid"]


def baselines(data: Any) -> Any:
    """Every choice among a grid, wherever it stands."""
    if isinstance(data, dict):
        if "grid" in data:
            yield data
        for value in data.values():
            yield from baselines(value)


def test_the_page_is_what_the_records_say(script: Callable[[str], ModuleType]):
    page = script("write_page")
    text = (ROOT / "docs" / "papers.md").read_text()
    assert page.written(text, page.found(WRITTEN)) == text


def test_a_page_without_its_markers_is_refused(script: Callable[[str], ModuleType]):
    with pytest.raises(ValueError, match="no place for claims"):
        script("write_page").written("# Papers\n", {})


@pytest.mark.parametrize(
    ("ours", "theirs", "median", "p"),
    [
        ([3.0, 4.0, 5.0], [2.0, 2.0, 2.0], 2.0, 0.25),  # of eight changes of signs, two are as extreme
        ([1.0, 1.0], [1.0, 1.0], 0.0, 1.0),
        ([0.0, 2.0], [1.0, 1.0], 0.0, 1.0),
    ],
)
def test_pairs_are_compared_by_all_changes_of_signs(
    ours: list[float], theirs: list[float], median: float, p: float, script: Callable[[str], ModuleType]
):
    pairs = script("common.statistics").paired(ours, theirs)
    assert (pairs.median, pairs.p) == (median, p)


@pytest.mark.parametrize(
    ("differences", "equal", "more"),
    [([1.0] * 8, "yes", "yes"), ([1.0, 1.0, 1.0], "yes", "partly"), ([-0.4] * 8, "partly", "no"), ([-0.6] * 8, "no", "no")],
)
def test_a_verdict_needs_a_median_and_a_sure_one_a_test(
    differences: list[float], equal: str, more: str, script: Callable[[str], ModuleType]
):
    statistics = script("common.statistics")
    pairs = statistics.paired(differences, [0.0] * len(differences))
    assert (statistics.at_least_as_good(pairs), statistics.larger(pairs)) == (equal, more)


def test_trainings_of_a_stack_are_those_of_its_seeds_alone(script: Callable[[str], ModuleType]):
    training = script("common.training")
    plan = training.Training(data="digits", net="image_conv", seeds=(1, 2), steps=20, lr=0.05, schedule=training.constant)
    together = training.train(plan).final
    alone = [training.train(replace(plan, seeds=(seed,))).final[0] for seed in plan.seeds]
    assert together == pytest.approx(alone, abs=0.6)  # two of 360 samples: sums in another order
    assert abs(together[0] - together[1]) > 2


def test_a_stack_of_learning_rates_is_what_each_gives_alone(script: Callable[[str], ModuleType]):
    training, jobs = script("common.training"), script("common.jobs")
    plan = training.Training(data="digits", net="image_conv", seeds=(1, 2), steps=20, lr=1.0, schedule=training.piecewise)
    together = training.train(jobs.over(plan, (0.05, 0.2))).final
    alone = [share for lr in (0.05, 0.2) for share in training.train(replace(plan, lr=lr)).final]
    assert together == pytest.approx(alone, abs=0.6)
    assert min(together[2:]) > max(together[:2]) + 2


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script as it is when it runs, with its own folder first on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module
