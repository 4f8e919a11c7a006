"""The command line of a reproduction, and the two files that it writes."""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from matplotlib.figure import Figure

from common.statistics import Held, Pairs, points

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "mnist1d")
FOLDER = Path(__file__).parents[3] / "docs" / "papers"


class Claim(TypedDict):
    """One statement of a paper, beside what came out here, in one figure and in full."""

    claim: str
    paper: str
    figure: str
    ours: str
    held: Held
    seeds: int


def of_pairs(pairs: Pairs, verdict: Callable[[Pairs], Held], *, claim: str, paper: str, ours: str) -> Claim:
    """A claim about two trainings, which their differences seed by seed decide."""
    return Claim(claim=claim, paper=paper, figure=points(pairs), ours=ours, held=verdict(pairs), seeds=len(pairs.differences))


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One paper.

    Attributes:
        name: Of the files.
        paper, title: Who wrote what.
        setting: What was trained, in a few sentences.
        measure: Makes the numbers, in a few seconds if told to be short.
        claims: Reads the claims off the numbers, and off nothing else.
        draw: Makes the figure from the numbers.
    """

    name: str
    paper: str
    title: str
    setting: str
    measure: Callable[[bool], dict[str, Any]]
    claims: Callable[[dict[str, Any]], list[Claim]]
    draw: Callable[[dict[str, Any]], Figure]

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Measure, write ``NAME.json`` and ``NAME.png``, and print the claims."""
        parser = argparse.ArgumentParser(description=f"{self.title} ({self.paper})")
        parser.add_argument("--short", action="store_true", help="a few seconds: fewer seeds, fewer steps")
        parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="where both files go (default: docs/papers)")
        parser.add_argument("--again", action="store_true", help="measure nothing: read the numbers of the JSON file that is there")
        asked = parser.parse_args(arguments)
        self.write(asked.out, json.loads(self.file(asked.out).read_text()) if asked.again else self.measured(asked.short))

    def measured(self, short: bool) -> dict[str, Any]:
        """The numbers, and how they were made."""
        torch.set_num_threads(1)
        started = time.perf_counter()
        data = rounded(self.measure(short))
        return {
            "data": data,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(cpu_seconds(), 1),
        }

    def write(self, folder: Path, found: dict[str, Any]) -> None:
        claims = self.claims(found["data"])
        text = {"paper": self.paper, "title": self.title, "setting": self.setting, "claims": claims}
        numbers = {name: found[name] for name in ("versions", "seconds", "cpu_seconds", "data")}
        folder.mkdir(parents=True, exist_ok=True)
        self.file(folder).write_text(json.dumps({**text, **numbers}, indent=1) + "\n")
        self.draw(found["data"]).savefig(folder / f"{self.name}.png", dpi=110)
        for claim in claims:
            print(f"{claim['held']:>6}  {claim['claim']}\n        {claim['ours']}")

    def file(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"


def cpu_seconds() -> float:
    """Of this process and its workers, which other programs on the machine do not change much."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def rounded(value: Any) -> Any:
    """Numbers as they are kept: six digits, None for what is not finite; so what is claimed is claimed of the numbers in the file."""
    if isinstance(value, dict):
        return {str(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
