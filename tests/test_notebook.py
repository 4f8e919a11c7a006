"""In a notebook: the example runs, and an answer is shown once, as the fragment, with and without pyplot."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebooks import EXAMPLE, execute, of_cells

from lrfinder import load
from lrfinder.results import Suggestion

LARGEST = 150_000  # bytes of the example with its outputs


@pytest.fixture(scope="module")
def example() -> Any:
    """As it is kept."""
    return nbformat.read(EXAMPLE, as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def done(example: Any, folder: Path) -> Any:
    """The example as it runs now, with what a user may add at its end."""
    notebook = copy.deepcopy(example)
    more = ["import matplotlib.pyplot as plt\nfound", "found.plot();", "print(found)", "found.curve"]
    notebook.cells += of_cells(*more, "lrfinder.find_lr(**make('digits-mlp'), budget=60, curvature=False).lr").cells
    return execute(notebook, folder)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fragments(cell: Any) -> int:
    return sum(output.get("data", {}).get("text/html", "").count('<div class="lrf">') for output in cell.outputs)


def pictures(cell: Any) -> list[str]:
    """Every image or figure among the outputs."""
    kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
    return [kind for kind in kinds if kind.startswith("image/")]


def test_the_example_is_kept_with_outputs_that_are_small_and_no_error(example: Any):
    nbformat.validate(example)
    assert EXAMPLE.stat().st_size < LARGEST
    assert all(cell.outputs and cell.execution_count for cell in code(example))
    assert [output.output_type for cell in code(example) for output in cell.outputs] == ["execute_result", "execute_result", "stream"]
    assert [fragments(cell) for cell in code(example)] == [1, 0, 0]


def test_the_example_runs_and_shows_what_it_is_kept_with(example: Any, done: Any, folder: Path):
    for kept, cell in zip(code(example), code(done), strict=False):
        assert [output.output_type for output in cell.outputs] == [output.output_type for output in kept.outputs]
        assert fragments(cell) == fragments(kept)
        for output, known in zip(cell.outputs, kept.outputs, strict=True):
            assert set(output.get("data", {})) == set(known.get("data", {}))
    found = load(folder / "report.html")
    assert isinstance(found, Suggestion)
    assert code(done)[0].outputs[0].data["text/plain"] == str(found)
    shown = float(code(example)[0].outputs[0].data["text/plain"].split()[2])
    assert shown == pytest.approx(found.lr, rel=0.33)  # other versions of torch round differently


def test_an_answer_is_shown_once_and_a_figure_not_by_itself(done: Any):
    again, plotted, printed, curve, _ = code(done)[-5:]
    assert [fragments(cell) for cell in (again, plotted, printed, curve)] == [1, 0, 0, 1]
    assert [len(cell.outputs) for cell in (again, plotted, printed, curve)] == [1, 0, 1, 1]
    assert [pictures(cell) for cell in (again, plotted, printed, curve)] == [[], [], [], []]


def test_progress_is_shown_in_a_notebook_and_gone_at_the_end(done: Any):
    cell = code(done)[-1]
    assert cell.outputs[-1].output_type == "execute_result"
    bars = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stderr")
    assert "fine sweep" in bars
    assert "Warning" not in bars
