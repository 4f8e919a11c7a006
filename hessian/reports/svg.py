"""A picture as inline SVG: its colours are the page's, its text is text in the page's font, and its ids are its own.

No pyplot. Two settings of matplotlib are changed meanwhile, by one thread at a time.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator

from hessian.plotting import draw_legend
from hessian.reports.colours import as_variable
from hessian.reports.parts import Picture, printable
from hessian.result_base import rendered

WRITING = threading.Lock()
MOST_POINTS = 2000  # of one line: more cannot be told apart on a page
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
DOT = 8.0  # size of a marker "." that is seen on a page
ROW = 0.21  # height in inches of a row of the legend
FLAT = 1.9  # height in inches of a picture without a second axis
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
TWICE = re.compile(r";\s*stroke-opacity:[^;]*")  # of a hatch: what is filled with it is transparent already
REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Shape:
    """Size in inches without the legend, columns of that, the least size of a text, numbers below; as wide as its column of the page."""

    name: str
    width: float
    height: float
    columns: int
    letters: float
    ticks: int


WIDE = Shape("wide", 8.6, 4.5, 3, 11.0, 10)
NARROW = Shape("narrow", 4.9, 4.0, 1, 12.4, 6)


def inline(picture: Picture, shape: Shape, prefix: str) -> str:
    """An ``svg`` element; ``prefix`` makes its ids differ from all others on the page."""
    with WRITING, rc_context({"svg.fonttype": "none", "svg.hashsalt": "lrfinder"}):
        content = rendered(draw(picture, shape), "svg")
    root = ElementTree.fromstring(content)
    for element in list(root.iter()):
        clean(element)
    prefix = f"{prefix}-{shape.name}"
    rename(root, prefix)
    describe(root, picture, prefix)
    root.set("class", f"lrf-{shape.name}")
    return ElementTree.tostring(root, encoding="unicode")


def draw(picture: Picture, shape: Shape) -> Figure:
    """Without the title, which the page has already."""
    figure = Figure(figsize=(shape.width, shape.height), layout="constrained")
    ax = figure.add_subplot()
    picture.draw(ax)
    for place in ("left", "center"):
        ax.set_title("", loc=place)
    ax.spines[["top", "right", "left"] if picture.flat else ["top"]].set_visible(False)
    if ax.get_xscale() == "log":
        ax.xaxis.set_major_locator(LogLocator(numticks=shape.ticks))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in figure.axes:
        suit_page(axes)
    draw_legend(ax, shape.columns)
    rows = math.ceil(len(ax.get_legend_handles_labels()[1]) / shape.columns)
    figure.set_figheight((FLAT if picture.flat else shape.height) + ROW * rows)
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_fontsize(max(float(text.get_fontsize()), shape.letters))
    return figure


def suit_page(ax: Axes) -> None:
    """Leave out points that a page cannot show, and make dots large enough to be seen."""
    for line in ax.lines:
        if line.get_marker() == ".":
            line.set_markersize(DOT)
        x, y = (np.asarray(values) for values in line.get_data())
        every = -(-len(x) // MOST_POINTS)
        if every > 1:
            line.set_data(x[::every], y[::every])


def clean(element: ElementTree.Element) -> None:
    """Without what a page has no use for, with short numbers and the page's colours and font."""
    for child in list(element):
        if child.tag in (f"{SVG}metadata", f"{SVG}style") or not str(child.tag).startswith(SVG):
            element.remove(child)
    element.tag = element.tag.removeprefix(SVG)
    if element.tag == "pattern":
        for line in element.iter(f"{SVG}path"):
            line.set("style", TWICE.sub("", line.get("style", "")))
    element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        element.set(name.removeprefix(XLINK), tidy(name, value))
    if element.tag == "svg":
        for name in ("width", "height", "version"):
            element.attrib.pop(name, None)


def tidy(name: str, value: str) -> str:
    """One attribute, shorter."""
    if name == "style":
        kept = [part.strip() for part in value.split(";") if not part.strip().startswith("font-family")]
        return COLOUR.sub(lambda found: as_variable(found[0]), ";".join(kept))
    if name in ("d", "x", "y", "transform", "points"):
        return LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), " ".join(value.split()))
    return value


def references(element: ElementTree.Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        yield from REFERENCE.findall(value)
        if name == "href":
            yield value.removeprefix("#")


def rename(root: ElementTree.Element, prefix: str) -> None:
    """Give every id that is asked for a short name that no other picture has."""
    asked = dict.fromkeys(name for element in root.iter() for name in references(element))
    new = {name: f"{prefix}-{number}" for number, name in enumerate(asked)}
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        for name, value in element.attrib.items():
            value = REFERENCE.sub(lambda found: f"url(#{new[found[1]]})", value)
            element.set(name, f"#{new[value.removeprefix('#')]}" if name == "href" else value)
        if identity in new:
            element.set("id", new[identity])


def describe(root: ElementTree.Element, picture: Picture, prefix: str) -> None:
    """For screen readers."""
    root.set("xmlns", SVG[1:-1])
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title")
    root.set("aria-describedby", f"{prefix}-desc")
    for place, (name, text) in enumerate((("title", picture.title), ("desc", picture.description))):
        element = ElementTree.Element(name, {"id": f"{prefix}-{name}"})
        element.text = printable(text)
        root.insert(place, element)
