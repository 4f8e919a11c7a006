"""``benchmarks/fine_tuning.py``: it runs, and its page says what its records say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGE = ROOT / "docs" / "fine-tuning.md"
RESULTS = BENCHMARKS / "results" / "fine_tuning"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="a source distribution has no benchmarks")


def run(options, *commands):
    """Commands of the script, one after the other in one process, on this checkout whatever is installed."""
    script = (
        f"import sys, fine_tuning\nfor command in {commands!r}:\n    fine_tuning.main([*sys.argv[1:], *command], standalone_mode=False)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(ROOT)])}
    subprocess.run([sys.executable, "-c", script, *map(str, options)], check=True, env=environment, capture_output=True, timeout=300)


def rows(page, part):
    """Cells of the table between the markers, by the first of each row."""
    table = page.split(f"<!-- {part}: written by benchmarks/fine_tuning.py -->\n")[1].split(f"<!-- end of {part} -->")[0]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return {cells[0]: cells for cells in split}


def best(truth, schedule):
    """Log10 of the learning rate with the lowest mean loss; a training that did not gain counts as one that never began."""
    losses = {
        int(number): mean(start if broke else min(loss, start) for (loss, _, broke, _), start in zip(runs, truth["initial"], strict=True))
        for number, runs in truth["schedules"][schedule].items()
    }
    return 10 ** (min(losses, key=losses.get) / truth["grid"])


def answers(records, budget, task, schedule):
    return [one["lr"] for one in records[budget][task][schedule].values()]


def test_the_page_is_what_the_kept_records_make_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    run(["--page", page], ["page"])
    assert page.read_text() == PAGE.read_text()
    assert page.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.parametrize("data", ["families", "swapped"])
def test_best_learning_rates_and_answers_on_the_page_are_those_of_the_records(data):
    table, task = rows(PAGE.read_text(), f"answers on {data}"), f"{data}-finetune"
    truth, records = json.loads((RESULTS / "truth" / f"{task}.json").read_text()), json.loads((RESULTS / "ours.json").read_text())
    schedules = ("constant", "warm_linear")
    assert table["the best of the grid"][1] == " / ".join(f"{best(truth, schedule):.2g}" for schedule in schedules)
    for budget in (budget for budget in ("quick", "standard", "thorough") if f"find_lr, {budget}" in table):
        found = [answers(records, budget, task, schedule) for schedule in schedules]
        said = table[f"find_lr, {budget}"][1].split(" / ")
        assert [one.split()[0] for one in said] == [f"{median(lrs):.2g}" for lrs in found]
        ratios = [median(lrs) / best(truth, schedule) for lrs, schedule in zip(found, schedules, strict=True)]
        assert table[f"find_lr, {budget}"][2] == " / ".join(f"{ratio:.2g}" for ratio in ratios)
    assert "find_lr, standard" in table


def test_a_tiny_model_goes_the_whole_way(tmp_path):
    page, results = tmp_path / "page.md", tmp_path / "results"
    page.write_text(PAGE.read_text())
    tiny = ["--tiny", "--weights", tmp_path / "weights", "--results", results, "--page", page]
    asked = ["ours", "--budget", "quick", "swapped-finetune"]
    run(tiny, ["truth", "families-finetune", "swapped-finetune"], asked, ["page"])
    table, truth = rows(page.read_text(), "answers on swapped"), json.loads((results / "truth" / "swapped-finetune.json").read_text())
    records = json.loads((results / "ours.json").read_text())
    assert table["the best of the grid"][1] == f"{best(truth, 'constant'):.2g} / {best(truth, 'warm_linear'):.2g}"
    lrs = answers(records, "quick", "swapped-finetune", "constant")
    assert f"[{min(lrs):.2g}, {max(lrs):.2g}]" in table["find_lr, quick, 2 seed(s)"][1]
    assert "torch-lr-finder" not in table
