"""From the truth and the records of the fine-tuning to the tables of ``docs/fine-tuning.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from page import table

from suite.fine_tuning import DATA, SCHEDULES
from suite.ours import BUDGETS
from suite.peers import METHODS, PRODIGY
from suite.records import Records
from suite.report import OURS
from suite.scoring import FAILED, Curve, curve_of, score

ARM = "finetune"  # the one that everybody is asked about
HABITS = {"2e-5": 2e-5, "3e-4": 3e-4, "1e-3": 1e-3}
NAMES = [*(name for name in METHODS if name not in (*HABITS, "rule of thumb")), PRODIGY, *HABITS, *BUDGETS]
MISSED = 0.15  # regret from which an answer of find_lr is looked at
CLAIMS = {"torch-lr-finder": "15 to 70 times too much", "ignite": "15 to 70 times too much", "Lightning": "1,000 times too little"}
ARMS = {
    "finetune": "whole net, pretrained",
    "frozen": "pretrained, only the head trained",
    "scratch": "whole net, never pretrained",
    "discriminative": "pretrained, head at ten times the LR of the rest",
    "lora": "pretrained, LoRA of rank 4 and the head",
}
LABELS = {"constant": "constant", "warm_linear": "warm-up and linear decay"}


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured."""

    facts: Mapping[str, Any]
    truth: Mapping[str, Any]
    peers: Records
    ours: Records

    def answers(self, method: str, task: str, schedule: str) -> list[dict[str, Any]]:
        """Of every seed; habits give the same to everyone."""
        if method in HABITS:
            return [{"lr": HABITS[method]}]
        return (self.ours if method in BUDGETS else self.peers).of(method, task, schedule)

    def tasks(self, arm: str = ARM) -> list[str]:
        return [f"{data}-{arm}" for data in DATA if f"{data}-{arm}" in self.truth]


def tables(evidence: Evidence) -> dict[str, str]:
    """Every table, by the name of its markers."""
    return {
        "setting": setting(evidence),
        "worth": worth_table(evidence),
        **{f"answers on {task.split('-')[0]}": answer_table(evidence, task) for task in evidence.tasks()},
        "claims": claim_table(evidence),
        "misses": miss_table(evidence),
        "arms": arm_table(evidence),
    }


def setting(evidence: Evidence) -> str:
    """What was pretrained, and how well it reads."""
    facts = evidence.facts
    before, after = facts["losses"]
    sizes = "; ".join(f"{data}: {evidence.truth[f'{data}-{ARM}']['train']} samples, {steps_of(evidence, data)}" for data in DATA)
    return (
        f"{facts['parameters']:,} parameters, {facts['depth']} blocks of width {facts['width']}, {facts['pieces']:,} word pieces; "
        f"{facts['steps']:,} steps of {facts['batch']} windows; loss of the next piece {before:.2f} before, {after:.2f} after "
        f"(perplexity {np.exp(after):.0f}). {sizes}. Python {facts['python']}, torch {facts['torch']}."
    )


def steps_of(evidence: Evidence, data: str) -> str:
    truth = evidence.truth[f"{data}-{ARM}"]
    return f"{truth['steps']} steps of {truth['batch']}"


def worth_table(evidence: Evidence) -> str:
    """Whether it is fine-tuning at all: what pretraining is worth, each at its own best learning rate."""
    rows = [
        [data, label, f"{evidence.truth[task]['parameters']:,}", *best_cells(evidence.truth[task])]
        for data in DATA
        for arm, label in ARMS.items()
        if (task := f"{data}-{arm}") in evidence.truth
    ]
    return table(["", "trained", "parameters", "best LR", "loss (over seeds)", "accuracy", "best accuracy of any LR"], rows)


def best_cells(truth: Mapping[str, Any]) -> list[str]:
    curve, accuracies = curve_of(truth, "warm_linear"), accuracy_of(truth, "warm_linear")
    place = int(curve.losses.argmin())
    losses = [run[0] for run in truth["schedules"]["warm_linear"][str(int(curve.numbers[place]))]]
    loss = f"{curve.losses[place]:.3f} (sd {np.std(losses, ddof=1):.3f})"
    return [f"{curve.best_lr:.2g}", loss, percent(accuracies[place]), percent(accuracies.max())]


def accuracy_of(truth: Mapping[str, Any], schedule: str) -> Any:
    """At every learning rate of the grid, the mean over seeds."""
    runs = {int(number): found for number, found in truth["schedules"][schedule].items()}
    return np.array([np.mean([run[3] for run in runs[number]]) for number in sorted(runs)])


def answer_table(evidence: Evidence, task: str) -> str:
    """A row for each method: what it says, how far from the best that is, and what it leads to."""
    truth = evidence.truth[task]
    curves = [curve_of(truth, schedule) for schedule in SCHEDULES]
    tops = [at(curve, accuracy_of(truth, schedule), curve.best_lr) for schedule, curve in zip(SCHEDULES, curves, strict=True)]
    best = ["the best of the grid", pair(f"{curve.best_lr:.2g}" for curve in curves), "1 / 1", "0 / 0", "0 / 0", pair(map(percent, tops))]
    rows = [row for method in NAMES if (row := answer_row(evidence, method, task))]
    return table(["", "LR, median [range]", "times the best", "regret, mean", "worst", "accuracy"], [best, *rows])


class Judged(NamedTuple):
    """What a method's answers to one task and schedule are, seed by seed, and what they lead to."""

    lrs: list[float]
    silent: str
    ratios: list[float]
    regrets: list[float]
    accuracies: list[float]


def judged(evidence: Evidence, method: str, task: str, schedule: str) -> Judged:
    """Regret and accuracy are those of the brute force, between its learning rates where need be."""
    truth, answers = evidence.truth[task], evidence.answers(method, task, schedule)
    curve, accuracies, lrs = curve_of(truth, schedule), accuracy_of(truth, schedule), known_lrs(answers)
    return Judged(
        lrs,
        silent(answers),
        [lr / curve.best_lr for lr in lrs],
        [score(truth, schedule, one).regret for one in answers],
        [at(curve, accuracies, one.get("lr")) for one in answers],
    )


def answer_row(evidence: Evidence, method: str, task: str) -> list[str] | None:
    """Nothing unless the method was asked about both schedules."""
    found = [judged(evidence, method, task, schedule) for schedule in SCHEDULES]
    if not all(one.regrets for one in found):
        return None
    said = [ranged(one.lrs) + one.silent for one in found]
    few = "" if method in HABITS or len(found[0].regrets) > 2 else f", {len(found[0].regrets)} seed(s)"
    return [
        OURS.get(method, method) + few,
        pair(said) if method in BUDGETS else said[0],
        pair(f"{np.median(one.ratios):.2g}" for one in found) if found[0].lrs else "",
        pair(f"{np.mean(one.regrets):.2f}" for one in found),
        pair(f"{max(one.regrets):.2f}" for one in found),
        pair(percent(float(np.mean(one.accuracies))) for one in found) if method != PRODIGY else "",
    ]


def known_lrs(answers: Iterable[Mapping[str, Any]]) -> list[float]:
    return [one["lr"] for one in answers if one.get("lr")]


def silent(answers: Sequence[Mapping[str, Any]]) -> str:
    """How many seeds a finder left without an answer."""
    without = sum("lr" in one and one["lr"] is None for one in answers)
    return f", none in {without} of {len(answers)}" if without else ""


def at(curve: Curve, values: Any, lr: float | None) -> float:
    """A value between the learning rates of the grid; beyond them that of the last one, and of the lowest where there is none."""
    return float(np.interp(curve.place(lr) if lr else -np.inf, curve.numbers, values))


def ranged(lrs: Sequence[float]) -> str:
    if not lrs:
        return ""
    if len(set(lrs)) == 1:
        return f"{lrs[0]:.2g}"
    return f"{np.median(lrs):.2g} [{min(lrs):.2g}, {max(lrs):.2g}]"


def claim_table(evidence: Evidence) -> str:
    """How many times the best learning rate each method says, over tasks, schedules and seeds."""
    head = ["", "said to be", "times the best: median [range]", "within 3x", "regret, mean", "0.5 or more"]
    return table(head, (row for method in NAMES if (row := claim_row(evidence, method))))


def claim_row(evidence: Evidence, method: str) -> list[str] | None:
    found = [judged(evidence, method, task, schedule) for task in evidence.tasks() for schedule in SCHEDULES]
    ratios, regrets = ([value for one in found for value in getattr(one, name)] for name in ("ratios", "regrets"))
    if not regrets:
        return None
    near = f"{sum(1 / 3 <= ratio <= 3 for ratio in ratios)} of {len(regrets)}" if ratios else ""
    failed = f"{sum(regret >= FAILED for regret in regrets)} of {len(regrets)}"
    return [OURS.get(method, method), CLAIMS.get(method, ""), ranged(ratios), near, f"{np.mean(regrets):.2f}", failed]


def miss_table(evidence: Evidence) -> str:
    """Every answer of ``find_lr`` that costs much, and the doubts it came with."""
    places = [(budget, task, schedule) for budget in BUDGETS for task in evidence.tasks() for schedule in SCHEDULES]
    rows = [row for place in places for row in misses(evidence, *place)]
    return table(["budget", "task", "schedule", "LR", "regret", "doubts"], rows)


def misses(evidence: Evidence, budget: str, task: str, schedule: str) -> Iterator[list[str]]:
    for one in evidence.answers(budget, task, schedule):
        regret = score(evidence.truth[task], schedule, one).regret
        if regret >= MISSED:
            said = f"{one['lr']:.2g}" if one["lr"] else "none"
            yield [budget, task.split("-")[0], LABELS[schedule], said, f"{regret:.2f}", ", ".join(one.get("doubts", []))]


def arm_table(evidence: Evidence) -> str:
    """How ``find_lr`` does on every kind of training here."""
    head = ["", "trained", "budget", "best LR", "LR, median [range]", "times the best", "regret, mean", "worst"]
    return table(head, [row for task in evidence.truth for budget in BUDGETS if (row := arm_row(evidence, task, budget))])


def arm_row(evidence: Evidence, task: str, budget: str) -> list[str] | None:
    found, (data, arm) = judged(evidence, budget, task, "warm_linear"), task.split("-")
    if not found.lrs:
        return None
    cells = [f"{np.median(found.ratios):.2g}", f"{np.mean(found.regrets):.2f}", f"{max(found.regrets):.2f}"]
    return [data, ARMS[arm], budget, f"{curve_of(evidence.truth[task], 'warm_linear').best_lr:.2g}", ranged(found.lrs), *cells]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def pair(cells: Iterable[str]) -> str:
    return " / ".join(cells)
