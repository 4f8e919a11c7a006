"""Notebooks run in a real kernel: for the tests, and as ``python tests/notebooks.py`` to write the outputs of the example anew."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "notebook.ipynb"


def execute(notebook: Any, folder: Path) -> Any:
    """The notebook with its outputs; a cell that raises is an error. It runs in ``folder``, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    client = NotebookClient(
        notebook,
        timeout=120,
        startup_timeout=120,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=environment)


def of_cells(*sources: str) -> Any:
    """A notebook of code cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def main() -> int:
    """Run the example and keep its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        done = execute(nbformat.read(EXAMPLE, as_version=4), Path(folder))
    done.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(done, EXAMPLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
