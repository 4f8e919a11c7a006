"""What a warm-up is worth, at a constant learning rate: none, the one that ``find_lr`` advises, and a usual one from zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from page import table
from torch.optim.lr_scheduler import LambdaLR

from lrfinder.horizon import SHARE, WarmUp, warm_up
from suite.peers import Record
from suite.records import Records
from suite.scoring import curve_of
from suite.task import Setup, Task
from suite.training import fit
from suite.truth import SEEDS, rounded

BUDGET, SCHEDULE = "standard", "constant"
FACTORS = {"as suggested": 1.0, "three times as high": 3.0}
LONGEST = 3000  # steps: longer trainings take minutes and warm up for hundreds of steps anyway
HELPED = 0.02  # of the possible decrease: a warm-up that gains less changes nothing


def measure(task: Task, suggested: Records, records: Records) -> None:
    """Fill in what is missing for one task, and what was measured at another suggestion."""
    for seed in SEEDS if task.steps <= LONGEST else ():
        found = suggested.find(BUDGET, task.name, SCHEDULE, seed)
        if found is None or found.get("limit") is None:
            continue
        for name, factor in FACTORS.items():
            lr = found["lr"] * factor
            known = records.find(name, task.name, SCHEDULE, seed)
            if known is None or known["lr"] != lr:
                records.add(name, task.name, SCHEDULE, seed, tried(task, seed, lr, found["limit"]))


def tried(task: Task, seed: int, lr: float, limit: float) -> Record:
    """The loss that every kind of warm-up leads to. The advised one starts at the steady limit, as ours did when this was measured."""
    advised = warm_up(lr, limit, task.steps, SCHEDULE)
    usual = WarmUp(round(SHARE * task.steps), 0.0)
    record: Record = {"lr": lr, "limit": limit, "none": reached(task, seed, lr, WarmUp(0, lr)), "usual": reached(task, seed, lr, usual)}
    return record | ({"advised": reached(task, seed, lr, advised)} if advised.steps else {})


def reached(task: Task, seed: int, lr: float, rise: WarmUp) -> float | None:
    """The validation loss at the end; None if the training broke."""
    setup = task.build(seed, lr)
    outcome = fit(setup, task.steps, risen(setup, rise, lr))
    return None if outcome.diverged else rounded(outcome.final)


def risen(setup: Setup, rise: WarmUp, lr: float) -> LambdaLR:
    """The learning rate in a straight line up to ``lr``, then constant."""
    start = rise.start_lr / lr
    return LambdaLR(setup.optimizer, lambda step: min(1.0, start + (1 - start) * (step + 1) / (rise.steps + 1)))


class Trial(NamedTuple):
    """Regret of one training without a warm-up, with a usual one, and with the advised one, where one is."""

    none: float
    usual: float
    advised: float | None


def trials(truth: Mapping[str, Any], names: Iterable[str], records: Records, kind: str) -> list[Trial]:
    """Of every run at that learning rate."""
    found = []
    for name in names:
        curve = curve_of(truth[name], SCHEDULE)
        for record in records.of(kind, name, SCHEDULE):
            regrets = {arm: judged(curve, record[arm]) for arm in ("none", "usual", "advised") if arm in record}
            found.append(Trial(regrets["none"], regrets["usual"], regrets.get("advised")))
    return found


def judged(curve: Any, loss: float | None) -> float:
    return float(curve.regret_of_loss(curve.initial if loss is None else min(loss, curve.initial)))


def warmup_table(truth: Mapping[str, Any], groups: Mapping[str, Iterable[str]], records: Records) -> str:
    """Rows: data sets and learning rate, apart for those above the limit at step 0 and for those below it."""
    rows = []
    for group, names in groups.items():
        for kind in FACTORS:
            found = trials(truth, names, records, kind)
            parts = {"yes": [one for one in found if one.advised is not None], "no": [one for one in found if one.advised is None]}
            rows += [[f"{kind}, {group}", answer, *cells(part)] for answer, part in parts.items() if part]
    head = ["LR", "warm-up advised", "runs", "regret without", "with the advised one", "with one from zero", "one from zero helps / harms"]
    return table(head, rows)


def cells(found: list[Trial]) -> list[str]:
    """Means, and how often a usual warm-up changes something."""
    none, usual = (np.array([getattr(one, arm) for one in found]) for arm in ("none", "usual"))
    advised = [one.advised for one in found if one.advised is not None]
    changed = f"{np.mean(none - usual > HELPED):.0%} / {np.mean(usual - none > HELPED):.0%}"
    return [f"{len(found)}", f"{none.mean():.3f}", f"{np.mean(advised):.3f}" if advised else "", f"{usual.mean():.3f}", changed]
