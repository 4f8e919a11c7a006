"""The documentation site: ``make docs`` builds it from the pages of this folder and the docstrings of the packages."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

import lrfinder

warnings.filterwarnings("ignore", message="Failed to load image Python extension")  # torchvision's, which the adapters' frameworks import

project = "lrfinder"
version = release = lrfinder.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "none"  # of blocks that name no language: formulas

myst_heading_anchors = 4

html_theme = "furo"
html_title = f"lrfinder {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5f95", "color-brand-content": "#0b5f95"},
    "dark_css_variables": {"color-brand-primary": "#6db8ec", "color-brand-content": "#6db8ec"},
}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # fields as a list, as compact as that of parameters
python_maximum_signature_line_length = 88

# There is no network while this is built, so other projects' names lead nowhere: those of other packages, and those that are imported
# for type checkers only, which Sphinx sees without their packages. Every public name of ours must be found.
nitpicky = True
OTHERS = "torch|numpy|scipy|os|collections|contextlib|pathlib|matplotlib|accelerate|ignite|lightning|transformers"
FOR_TYPES = "Report|Axes|Figure|Optimizer|OneCycleLR|CyclicLR|SequentialLR|LinearLR|CosineAnnealingWarmRestarts|Schedule"
# Bases and parts that are not public.
INSIDE = r"hessian\.(operators\.loss\.LossOperator|operators\.graphs\.Value|snapshot\.guard\.Snapshot|vectors\.Space)"
nitpick_ignore_regex = [(r"py:.*", pattern) for pattern in (rf"({OTHERS})\..*", FOR_TYPES, INSIDE)]


def setup(app: Sphinx) -> None:
    """What is changed on the way from the pages and docstrings to the site."""
    app.connect("autodoc-process-docstring", plain_property, priority=600)  # after napoleon, at 500
    app.connect("autodoc-process-docstring", linked_pages, priority=700)
    app.connect("autodoc-process-signature", without_fields)


def plain_property(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes the first line of a property up to its colon for a type; ours are sentences."""
    text = inspect.getdoc(thing) or ""
    if what == "property" and "Raises:" not in text:
        lines[:] = [*text.splitlines(), ""]


def linked_pages(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings name a page by its file; here it is a link."""
    lines[:] = [re.sub(r"docs/([\w-]+)\.md(#[\w-]+)?", r":doc:`\1`", line) for line in lines]


def without_fields(app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, result: str) -> tuple[str, str] | None:
    """Results are made by measurements, and their fields stand below, each with its sentence."""
    made_by_us = what == "class" and dataclasses.is_dataclass(thing) and hasattr(thing, "kind")
    return ("", "") if made_by_us else None
