"""The pages say what the code says, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

import hessian
import lrfinder

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def anchors(page: Path) -> list[str]:
    """Of the headings of a page, as GitHub and the site make them: lower case, hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_doubt_stands_in_the_docs_with_its_sentence_and_what_to_do():
    page = (ROOT / "docs" / "doubts.md").read_text()
    doubts = (*lrfinder.Doubt, *hessian.CurvatureDoubt)
    assert [doubt.name for doubt in doubts if f"| `{doubt.name}` | {doubt.value} | {doubt.what_to_do} |" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_sources_of_limits_lead_to_headings_of_the_formula_page():
    from limit_cases import LIMIT_CASES, tiny

    from hessian.limits import limits_of

    known = {f"docs/formulas.md#{anchor}" for anchor in anchors(ROOT / "docs" / "formulas.md")}
    assert {limits_of(make([tiny()], lr=0.1))[0].source for make in LIMIT_CASES.values()} <= known


def test_the_regrets_of_the_readme_are_those_that_were_measured():
    """Mean, failures, worst and cost, by method, of the data sets that no constant was fitted on."""
    measured = rows((ROOT / "docs" / "accuracy.md").read_text().split("<!-- unseen")[1].split("<!-- end of unseen")[0])
    shown = rows((ROOT / "README.md").read_text().split("## What was measured")[1].split("## Limits")[0])
    assert len(shown) == 7
    for name, (cost, mean, failed, worst) in shown.items():
        known = measured[{"rule of thumb for the optimizer": "rule of thumb"}.get(name, name)]
        assert [mean.replace(".", "0."), failed, worst, cost] == [known[0], known[2], known[3], known[5]]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a table by their first cells, without code marks."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {name.replace("`", ""): rest for name, *rest in cells if name and not name.startswith("-")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page):
    assert "@@" not in page.read_text()
