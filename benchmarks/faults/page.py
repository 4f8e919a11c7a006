"""The tables of ``docs/safety.md``, between its markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page import replaced, table

from faults.items import ITEMS
from faults.scenarios import SCENARIOS, Scenario
from faults.trial import ITEM_AFTERWARDS, ITEM_SEEDED

NOT_RUN, REFUSES = "not run", "refuses"

Record = dict[str, Any]
Cells = dict[str, dict[str, Record]]
Tried = dict[str, list[str]]


def write(path: Path, results: dict[str, Any]) -> None:
    """Put the tables where their markers stand; the prose stays."""
    cells, tried = results["cells"], results["tried"]
    text = path.read_text()
    parts = {
        "scenarios": scenario_table(cells, tried),
        "outcomes": outcome_table(cells),
        "items": item_table(cells, tried),
        "setting": setting_line(results),
    }
    for part, lines in parts.items():
        text = replaced(text, part, lines, writer="safety")
    path.write_text(text)


def scenario_table(cells: Cells, tried: Tried) -> str:
    """A row for each scenario: items clean out of items tried."""
    rows = ([name, *(clean_cell(found.get(name), len(items)) for found in cells.values())] for name, items in tried.items())
    return table(["clean / tried", *cells], rows)


def clean_cell(record: Record | None, tried: int) -> str:
    if record is None:
        return NOT_RUN
    return REFUSES if is_refusal(record) else share(tried - len(record["changed"]), tried)


def is_refusal(record: Record) -> bool:
    """Whether the finder raised before any loss."""
    return bool(record["reached"]) and record["losses"] == 0


def share(clean: int, tried: int) -> str:
    """Bold where nothing is missing."""
    return f"**{clean}** / {tried}" if clean == tried else f"{clean} / {tried}"


def outcome_table(cells: Cells) -> str:
    """A row for each fault: what came out of the call, and how many losses were handed over."""
    faults = [name for name, scenario in SCENARIOS.items() if scenario.fault != "none"]
    return table(
        ["what comes out, losses handed over", *cells], ([name, *(outcomes(found, name) for found in cells.values())] for name in faults)
    )


def outcomes(found: dict[str, Record], name: str) -> str:
    return outcome_cell(found[name], SCENARIOS[name]) if name in found else NOT_RUN


def outcome_cell(record: Record, scenario: Scenario) -> str:
    if record["own"]:
        came = "Ctrl-C" if scenario.fault == "interrupt" else "the error"
    else:
        came = f"`{record['reached']}`" if record["reached"] else f"returns {record['message']}".strip()
    broken = f"; NaN steps: {record['after_fault']}" if scenario.fault == "nan" else ""
    return f"{came}, {record['recorded']}{broken}"


def item_table(cells: Cells, tried: Tried) -> str:
    """A row for each item: scenarios that left it clean, out of those that tried it."""
    rows = ([item, *(item_cell(found, item, tried) for found in cells.values())] for item in (*ITEMS, ITEM_AFTERWARDS, ITEM_SEEDED))
    return table(["clean / tried", *cells], rows)


def item_cell(found: dict[str, Record], item: str, tried: Tried) -> str:
    if not found:
        return NOT_RUN
    records = [record for name, record in found.items() if item in tried[name] and not is_refusal(record)]
    return share(sum(item not in record["changed"] for record in records), len(records)) if records else REFUSES


def setting_line(results: dict[str, Any]) -> str:
    return f"Python {results['python']}, {', '.join(f'{name} {version}' for name, version in results['versions'].items())}."
