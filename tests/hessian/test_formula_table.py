"""The table of limits in docs/formulas.md is what the tests measure.

To write it anew: ``python tests/hessian/test_formula_table.py --write``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "formulas.md"
BLOCK = re.compile(r"(?<=<!-- limits -->\n).*?(?=<!-- /limits -->)", flags=re.DOTALL)
HEAD = ["optimizer", "`c`", "derived in", "predicted for `h = 50`", "measured / predicted"]

if __name__ == "__main__":
    sys.path[:0] = [str(PAGE.parents[1] / folder) for folder in (".", "tests", "tests/hessian")]

import pytest  # noqa: E402
from limit_cases import LIMIT_CASES, LimitCase, measured_case  # noqa: E402
from versions import HAS_DECOUPLED_ADAM  # noqa: E402


def table() -> str:
    """One row a case."""
    rows = [HEAD, ["---"] * len(HEAD), *(row(name) for name in LIMIT_CASES)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(name: str) -> list[str]:
    found = measured_case(name)
    anchor = found.limit.source.partition("#")[2]
    return [
        described(name, LIMIT_CASES[name]),
        f"`{found.limit.formula}`",
        f"[{anchor}](#{anchor})",
        f"{found.predicted:.4g}",
        f"{found.measured / found.predicted:.3f}",
    ]


def described(name: str, made: LimitCase) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in made.settings.items())
    age = re.search(r"young|old|first|early|late", name)
    return f"`{made.cls.__name__}({settings})`{f', {age[0]}' if age else ''}"


@pytest.mark.skipif(not HAS_DECOUPLED_ADAM, reason="the table has a case that this torch does not know")
def test_the_table_in_the_docs_is_what_the_optimizers_do():
    assert BLOCK.search(PAGE.read_text())[0] == table()


def test_a_table_that_is_out_of_date_is_seen():
    page = PAGE.read_text()
    old = BLOCK.search(page)[0]
    assert BLOCK.search(page.replace("1.000 |\n", "1.001 |\n", 1))[0] != old


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    text = table()
    PAGE.write_text(BLOCK.sub(lambda match: text, PAGE.read_text()))
