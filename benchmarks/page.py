"""The tables of ``docs/cost.md``, between its markers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write(path: Path, results: dict[str, Any]) -> None:
    """Put the tables of the parts that were measured where their markers stand; the prose stays."""
    text = path.read_text()
    for part, table in (("sweep", sweep_table), ("curvature", curvature_tables), ("agreement", agreement_table), ("setting", setting_line)):
        if part in results:
            text = replaced(text, part, table(results[part]))
    path.write_text(text)


def replaced(text: str, part: str, table: str, writer: str = "cost") -> str:
    """``text`` with everything between the markers of ``part`` exchanged."""
    start, end = f"<!-- {part}: written by benchmarks/{writer}.py -->\n", f"<!-- end of {part} -->"
    if start not in text or end not in text:
        raise ValueError(f"the page has no place for {part}: {start.strip()} ... {end}")
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}{table}\n{end}", text, flags=re.DOTALL)


def sweep_table(found: dict[str, Any]) -> str:
    """A row for each finder: time over that of the bare loop."""
    tasks = list(found)
    names = list(found[tasks[0]])
    head = ["time / bare loop", *(f"{task}, {milliseconds(found[task][names[0]]['seconds'])}" for task in tasks)]
    return table(head, ([name, *(spread(found[task][name]["ratio"], 2) for task in tasks)] for name in names[1:]))


def curvature_tables(found: dict[str, Any]) -> str:
    """A table for each state of the training."""
    return "\n\n".join(f"Weights {state}:\n\n{curvature_table(tasks)}" for state, tasks in found.items())


def curvature_table(found: dict[str, Any]) -> str:
    """A row for each solver: cost in gradients, and its worst error."""
    measured = list(found.values())
    head = ["cost in gradients", *(f"{task}, {milliseconds(values['gradient_seconds'])}" for task, values in found.items())]
    rows = [[name, *(solver_cell(values["solvers"][name]) for values in measured)] for name in measured[0]["solvers"]]
    seeds = [values["seeds"] for values in measured]
    products = ["its Hessian-vector products", *("-".join(map(str, sorted(set(seed["products"])))) for seed in seeds)]
    errors = [f"its worst error over {seeds[0]['count']} start vectors", *(percent(seed["error"]) for seed in seeds)]
    return table(head, [rows[0], products, errors, *rows[1:]])


def solver_cell(found: dict[str, Any]) -> str:
    if "failure" in found:
        return "refuses"
    return f"{spread(found['cost'], 0)}, {percent(found['error'])}{'' if found['accurate'] else ' (wrong)'}"


def agreement_table(found: dict[str, float]) -> str:
    """A row for each package: how far it is from the value in float64."""
    return table(["", "relative difference"], ([name, f"{difference:.1e}"] for name, difference in found.items()))


def setting_line(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rounds = f"medians of {found['rounds']} rounds (quartiles in brackets)"
    return f"{found['cores']} CPU cores, one thread, {rounds}. Python {found['python']}, {versions}."


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def spread(found: dict[str, float], digits: int) -> str:
    """Median with quartiles."""
    return f"**{found['median']:.{digits}f}** [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def percent(share: float) -> str:
    """Errors below a hundredth of a percent are rounding."""
    return "< 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %"


def milliseconds(found: dict[str, float]) -> str:
    return f"{1000 * found['median']:.3g} ms"
