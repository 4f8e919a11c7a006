"""The page as its reader sees it, in a real Chromium: quiet, alone, readable on a telephone, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, Seen, path_of_chromium, started
from test_plotting import make_curve, make_limit
from test_report import doubtful, hostile, page_of

from hessian.reports.colours import COLOURS

LEAST_CONTRAST, LEAST_LETTERS = 4.5, 12.0
# Of every text in sight: the words, how large they are on the screen, and how far they stand out from what lies behind them.
TEXTS = """() => {
  const light = ([r, g, b]) => { const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const ground = element => { for (let at = element; at; at = at.parentElement) {
    const colour = numbers(getComputedStyle(at).backgroundColor); if (colour.length == 3 || colour[3] == 1) return colour; }
    return [255, 255, 255]; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim(), box = element.getBoundingClientRect();
    if (!words || box.width <= 1 || !element.checkVisibility() || ["SCRIPT", "STYLE", "title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), svg = element.closest("svg"), matrix = svg && element.getScreenCTM(),
      scale = svg ? Math.hypot(matrix.a, matrix.b) : 1;
    const [one, other] = [numbers(svg ? style.fill : style.color), ground(element)].map(light);
    found.push({words, size: parseFloat(style.fontSize) * scale, right: box.right, scrolls: !!element.closest("pre, .lrf-scroll"),
      contrast: (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)}); }
  return found; }"""
# Pairs of texts of one picture in sight whose boxes meet.
CROWDED = """() => [...document.querySelectorAll("svg")].filter(svg => svg.checkVisibility()).flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], place) => boxes.slice(place + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > -GAP && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1
  ).map(([other]) => [one, other])); })"""
BACKGROUND = "name => getComputedStyle(document.querySelector(name)).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, and one whose names are meant to break out."""
    folder = tmp_path_factory.mktemp("pages")
    wide = make_curve(lrs=np.geomspace(1e-7, 10.0, 60), losses=np.geomspace(2.0, 0.2, 60), start_lr=1e-7, end_lr=10.0, num_iter=60)
    results = {"suggestion": doubtful(), "curve": make_curve(), "limit": make_limit(), "hostile": hostile()[0], "wide": wide}
    for name, result in results.items():
        (folder / f"{name}.html").write_text(page_of(result))
    return {name: folder / f"{name}.html" for name in results}


def texts(seen: Seen) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = seen.page.evaluate(TEXTS)
    assert len(found) > 30
    return found


def rgb(colour: str) -> str:
    """As a browser writes it."""
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


KINDS = pytest.mark.parametrize("kind", ["suggestion", "curve", "limit", "hostile"])


@KINDS
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_said_or_loaded_and_every_text_stands_out(kind: str, scheme: str, browser: Browser, pages: dict[str, Path]):
    with browser.open(pages[kind], scheme=scheme) as seen:
        assert (seen.said, seen.requests) == ([], [pages[kind].as_uri()])
        assert [found for found in texts(seen) if found["contrast"] < LEAST_CONTRAST or found["size"] < LEAST_LETTERS] == []
        paper = rgb(COLOURS["paper"][scheme == "dark"])
        assert seen.page.evaluate(BACKGROUND, "html") == seen.page.evaluate(BACKGROUND, ".lrf") == paper


@KINDS
def test_on_a_telephone_nothing_is_cut_off_or_too_small(kind: str, browser: Browser, pages: dict[str, Path]):
    with browser.open(pages[kind], width=400) as seen:
        assert seen.page.evaluate("document.scrollingElement.scrollWidth") <= 400
        found = texts(seen)
        assert [text for text in found if text["size"] < LEAST_LETTERS] == []
        assert [text for text in found if text["right"] > 400 and not text["scrolls"]] == []
        shown = seen.page.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.checkVisibility())")
        assert shown == [False, True]


@pytest.mark.parametrize("width", [320, 400, 700, 1200])
@pytest.mark.parametrize("kind", ["suggestion", "curve", "limit", "wide"])
def test_the_words_in_a_picture_stand_apart(kind: str, width: int, browser: Browser, pages: dict[str, Path]):
    with browser.open(pages[kind], width=width) as seen:
        assert seen.page.evaluate("document.querySelectorAll('svg text').length") >= 10
        assert seen.page.evaluate(CROWDED.replace("GAP", "2")) == []


def test_what_is_measured_in_the_browser_can_fail(browser: Browser, pages: dict[str, Path], tmp_path: Path):
    spoiled = pages["limit"].read_text().replace("</main>", "<p style='color:#999;font-size:9px;white-space:nowrap'>faint</p></main>")
    (tmp_path / "page.html").write_text(
        spoiled.replace("faint<", f"{'faint ' * 200}<") + "<img src='missing.png'><script>alert(1)</script>"
    )
    with browser.open(tmp_path / "page.html", width=400) as seen:
        (faint,) = [text for text in texts(seen) if text["words"].startswith("faint")]
        assert faint["contrast"] < LEAST_CONTRAST
        assert faint["size"] < LEAST_LETTERS
        assert seen.page.evaluate("document.scrollingElement.scrollWidth") > 400
        assert seen.page.evaluate(CROWDED.replace("GAP", "1000")) != []
        assert len(seen.said) == 2  # the page's own policy forbids both
        assert all("Content Security Policy" in line for line in seen.said)


def test_on_paper_a_dark_page_is_light_and_whole(browser: Browser, pages: dict[str, Path]):
    with browser.open(pages["suggestion"], width=680, scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.evaluate(BACKGROUND, ".lrf") == rgb(COLOURS["paper"][0])
        assert [text for text in texts(seen) if text["contrast"] < LEAST_CONTRAST] == []
        assert seen.page.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.checkVisibility())") == [True, False]
        paper = seen.page.pdf(format="A4")
        assert paper.startswith(b"%PDF")
        assert 1 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 4


def test_screen_readers_hear_names_and_headings_in_order(browser: Browser, pages: dict[str, Path]):
    with browser.open(pages["suggestion"]) as seen:
        heard = seen.page.locator("body").aria_snapshot()
        assert 'heading "Suggested learning rate' in heard
        assert 'img "Loss over learning rate"' in heard
        assert 'table "What was measured"' in heard
        assert 'rowheader "Range test"' in heard
        assert 'columnheader "Learning rate"' in heard


NOTEBOOK = """<!DOCTYPE html><html {theme}><body><h1>h</h1><h4 id=a>a</h4><p>p</p><ol><li>x</li></ol><pre><code>c</code></pre>
<table><tbody><tr><th>t</th><td>d</td></tr></tbody></table><svg width=9 height=9><text>s</text></svg><div id=here></div></body></html>"""
OUTSIDE = """[...document.querySelectorAll("body > *, body > * > *, td, th, code, text")].filter(element => !element.closest(".lrf, #here"))
  .map(element => Object.values(getComputedStyle(element)).map(name => `${name}: ${getComputedStyle(element)[name]}`).join(";"))"""


@pytest.mark.parametrize(
    ("theme", "scheme", "dark"),
    [
        ("", "light", False),
        ("", "dark", True),
        ('data-jp-theme-light="false"', "light", True),
        ('data-jp-theme-light="true"', "dark", False),
        ('class="vscode-dark"', "light", True),
    ],
)
def test_in_a_notebook_the_fragment_follows_its_theme_and_changes_nothing_else(
    theme: str, scheme: str, dark: bool, browser: Browser, tmp_path: Path
):
    (tmp_path / "notebook.html").write_text(NOTEBOOK.format(theme=theme))
    with browser.open(tmp_path / "notebook.html", scheme=scheme) as seen:
        before = seen.page.evaluate(OUTSIDE)
        seen.page.evaluate("content => { document.querySelector('#here').innerHTML = content }", str(make_limit()._repr_html_()))
        assert seen.page.evaluate(BACKGROUND, ".lrf") == rgb(COLOURS["paper"][dark])
        assert len(before) > 10
        assert seen.page.evaluate(OUTSIDE) == before
        seen.page.evaluate("document.querySelectorAll('#here details').forEach(part => part.open = true)")
        inside = [text for text in texts(seen) if text["words"] not in ("h", "a", "p", "x", "c", "t", "d", "s")]
        assert [text for text in inside if text["contrast"] < LEAST_CONTRAST or text["size"] < LEAST_LETTERS] == []


def test_a_missing_browser_is_a_failure_where_a_skip_would_go_unseen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    for name in ("CI", "LRFINDER_REQUIRE_CHROMIUM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception):
        path_of_chromium()
    monkeypatch.setenv("LRFINDER_REQUIRE_CHROMIUM", "1")
    with pytest.raises(pytest.fail.Exception, match="install it"):
        path_of_chromium()
