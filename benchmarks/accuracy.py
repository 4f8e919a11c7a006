"""Whether a suggested learning rate is right: small real trainings, their truth by brute force, the peers' suggestions and ours.

Everything that was measured is kept under ``benchmarks/results``, and what is there is not measured again.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # both are read when torch is imported

import json
import time
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
TRUTH = HERE / "results" / "truth"
PEERS = HERE / "results" / "accuracy" / "peers.json"
OURS = HERE / "results" / "accuracy" / "ours.json"
WARMUP = HERE / "results" / "accuracy" / "warmup.json"
PAGE = HERE.parent / "docs" / "accuracy.md"
FIGURE = PAGE.with_suffix(".png")


@click.group(help=__doc__)
def main() -> None:
    import torch

    torch.set_num_threads(1)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--part", default="0/1", show_default=True, help="Which share of the tasks, counted from 0: 1/2 is every second one.")
def truth(names: tuple[str, ...], part: str) -> None:
    """Train every task at every learning rate of the grid; one file per task."""
    from suite.tasks import TASKS
    from suite.truth import make_truth

    TRUTH.mkdir(parents=True, exist_ok=True)
    index, parts = map(int, part.split("/"))
    for name in (names or list(TASKS))[index::parts]:
        path = TRUTH / f"{name}.json"
        if path.exists():
            continue
        began = time.perf_counter()
        path.write_text(json.dumps(make_truth(TASKS[name])) + "\n")
        click.echo(f"{name}: {time.perf_counter() - began:.0f} s")


@main.command()
@click.argument("names", nargs=-1)
def peers(names: tuple[str, ...]) -> None:
    """Ask every peer for its suggestion; needs the environment of requirements.txt."""
    from suite.peers import measure, warm_up
    from suite.records import Records
    from suite.tasks import TASKS

    records = Records(PEERS)
    warm_up(next(iter(TASKS.values())))
    for name in names or TASKS:
        measure(TASKS[name], records)
        records.save()


@main.command()
@click.argument("names", nargs=-1)
@click.option("--budget", "budgets", multiple=True, help="One or more of quick, standard, thorough; all without it.")
@click.option("--seeds", default=3, show_default=True, help="Seeds of the model and its data, from 1.")
def ours(names: tuple[str, ...], budgets: tuple[str, ...], seeds: int) -> None:
    """Ask find_lr; what other code than the present measured is measured again."""
    from suite.ours import BUDGETS, fingerprint, measure
    from suite.records import Records
    from suite.tasks import TASKS

    records, mark = Records(OURS), fingerprint()
    for budget in budgets or BUDGETS:
        for name in names or TASKS:
            measure(TASKS[name], budget, records, mark, range(1, seeds + 1))
            records.save()


@main.command()
@click.argument("names", nargs=-1)
def warmup(names: tuple[str, ...]) -> None:
    """Train at our suggestion with and without warm-up."""
    from suite.records import Records
    from suite.tasks import TASKS
    from suite.warmup import measure

    suggested, records = Records(OURS), Records(WARMUP)
    for name in names or TASKS:
        measure(TASKS[name], suggested, records)
        records.save()


@main.command()
@click.option("--dry", is_flag=True, help="Print the tables, write nothing.")
def page(dry: bool) -> None:
    """Put the tables into docs/accuracy.md, between their markers, and draw its figure."""
    from page import replaced
    from suite.figure import draw
    from suite.report import tables

    measured = evidence()
    found = tables(measured)
    if dry:
        click.echo("\n\n".join(f"{part}\n\n{table}" for part, table in found.items()))
        return
    text = PAGE.read_text()
    for part, table in found.items():
        text = replaced(text, part, table, "accuracy")
    PAGE.write_text(text)
    draw(measured, FIGURE)


def evidence() -> Any:
    """All that was measured so far."""
    from suite.records import Records
    from suite.report import Evidence
    from suite.scoring import load_truth
    from suite.tasks import TASKS

    return Evidence(TASKS, load_truth(TRUTH), Records(PEERS), Records(OURS), Records(WARMUP))


if __name__ == "__main__":
    main()
