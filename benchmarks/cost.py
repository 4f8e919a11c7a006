"""Us and the peers side by side in one process: what a sweep costs, and what the top eigenvalue costs.

Writes ``benchmarks/results/cost.json`` and the tables of ``docs/cost.md``. The peers' environment: ``benchmarks/requirements.txt``.
"""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cost.json"
PAGE = HERE.parent / "docs" / "cost.md"
PARTS = ("sweep", "curvature", "agreement")
PACKAGES = ("torch", "torch-lr-finder", "lightning", "curvlinops-for-pytorch", "hessian-eigenthings", "scipy")


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(PARTS), help="Measure one part; the other keeps its figures.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, after one that does not count.")
@click.option("--dry", is_flag=True, help="Print the figures, write nothing.")
def main(only: str | None, rounds: int, dry: bool) -> None:
    found = measure([only] if only else list(PARTS), rounds)
    if dry:
        click.echo(json.dumps(found, indent=1))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results.update(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)


def measure(parts: list[str], rounds: int) -> dict[str, Any]:
    """The figures of the parts, and where they were measured."""
    os.environ["TQDM_DISABLE"] = "1"  # two sweeps draw a bar that no argument turns off; tqdm reads this when torch imports it
    import agreement
    import curvature_cost
    import peers
    import sweep_cost
    import torch

    torch.set_num_threads(1)
    measures = {"sweep": sweep_cost.measure, "curvature": curvature_cost.measure, "agreement": agreement.measure}
    try:
        found = {part: measures[part](rounds) for part in parts}
    except peers.MissingPeer as missing:
        raise click.ClickException(str(missing)) from missing
    return {**found, "setting": setting(rounds)}


def setting(rounds: int) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {"rounds": rounds, "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def write_page(results: dict[str, Any]) -> None:
    import page

    page.write(PAGE, results)


if __name__ == "__main__":
    main()
