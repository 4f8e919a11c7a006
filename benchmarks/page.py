"""The tables of ``docs/cost.md``, between its markers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write(path: Path, results: dict[str, Any]) -> None:
    """Put the tables of the parts that were measured where their markers stand; the prose stays."""
    text = path.read_text()
    for part, table in (("sweep", sweep_table), ("curvature", curvature_table), ("setting", setting_line)):
        if part in results:
            text = replaced(text, part, table(results[part]))
    path.write_text(text)


def replaced(text: str, part: str, table: str) -> str:
    """``text`` with everything between the markers of ``part`` exchanged."""
    start, end = f"<!-- {part}: written by benchmarks/cost.py -->\n", f"<!-- end of {part} -->"
    if start not in text or end not in text:
        raise ValueError(f"the page has no place for {part}: {start.strip()} ... {end}")
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}{table}\n{end}", text, flags=re.DOTALL)


def sweep_table(found: dict[str, Any]) -> str:
    """A row for each finder: time over that of the bare loop."""
    tasks = list(found)
    names = list(found[tasks[0]])
    head = ["time / bare loop", *(f"{task}, {milliseconds(found[task][names[0]]['seconds'])}" for task in tasks)]
    return table(head, ([name, *(spread(found[task][name]["ratio"], 2) for task in tasks)] for name in names[1:]))


def curvature_table(found: dict[str, Any]) -> str:
    """A row for each solver: cost in gradients, and its worst error."""
    states = list(found)
    names = list(found[states[0]]["solvers"])
    head = ["cost in gradients (worst error)", *(f"{state}, {milliseconds(found[state]['gradient_seconds'])}" for state in states)]
    rows = [[name, *(solver_cell(found[state]["solvers"][name]) for state in states)] for name in names]
    seeds = [found[state]["seeds"] for state in states]
    products = ["its Hessian-vector products", *("-".join(map(str, sorted(set(seed["products"])))) for seed in seeds)]
    errors = [f"its worst error over {seeds[0]['count']} seeds", *(percent(seed["error"]) for seed in seeds)]
    return table(head, [rows[0], products, errors, *rows[1:]])


def solver_cell(found: dict[str, Any]) -> str:
    if "failure" in found:
        return "fails"
    return f"{spread(found['cost'], 1)}, {percent(found['error'])}"


def setting_line(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{found['cores']} CPU cores, one thread, medians of {found['rounds']} rounds (quartiles in brackets). Python {found['python']}, {versions}."


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
