"""What edge_of_stability.py and warm_up.py share: small real data, nets, runs over seeds in two processes, and the page's JSON."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from mnist1d.data import get_dataset_args, make_dataset
from sklearn.datasets import load_digits
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
DOCS = Path(__file__).parents[2] / "docs" / "papers"
PACKAGES = ("torch", "numpy", "scikit-learn", "mnist1d")
CONTEXT, TEXT = 8, 200_000  # characters that the next one is guessed from, and of the text in all


# Data and nets ------------------------------------------------------------------------------------------------------------------------


def digits() -> Pair:
    """1,797 images of handwritten digits, 64 pixels each, in an order that mixes their writers."""
    found = load_digits()
    images, classes = torch.as_tensor(found.data, dtype=torch.float32), torch.as_tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return ((images - images.mean()) / images.std())[order], classes[order]


def signals(count: int) -> Pair:
    """MNIST-1D: signals of 40 values in ten classes."""
    settings = get_dataset_args()
    settings.num_samples, settings.train_split = count + 1, count / (count + 1)  # the generator wants one to test on
    made = make_dataset(settings)
    return torch.as_tensor(made["x"], dtype=torch.float32)[:count], torch.as_tensor(made["y"])[:count]


def text() -> Pair:
    """Eight characters of the standard library's source and the one that follows."""
    codes = ""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py")):
        codes += path.read_text("ascii", "ignore")
        if len(codes) >= TEXT:
            break
    windows = torch.frombuffer(bytearray(codes[:TEXT], "ascii"), dtype=torch.uint8).long().unfold(0, CONTEXT + 1, 5)
    return windows[:, :CONTEXT].contiguous(), windows[:, CONTEXT].contiguous()


def mlp(inputs: int, hidden: Sequence[int], outputs: int, kind: type[nn.Module]) -> nn.Sequential:
    """A net with hidden layers of these widths, as torch initialises it."""
    widths, layers = [inputs, *hidden], list[nn.Module]()
    for before, after in zip(widths, hidden, strict=False):
        layers += [nn.Linear(before, after), kind()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def squared_error(outputs: Tensor, classes: Tensor) -> Tensor:
    """Half the squared distance to the class as a unit vector, averaged over samples, as in Cohen et al. 2021."""
    target = nn.functional.one_hot(classes, outputs.shape[1]).to(outputs)
    return 0.5 * (outputs - target).square().sum(1).mean()


def batches_of(data: Pair, size: int, count: int, seed: int) -> Iterable[Pair]:
    """So many batches; the order of the samples is drawn anew in every pass."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(count):
        if len(order) < size:
            order = torch.randperm(len(data[0]), generator=generator)
        yield data[0][order[:size]], data[1][order[:size]]
        order = order[size:]


# Running ------------------------------------------------------------------------------------------------------------------------------


class Options(NamedTuple):
    """What was asked for on the command line."""

    short: bool
    again: bool
    out: Path


def options(about: str | None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--short", action="store_true", help="one seed and short trainings, in seconds: a check of the direction")
    parser.add_argument("--again", action="store_true", help="no training: claims and figure anew from the numbers of the JSON")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for the JSON and the figure")
    asked = Options(**vars(parser.parse_args()))
    if asked.short and asked.out == DOCS:
        parser.error("--short would replace the figures of docs/papers: pass --out")
    return asked


def quiet() -> None:
    """One thread for each process, and none of the monitor's advice: these trainings are at their limit on purpose."""
    torch.set_num_threads(1)
    logging.getLogger("hessian").setLevel(logging.ERROR)


def kept(asked: Options, name: str) -> dict[str, Any]:
    """What an earlier run wrote."""
    found: dict[str, Any] = json.loads((asked.out / f"{name}.json").read_text())
    return found


def run_all(asked: Options, name: str, work: Callable[[Any], dict[str, Any]], jobs: Sequence[Any]) -> list[dict[str, Any]]:
    """The results of all jobs in their order; on two cores, unless the run is short."""
    if asked.again:
        return list(kept(asked, name)["data"]["runs"])
    if asked.short:
        quiet()
        return [work(job) for job in jobs]
    results = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=quiet) as pool:
        for result in pool.map(work, jobs):
            results.append(result)
            print(f"\r{len(results)} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


# Numbers ------------------------------------------------------------------------------------------------------------------------------


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile; diverged runs count as infinite."""
    known = np.array([value if value == value else np.inf for value in values], dtype=float)
    return tuple(float(np.quantile(known, q, method="closest_observation")) for q in (0.5, 0.25, 0.75))  # type: ignore[return-value]


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """``median [quartiles]``."""
    middle, low, high = quartiles(values)
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def verdict(values: Iterable[float], low: float, high: float) -> str:
    """Whether the claim holds: for the median and both quartiles, for the median alone, or not."""
    inside = [low <= value <= high for value in quartiles(values)]
    return "yes" if all(inside) else "partly" if inside[0] else "no"


def rounded(values: Iterable[float]) -> list[float | None]:
    """Four digits; None for what is not finite, which JSON has no word for."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


def without_nan(value: Any) -> Any:
    """The same, with None for what is not finite, at any depth."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write(asked: Options, name: str, found: dict[str, Any], figure: Figure, started: float) -> None:
    """``NAME.json`` and ``NAME.png``, and the claims on the terminal."""
    versions = {"python": platform.python_version()} | {
        package: version(package) for package in ("torch", "numpy", "scikit-learn", "mnist1d")
    }
    page = {**found, "versions": versions, "seconds": round(time.perf_counter() - started, 1)}
    asked.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(page), indent=1, allow_nan=False)
    temporary = asked.out / f"{name}.json.{os.getpid()}"
    temporary.write_text(text + "\n")
    temporary.replace(asked.out / f"{name}.json")
    figure.savefig(asked.out / f"{name}.png", dpi=110)
    for claim in found["claims"]:
        print(f"{claim['held']:>6}  {claim['claim']}\n        paper: {claim['paper']}\n        ours:  {claim['ours']}")
