"""How measurements grow with ranks and with parameters, and a model of their cost.

Real ``torchrun`` on 1, 2 and 4 ranks, and one process for up to 10^8 parameters. Writes ``benchmarks/results/scale.json`` and the tables of
``docs/scale.md``. Linux only: what is sent is asked of the sockets.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from time import process_time
from typing import Any

import click

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale.json"
PAGE = HERE.parent / "docs" / "scale.md"
RANKS = (1, 2, 4)
DRAWN = 10**7


@click.group(help=__doc__, invoke_without_command=True)
@click.option("--only", type=click.Choice(["ranks", "single"]), help="Measure one part; the other keeps its figures.")
@click.pass_context
def main(context: click.Context, only: str | None) -> None:
    if context.invoked_subcommand is None:
        where = setting()
        measured = [measure() for part, measure in (("ranks", over_ranks), ("single", over_sizes)) if only in (None, part)]
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        for found in measured:
            results.update(found)
        RESULTS.write_text(json.dumps({**results, "setting": where}, indent=1) + "\n")
        write_page(json.loads(RESULTS.read_text()))


@main.command()
def page() -> None:
    """Write the tables from what was measured before."""
    write_page(json.loads(RESULTS.read_text()))


@main.command(hidden=True)
@click.argument("name")
@click.argument("size")
def child(name: str, size: str) -> None:
    """One subject of one size in this process."""
    from scaling import single

    single.child(name, size)


def over_ranks() -> dict[str, Any]:
    """Time and bytes of 1, 2 and 4 ranks."""
    return {"ranks": [figures for count in RANKS for figures in under_torchrun(count)]}


def over_sizes() -> dict[str, Any]:
    """Time and memory of one process, and what is counted once."""
    from scaling import single

    return {"single": single.measure(Path(__file__)), "operations": single.operations(), "draw": draw()}


def under_torchrun(count: int) -> list[dict[str, Any]]:
    """What so many ranks took and sent."""
    click.echo(f"{count} ranks", err=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "found.json")
        program = HERE / "scaling" / "under_torchrun.py"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), str(program), str(path)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return json.loads(path.read_text())  # type: ignore[no-any-return]


def draw() -> float:
    """Seconds for a random number of a start vector."""
    from hessian.vectors import normals

    start = process_time()
    total = sum(map(len, normals(DRAWN, 0)))
    return (process_time() - start) / total


def setting() -> dict[str, Any]:
    """The machine, and how many processes others were running on it before."""
    load = round(os.getloadavg()[0], 1)
    return {"cores": os.cpu_count(), "load": load, "python": platform.python_version(), "versions": {"torch": metadata.version("torch")}}


def write_page(results: dict[str, Any]) -> None:
    from scaling import tables

    tables.write(PAGE, results)


if __name__ == "__main__":
    main()
