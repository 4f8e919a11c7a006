"""What ``lrfinder.find_lr`` suggests for a task, at every budget and for every schedule whose truth is known."""

from __future__ import annotations

import ast
import hashlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

import lrfinder
from suite.peers import Record, step_seconds
from suite.records import Records
from suite.task import LossFn, Setup, Task

BUDGETS = ("quick", "standard", "thorough")
USUAL_LR = 1e-3  # what the optimizer holds when we are asked
FORWARD = 1 / 3  # of a gradient
ASKED_AS = {"warm_linear": "linear"}  # schedules that find_lr knows under another name
# So begin the names of modules that decide nothing.
LEFT_OUT = ("cli", "comparison", "demo", "describe", "explain", "layout", "phases", "plotting", "progress", "report", "writ")


def suggest(task: Task, setup: Setup, loss_fn: LossFn, schedule: str, budget: str, seed: int) -> Any:
    """The call itself; whatever it learns to take is passed on here."""
    return lrfinder.find_lr(
        setup.model,
        setup.optimizer,
        setup.loader,
        loss_fn=loss_fn,
        total_steps=task.steps,
        schedule=ASKED_AS.get(schedule, schedule),  # type: ignore[arg-type]
        budget=budget,
        seed=seed,
        progress=False,
    )


class Counted:
    """A loss that counts how often it is computed, with a gradient to follow or without."""

    def __init__(self, loss_fn: LossFn) -> None:
        self.loss_fn, self.with_gradient, self.without = loss_fn, 0, 0

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        if torch.is_grad_enabled():
            self.with_gradient += 1
        else:
            self.without += 1
        return self.loss_fn(model, batch)

    @property
    def gradients(self) -> float:
        """Hessian-vector products are not in it; they are in the time."""
        return round(self.with_gradient + FORWARD * self.without, 1)


def measure(task: Task, budget: str, records: Records, mark: str, seeds: Iterable[int]) -> None:
    """Fill in what is missing for one task, and what other code measured."""
    for schedule in task.schedules:
        for seed in seeds:
            known = records.find(budget, task.name, schedule, seed)
            if known is None or known["code"] != mark:
                records.add(budget, task.name, schedule, seed, {**asked(task, schedule, budget, seed), "code": mark})


def asked(task: Task, schedule: str, budget: str, seed: int) -> Record:
    """The suggestion with its interval, doubts and cost; or why there is none."""
    setup = task.build(seed, USUAL_LR)
    counted = Counted(setup.loss_fn)
    began = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = answer(suggest(task, setup, counted, schedule, budget, seed))
    except Exception as error:  # a refusal counts as no suggestion, an error too; which one is in the record
        found = {"lr": None, "error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    seconds = perf_counter() - began
    cost = {"losses": counted.gradients, "seconds": round(seconds, 4), "gradients": round(seconds / step_seconds(task), 1)}
    return {**found, **cost}


def answer(found: Any) -> Record:
    """What is kept of a suggestion."""
    limit = None if found.limit is None else found.limit.curvature_lr
    return {"lr": found.lr, "interval": list(found.interval), "doubts": [doubt.name for doubt in found.doubts], "limit": limit}


def fingerprint() -> str:
    """Version, and a hash of the code that decides: comments, docstrings and layout do not change it."""
    digest = hashlib.sha256()
    for name, path in deciding_modules():
        digest.update(f"{name}\n{without_docstrings(path.read_text())}\n".encode())
    return f"{metadata.version('lrfinder')}+{digest.hexdigest()[:12]}"


def deciding_modules() -> Iterator[tuple[str, Path]]:
    """Of both packages, in the order of their names; all of them, since which ones are loaded depends on the call."""
    for package in ("hessian", "lrfinder"):
        folder = Path(str(sys.modules[package].__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            if not any(part.startswith(LEFT_OUT) for part in path.relative_to(folder).parts):
                yield str(path.relative_to(folder)), path


def without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
