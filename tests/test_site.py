"""The documentation site: every public name is on it, every page is in its index, and the eight pictures show what their page says.

That its links lead somewhere and its docstrings are well formed is found when it is built: ``make docs``.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import hessian
import lrfinder
from lrfinder.describe import all_doubts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = "\n".join(page.read_text() for page in sorted(DOCS.glob("reference-*.md")))


# Names ------------------------------------------------------------------------------------------------------------------------------


def documented(text: str) -> set[str]:
    """Full names of what autodoc puts on these pages."""
    found, module = set(), ""
    for kind, name in re.findall(r"^\.\. (currentmodule|auto(?:function|class|exception)):: (\S+)$", text, flags=re.MULTILINE):
        if kind == "currentmodule":
            module = name
        else:
            found.add(name if "." in name else f"{module}.{name}")
    return found


def public() -> Iterator[str]:
    """Everything that users import, the adapters by what the page about frameworks imports from them."""
    for package in (hessian, lrfinder):
        yield from (f"{package.__name__}.{name}" for name in package.__all__)
    adapters = re.findall(r"^from (lrfinder\.integrations\.\w+) import (.+)$", (DOCS / "frameworks.md").read_text(), flags=re.MULTILINE)
    yield from (f"{module}.{name}" for module, names in adapters for name in names.split(", "))


def test_every_public_name_is_on_a_reference_page():
    assert set(public()) - documented(REFERENCE) == set()


def test_a_name_that_is_missing_there_is_seen():
    without = REFERENCE.replace(".. autofunction:: range_test\n", "")
    assert set(public()) - documented(without) == {"lrfinder.range_test"}
    assert {"lrfinder.integrations.transformers.from_trainer", "lrfinder.integrations.ignite.FinderHandler"} <= set(public())


def test_every_page_is_in_the_index_once():
    toctrees = re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    entries = [line for toctree in toctrees for line in toctree.splitlines() if line and not line.startswith(":")]
    listed = [re.sub(r".*<(.+)>", r"\1", entry) for entry in entries]
    there = [page.stem for page in DOCS.glob("*.md") if page.stem != "index"]
    assert sorted({"papers", *there}) == sorted(listed)  # conf.py leaves papers out where it is not there


def test_what_contributors_are_sent_to_is_there():
    named = re.findall(r"`((?:docs|hessian|lrfinder|tests)/[\w/-]+\.\w+|make [\w-]+)", (DOCS / "contributing.md").read_text())
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert len(named) > 10
    site = Path(lrfinder.__file__).parents[1]  # the checkout, or where the wheel was installed
    known = [name for name in named if (ROOT / name).exists() or (site / name).exists() or name.removeprefix("make ") in targets]
    assert known == named


# Doubts -----------------------------------------------------------------------------------------------------------------------------


def test_every_doubt_is_explained():
    explained = re.findall(r"^- \*\*`(\w+)`\*\*: (.+?)(?=\n\n|\n- )", (DOCS / "doubts.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert sorted(name for name, _ in explained) == sorted(doubt.name for doubt in lrfinder.Doubt)


# Pictures ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    """The script that made them."""
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECTIONS = re.split(r"^## ", (DOCS / "reading.md").read_text(), flags=re.MULTILINE)[1:]
SHOWN = {re.search(r"\]\(reading/(\w+)\.png\)", section)[1]: section for section in SECTIONS}


def test_the_page_shows_the_cases_that_the_script_makes(figures: ModuleType):
    assert list(SHOWN) == list(figures.CASES)
    made = {path.name for name in figures.CASES for path in (Path(f"{name}.png"), Path(f"{name}.json"))}
    assert {path.name for path in (DOCS / "reading").iterdir()} == made


@pytest.mark.parametrize("name", SHOWN)
def test_a_case_has_the_doubts_and_the_print_that_the_page_says(name: str):
    found = lrfinder.load(DOCS / "reading" / f"{name}.json")
    (line,) = re.findall(r"^Doubts: (.*)$", SHOWN[name], flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", line) == [doubt.name for doubt in all_doubts(found)]
    assert f"```text\n{found}\n```\n<!-- end of {name} -->" in SHOWN[name]


@pytest.mark.parametrize("name", SHOWN)
def test_pictures_are_small(name: str):
    assert 5_000 < (DOCS / "reading" / f"{name}.png").stat().st_size < 60_000


@pytest.mark.parametrize("name", ["no_divergence", "too_short"])  # the quick ones, whose doubts hang on no threshold
def test_a_training_of_the_script_says_what_was_saved(figures: ModuleType, name: str):
    saved = lrfinder.load(DOCS / "reading" / f"{name}.json")
    found = figures.found_in(name)
    assert found.doubts == saved.doubts
    assert found.lr == pytest.approx(saved.lr, rel=0.33)  # to a third, as in test_readme.py: other versions of torch round differently
