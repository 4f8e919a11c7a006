"""What was measured for a method, kept in one file, so that nothing is measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANY = "any"  # in place of a schedule, for methods that do not ask for it


class Records:
    """Records by method, task, schedule and seed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, dict[str, dict[str, dict[str, Any]]]] = json.loads(path.read_text()) if path.exists() else {}

    def find(self, method: str, task: str, schedule: str, seed: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.kept.get(method, {}).get(task, {}).get(schedule, {}).get(str(seed))
        return found

    def add(self, method: str, task: str, schedule: str, seed: int, record: dict[str, Any]) -> None:
        self.kept.setdefault(method, {}).setdefault(task, {}).setdefault(schedule, {})[str(seed)] = record

    def of(self, method: str, task: str, schedule: str) -> list[dict[str, Any]]:
        """The records of all seeds; those for any schedule, where there are none for this one."""
        found = self.kept.get(method, {}).get(task, {})
        return list(found.get(schedule, found.get(ANY, {})).values())

    def save(self) -> None:
        """Written beside the old file and moved over it: a run that is stopped leaves one of the two whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(self.kept, indent=0) + "\n")
        draft.replace(self.path)
