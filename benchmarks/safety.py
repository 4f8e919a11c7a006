"""Us and the peers on the same training: what each finder leaves changed, also when something goes wrong, and what reaches the user.

Writes ``benchmarks/results/safety.json`` and the tables of ``docs/safety.md``. A finder that is not installed keeps its figures.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # both are read when torch is imported

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "safety.json"
PAGE = HERE.parent / "docs" / "safety.md"
PACKAGES = ("torch", "torch-lr-finder", "lightning", "pytorch-ignite", "fastai")


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Try this finder, as the table names it; once for each. The others keep their figures.")
@click.option("--dry", is_flag=True, help="Print what each left changed, write nothing.")
def main(only: tuple[str, ...], dry: bool) -> None:
    import torch
    from faults import page, spoil
    from faults.finders import FINDERS

    torch.set_num_threads(1)
    spoil.check()
    unknown = sorted(set(only) - set(FINDERS))
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(map(repr, FINDERS))}", param_hint="--only")
    found = {name: measure(name) for name in only or FINDERS}
    if dry:
        click.echo(json.dumps(found, indent=1))
        return
    results = merged(json.loads(RESULTS.read_text()) if RESULTS.exists() else {}, found)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    page.write(PAGE, results)


def measure(name: str) -> dict[str, Any]:
    """One finder in every scenario; nothing if it is not installed."""
    from faults.finders import FINDERS
    from faults.scenarios import SCENARIOS
    from faults.trial import trial, warm_up
    from peers import MissingPeer

    try:
        warm_up(FINDERS[name])
        return {scenario: trial(FINDERS[name], settings) for scenario, settings in SCENARIOS.items()}
    except MissingPeer as missing:
        click.echo(f"{name} is not run: {missing}", err=True)
        return {}


def merged(results: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, beside what is kept of finders that were not run now."""
    from faults.finders import FINDERS

    tried = dict(results.get("tried", {}))
    for records in found.values():
        tried |= {scenario: record.pop("tried") for scenario, record in records.items()}
    cells = {name: found.get(name) or results.get("cells", {}).get(name, {}) for name in FINDERS}
    versions = results.get("versions", {}) | installed()
    return {"python": platform.python_version(), "versions": versions, "tried": tried, "cells": cells}


def installed() -> dict[str, str]:
    """Of the packages that are here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
