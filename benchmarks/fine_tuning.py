"""Fine-tuning: a language model that is pretrained here, its best learning rate by brute force, and what every finder suggests for it.

Everything that was measured is kept under ``benchmarks/results/fine_tuning``, and what is there is not measured again.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # both are read when torch is imported

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
WEIGHTS = HERE / ".pretrained"
RESULTS = HERE / "results" / "fine_tuning"
PAGE = HERE.parent / "docs" / "fine-tuning.md"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Place:
    """Where the weights, what was measured, and the page lie; and how large it all is."""

    weights: Path
    results: Path
    page: Path
    tiny: bool

    def recipe(self) -> Any:
        from suite.fine_tuning import RECIPE, TINY

        return TINY if self.tiny else RECIPE

    def tasks(self) -> Any:
        from suite.fine_tuning import tasks

        return tasks(self.recipe(), self.weights)

    def records(self, name: str) -> Any:
        from suite.records import Records

        return Records(self.results / f"{name}.json")


@click.group(help=__doc__)
@click.option(
    "--weights", type=click.Path(path_type=Path), default=WEIGHTS, help="Folder of the pretrained model; made where it is missing."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of what was measured.")
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page with the markers.")
@click.option("--tiny", is_flag=True, help="A model that reads nothing well, trained in seconds: does it all run?")
@click.pass_context
def main(context: click.Context, weights: Path, results: Path, page: Path, tiny: bool) -> None:
    import torch

    torch.set_num_threads(1)
    context.obj = Place(weights, results, page, tiny)


@main.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def truth(place: Place, names: tuple[str, ...]) -> None:
    """Fine-tune every task at every learning rate of the grid; one file per task."""
    from suite.fine_report import ARM
    from suite.fine_truth import make_truth
    from suite.fine_tuning import facts

    tasks, folder = place.tasks(), place.results / "truth"
    folder.mkdir(parents=True, exist_ok=True)
    (place.results / "pretrained.json").write_text(json.dumps(facts(place.recipe(), place.weights), indent=1) + "\n")
    for name in names or tasks:
        path, began = folder / f"{name}.json", time.perf_counter()
        known = json.loads(path.read_text()) if path.exists() else {}
        make_truth(tasks[name], known, partial(save, path), rough=place.tiny or not name.endswith(f"-{ARM}"))
        click.echo(f"{name}: {time.perf_counter() - began:.0f} s")


def save(path: Path, truth: Any) -> None:
    """Written beside the old file and moved over it."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(truth) + "\n")
    draft.replace(path)


@main.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def peers(place: Place, names: tuple[str, ...]) -> None:
    """Ask every peer about the whole pretrained nets; needs the environment of requirements.txt. Without it they keep their figures."""
    from peers import MissingPeer, load
    from suite.fine_report import ARM
    from suite.peers import PACKAGES, measure

    try:
        for package in PACKAGES:
            load(package)
    except MissingPeer as missing:
        click.echo(f"no peer is asked: {missing}", err=True)
        return
    records, tasks = place.records("peers"), place.tasks()
    for name in names or [name for name in tasks if name.endswith(f"-{ARM}")]:
        measure(tasks[name], records, SEEDS)
        records.save()


@main.command()
@click.argument("names", nargs=-1)
@click.option("--budget", "budgets", multiple=True, help="One or more of quick, standard, thorough; all without it.")
@click.pass_obj
def ours(place: Place, names: tuple[str, ...], budgets: tuple[str, ...]) -> None:
    """Ask find_lr; what other code than the present measured is measured again. The standard budget is asked about every task."""
    from suite.fine_report import ARM
    from suite.ours import BUDGETS, fingerprint, measure
    from suite.report import MAIN

    records, mark, tasks = place.records("ours"), fingerprint(), place.tasks()
    for budget in budgets or BUDGETS:
        for name in names or [name for name in tasks if budget == MAIN or name.endswith(f"-{ARM}")]:
            measure(tasks[name], budget, records, mark, SEEDS[:2] if place.tiny else SEEDS)
            records.save()


@main.command()
@click.pass_obj
def page(place: Place) -> None:
    """Put the tables into docs/fine-tuning.md, between their markers, and draw its figure."""
    from page import replaced
    from suite.fine_figure import draw
    from suite.fine_report import Evidence, tables
    from suite.scoring import load_truth

    facts = json.loads((place.results / "pretrained.json").read_text())
    evidence = Evidence(facts, load_truth(place.results / "truth"), place.records("peers"), place.records("ours"))
    text = place.page.read_text()
    for part, table in tables(evidence).items():
        text = replaced(text, part, table, "fine_tuning")
    place.page.write_text(text)
    draw(evidence, place.page.with_suffix(".png"))


if __name__ == "__main__":
    main()
