"""From the truth and the records to the tables of ``docs/accuracy.md``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from page import table

from lrfinder import Doubt
from suite.ours import BUDGETS
from suite.peers import METHODS, PRODIGY
from suite.records import Records
from suite.scoring import FAILED, Difference, Score, Summary, by_task, compare, curve_of, score, summarize
from suite.task import ALL, BASIC, Task
from suite.warmup import warmup_table

Scores = dict[str, list[Score]]  # of every seed, by task
GROUPS: dict[str, Callable[[Task], bool]] = {
    "unseen": lambda task: task.unseen,
    "fitted": lambda task: not task.unseen,
    "finetuning": lambda task: task.fine_tuning,
}
OURS = {budget: f"find_lr, {budget}" for budget in BUDGETS}
METHOD_NAMES = [*METHODS, PRODIGY, *BUDGETS]
MAIN = "standard"
# A suggestion of find_lr is tried and is not from a sweep that was cut short; the benchmark always tells it what is planned.
ELSEWHERE = {"UNCONFIRMED", "INTERRUPTED", "DATA_ENDED", "HORIZON_ASSUMED", "SCHEDULE_UNKNOWN"}
POSSIBLE = sorted(doubt.name for doubt in Doubt if doubt.name not in ELSEWHERE)
TROUBLE = 0.2  # regret from which a doubt was worth reading


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured."""

    tasks: Mapping[str, Task]
    truth: Mapping[str, Any]
    peers: Records
    ours: Records
    warmup: Records

    def records(self, method: str, task: str, schedule: str) -> list[dict[str, Any]]:
        return (self.ours if method in BUDGETS else self.peers).of(method, task, schedule)

    def scores(self, method: str, schedule: str, group: str) -> Scores:
        """Of the tasks in the group whose truth is known and on which the method was measured."""
        found = {}
        for name, truth in self.truth.items():
            if name in self.tasks and GROUPS[group](self.tasks[name]) and schedule in truth["schedules"]:
                records = self.records(method, name, schedule)
                if records:
                    found[name] = [score(truth, schedule, record) for record in records]
        return found

    def summary(self, method: str, schedule: str, group: str) -> Summary | None:
        scores = self.scores(method, schedule, group)
        return summarize(scores) if scores else None

    def cost(self, method: str, group: str) -> float | None:
        """Median over the tasks of the group, in training steps."""
        names = [name for name, task in self.tasks.items() if GROUPS[group](task)]
        records = [record for name in names for schedule in ALL for record in self.records(method, name, schedule)]
        return float(np.median([record["gradients"] for record in records])) if records else None


def tables(evidence: Evidence) -> dict[str, str]:
    """Every table, by the name of its markers."""
    return {
        **{group: regret_table(evidence, group) for group in GROUPS},
        "differences": difference_table(evidence),
        "intervals": interval_table(evidence),
        "schedules": schedule_table(evidence),
        "doubts": doubt_table(evidence),
        "warmup": warmup_table(evidence.truth, sides(evidence), evidence.warmup),
        "tasks": task_table(evidence),
    }


def sides(evidence: Evidence) -> dict[str, list[str]]:
    """Names of the tasks on data sets that nothing was fitted on, and of the others."""
    return {side: [name for name in evidence.truth if GROUPS[side](evidence.tasks[name])] for side in ("unseen", "fitted")}


def regret_table(evidence: Evidence, group: str) -> str:
    """A row for each method; constant rate and 1cycle beside each other."""
    head = ["", "mean regret", "best checkpoint", "failed", "worst", "within 2x of the best", "cost, steps"]
    return table(head, (row for method in METHOD_NAMES if (row := regret_row(evidence, method, group))))


def regret_row(evidence: Evidence, method: str, group: str) -> list[str] | None:
    found = [evidence.summary(method, schedule, group) for schedule in BASIC]
    known = [summary for summary in found if summary]
    if len(known) < len(BASIC):
        return None
    near = "" if method == PRODIGY else pair(f"{100 * summary.near:.0f} %" for summary in known)
    cost = evidence.cost(method, group)
    return [
        OURS.get(method, method),
        pair(f"{summary.regret:.3f}" for summary in known),
        pair(f"{summary.regret_best:.3f}" for summary in known),
        pair(f"{round(summary.failed * summary.runs)} of {summary.runs}" for summary in known),
        pair(f"{summary.worst:.2f}" for summary in known),
        near,
        "0" if not cost or cost < 10 else f"{cost:.0f}",
    ]


def difference_table(evidence: Evidence) -> str:
    """Our regret less that of each peer, on the sets nothing was fitted on."""
    mine = {schedule: by_task(evidence.scores(MAIN, schedule, "unseen")) for schedule in BASIC}
    rows = []
    for method in (*METHODS, PRODIGY):
        theirs = {schedule: by_task(evidence.scores(method, schedule, "unseen")) for schedule in BASIC}
        if all(mine[schedule].keys() & theirs[schedule].keys() for schedule in BASIC):
            rows.append([method, *(difference_cell(compare(mine[schedule], theirs[schedule])) for schedule in BASIC)])
    return table([f"{OURS[MAIN]}, less", "constant", "1cycle"], rows)


def difference_cell(found: Difference) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def interval_table(evidence: Evidence) -> str:
    """How often the interval holds what it should."""
    rows = []
    for budget in BUDGETS:
        for group in ("unseen", "fitted"):
            runs = [one for schedule in BASIC for seeds in evidence.scores(budget, schedule, group).values() for one in seeds]
            judged = [one for one in runs if one.width is not None]
            if judged:
                rows.append([f"{OURS[budget]}, {group}", *interval_cells(judged), spread_cell(evidence, budget, group), f"{len(judged)}"])
    head = ["", "holds a good LR (regret < .05)", "holds the best LR", "width, decades", "log10 LR over seeds, sd: mean, worst", "runs"]
    return table(head, rows)


def interval_cells(runs: Sequence[Score]) -> list[str]:
    good, best = (100 * np.mean([getattr(one, name) for one in runs]) for name in ("good_covered", "best_covered"))
    return [f"{good:.0f} %", f"{best:.0f} %", f"{np.mean([one.width for one in runs if one.width is not None]):.2f}"]


def spread_cell(evidence: Evidence, budget: str, group: str) -> str:
    """How far suggestions for one task lie apart when first weights and batches are drawn anew."""
    spreads = []
    for name in evidence.scores(budget, BASIC[0], group):
        lrs = [record["lr"] for record in evidence.records(budget, name, BASIC[0]) if record["lr"]]
        if len(lrs) > 1:
            spreads.append(float(np.std(np.log10(lrs), ddof=1)))
    return f"{np.mean(spreads):.2f}, {max(spreads):.2f}" if spreads else ""


def schedule_table(evidence: Evidence) -> str:
    """Mean regret of ours under every schedule, on the tasks that know all of them."""
    complete = [name for name, truth in evidence.truth.items() if set(ALL) <= truth["schedules"].keys()]
    rows = []
    for method in METHOD_NAMES:
        cells = [schedule_cell(evidence, method, schedule, complete) for schedule in ALL]
        if all(cells):
            rows.append([OURS.get(method, method), *cells])
    return table([f"mean regret, {len(complete)} tasks", *("1cycle" if name == "onecycle" else name for name in ALL)], rows)


def schedule_cell(evidence: Evidence, method: str, schedule: str, names: Iterable[str]) -> str:
    scores = {**evidence.scores(method, schedule, "unseen"), **evidence.scores(method, schedule, "fitted")}
    regrets = [regret for name, regret in by_task(scores).items() if name in set(names)]
    return f"{np.mean(regrets):.3f}" if regrets else ""


def doubt_table(evidence: Evidence) -> str:
    """How often each doubt was raised, and how much worse it was then."""
    raised: dict[str, list[float]] = defaultdict(list)
    others: dict[str, list[float]] = defaultdict(list)
    judged = list(doubted(evidence))
    for doubt in POSSIBLE:
        for doubts, regret in judged:
            (raised if doubt in doubts else others)[doubt].append(regret)
    rows = [[doubt, f"{len(raised[doubt])} of {len(judged)}", *doubt_cells(raised[doubt], others[doubt])] for doubt in POSSIBLE]
    return table(["doubt", "raised", "mean regret with it", "without it", f"false alarms (regret < {TROUBLE})"], rows)


def doubted(evidence: Evidence) -> Iterable[tuple[list[str], float]]:
    """The doubts and the regret of every run at the standard budget."""
    for name, truth in evidence.truth.items():
        for schedule in truth["schedules"]:
            for record in evidence.records(MAIN, name, schedule):
                if record["lr"] is not None:
                    yield record["doubts"], score(truth, schedule, record).regret


def doubt_cells(raised: Sequence[float], others: Sequence[float]) -> list[str]:
    if not raised:
        return ["", f"{np.mean(others):.3f}", ""]
    false = np.mean([regret < TROUBLE for regret in raised])
    return [f"{np.mean(raised):.3f}", f"{np.mean(others):.3f}" if others else "", f"{100 * false:.0f} %"]


def task_table(evidence: Evidence) -> str:
    """What each task is, its best learning rates, and how far off we are."""
    rows = [task_row(evidence, evidence.tasks[name], truth) for name, truth in evidence.truth.items() if name in evidence.tasks]
    head = ["task", "side", "steps", "batch", "best LR, constant / 1cycle", f"regret of {OURS[MAIN]}", "of fastai minimum"]
    return table(head, sorted(rows, key=lambda row: (row[1], row[0])))


def task_row(evidence: Evidence, task: Task, truth: Mapping[str, Any]) -> list[str]:
    side = "unseen" if task.unseen else "fitted"
    batch = "all" if task.batch > 10_000 else str(task.batch)
    best = pair(f"{curve_of(truth, schedule).best_lr:.2g}" for schedule in BASIC)
    mine = pair(regret_cell(evidence, MAIN, task, schedule) for schedule in BASIC)
    theirs = pair(regret_cell(evidence, "fastai minimum", task, schedule) for schedule in BASIC)
    return [task.name, side, f"{task.steps:,}", batch, best, mine, theirs]


def regret_cell(evidence: Evidence, method: str, task: Task, schedule: str) -> str:
    truth = evidence.truth[task.name]
    regrets = [score(truth, schedule, record).regret for record in evidence.records(method, task.name, schedule)]
    return f"{np.mean(regrets):.2f}" if regrets else ""


def failures(evidence: Evidence, method: str) -> list[tuple[str, str, float]]:
    """Task, schedule and regret of every failed suggestion."""
    return [
        (name, schedule, regret)
        for name, truth in evidence.truth.items()
        for schedule in truth["schedules"]
        for record in evidence.records(method, name, schedule)
        if (regret := score(truth, schedule, record).regret) >= FAILED
    ]


def pair(cells: Iterable[str]) -> str:
    return " / ".join(cells)
