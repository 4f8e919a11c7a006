"""Writes the table and the sections of docs/papers.md from the JSON files beside it; the prose between them stays.

python examples/papers/write_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
ORDER = ("clr", "sgdr", "super_convergence", "edge_of_stability", "warm_up")


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(), found(PAGE.parent / "papers")))


def found(folder: Path) -> dict[str, Any]:
    """What every reproduction wrote, by name."""
    names = sorted((path.stem for path in folder.glob("*.json")), key=lambda name: (*(name != known for known in ORDER), name))
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def written(page: str, papers: dict[str, Any]) -> str:
    """The page with everything between its markers made anew."""
    page = replaced(page, "claims", claims_table(papers.values()))
    return replaced(page, "sections", "\n\n".join(section(name, paper) for name, paper in papers.items()))


def replaced(page: str, part: str, text: str) -> str:
    start, end = f"<!-- {part}: written by examples/papers/write_page.py -->\n", f"<!-- end of {part} -->"
    if start not in page or end not in page:
        raise ValueError(f"the page has no place for {part}: {start.strip()} ... {end}")
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}{text}\n{end}", page, flags=re.DOTALL)


def claims_table(papers: Iterable[dict[str, Any]]) -> str:
    """A row for every claim, with a link to its paper's section."""
    rows = [
        [
            f"[{paper['paper'].split(',')[0]}](#{anchor(paper['title'])})",
            *(claim[part] for part in ("claim", "paper", "figure")),
            VERDICTS[claim["held"]],
            str(claim["seeds"]),
        ]
        for paper in papers
        for claim in paper["claims"]
    ]
    return table(["paper", "claim", "in the paper", "here", "held here", "seeds"], rows)


VERDICTS = {"yes": "yes", "partly": "partly", "no": "**not held**"}


def section(name: str, paper: dict[str, Any]) -> str:
    """The setting, what came out in full, and the figure."""
    rows = [[claim["claim"], claim["ours"], VERDICTS[claim["held"]]] for claim in paper["claims"]]
    took = f"{paper['cpu_seconds']:.0f} seconds of CPU time in two processes"
    parts = [
        f"## {paper['title']}",
        f"{paper['paper']}. `examples/papers/{name}.py`: {took}, torch {paper['versions']['torch']}.",
        paper["setting"],
        table(["claim", "here", "held"], rows),
        f"![{paper['title']}](papers/{name}.png)",
    ]
    return "\n\n".join(parts)


def anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


if __name__ == "__main__":
    main()
