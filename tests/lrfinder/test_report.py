"""The page and the notebook's fragment: what they say, that nothing on them runs or loads, and that the result comes back from them."""

from __future__ import annotations

import html
import math
import re
import threading
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from commands import python
from curves import make_curve as any_curve
from test_find import every_result
from test_plotting import make_curve, make_limit, make_suggestion

import lrfinder
from hessian.doubts import CurvatureDoubt
from hessian.errors import BadArgument
from hessian.files import END, START
from hessian.reports.to_html import page
from hessian.result_base import Result
from lrfinder.doubts import Doubt
from lrfinder.results import ProbeRun, Probes

WITH_REPORT = ("lr_curve", "stable_lr", "suggestion")
HOSTILE = "</script><!--<script>alert(1)</script>]]><img src=x onerror=alert(1)>&amp;\"'`$|*_\x00\u202e\n"
VOID = ("meta", "br", "img", "link")


class Page(HTMLParser):
    """The elements of a page, each with its attributes and the text below it."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.unbalanced: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        element = (tag, {name: value or "" for name, value in attributes}, [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}, []))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop()[0] != tag:
            self.unbalanced.append(tag)
        if tag in ("td", "th", "p"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def tags(self, *names: str) -> list[tuple[str, dict[str, str], str]]:
        return [(tag, attributes, "".join(texts)) for tag, attributes, texts in self.elements if tag in names]

    def words(self, tag: str = "body") -> str:
        return " ".join(" ".join(text for _, _, text in self.tags(tag)).split())


def problems(content: str) -> list[str]:
    """Whatever makes a page unsafe, invalid or hard to hear."""
    page = Page(content)
    found = [f"unbalanced {tag}" for tag in page.unbalanced] + [f"open {tag}" for tag, _, _ in page.open]
    ids = Counter(attributes["id"] for _, attributes, _ in page.elements if "id" in attributes)
    found += [f"id {name} twice" for name, count in ids.items() if count > 1]
    level = 0
    for tag, attributes, _ in page.elements:
        found += [f"{tag} {name}" for name in attributes if name.startswith("on") or name in ("src", "srcset", "action", "data", "poster")]
        links = [value for name, value in attributes.items() if name.endswith("href") and not value.startswith("#")]
        found += [f"link {link}" for link in links]
        asked = re.findall(r"url\(#?([^)]+)\)", " ".join(attributes.values())) + attributes.get("aria-labelledby", "").split()
        asked += attributes.get("aria-describedby", "").split()
        asked += [attributes["href"][1:]] if attributes.get("href", "").startswith("#") else []
        found += [f"no id {name}" for name in asked if name not in ids]
        if tag in ("script", "iframe", "object", "embed", "link", "img", "base", "form") and attributes.get("type") != "application/json":
            found.append(f"element {tag}")
        if re.fullmatch("h[1-6]", tag):
            found += [f"{tag} after h{level}"] if level and int(tag[1]) > level + 1 else []
            level = int(tag[1])
        if tag == "th" and attributes.get("scope") not in ("row", "col"):
            found.append("th without scope")
        if tag == "svg" and not (attributes.get("role") == "img" and {"aria-labelledby", "aria-describedby"} <= set(attributes)):
            found.append("svg without a name")
    style = page.words("style")
    return found + [f"style {part}" for part in re.findall(r"url\(|@import|@font-face|http", style)]


def doubtful(**changes: Any) -> lrfinder.Suggestion:
    """A suggestion with two doubts, and one about the curvature."""
    shares = {"head.weight": 0.75, **{f"body.{layer}.weight": 0.025 for layer in range(10)}}
    limit = replace(make_limit(), by_parameter=shares, doubts=(CurvatureDoubt.NO_NOISE, CurvatureDoubt.NOT_CONVERGED))
    return replace(make_suggestion(), limit=limit, doubts=(Doubt.HORIZON_ASSUMED, Doubt.NOISY), **changes)


@lru_cache
def page_of(result: Result) -> str:
    """Its page, drawn once."""
    return result.to_html()


def told(result: Result) -> str:
    """Its page without the picture, which takes most of the time."""
    report = result.report()
    assert report is not None
    return page(replace(report, picture=None), result.to_json())


RESULTS = {"suggestion": doubtful(), "curve": make_curve(), "limit": make_limit(), "no limit": replace(make_suggestion(), limit=None)}
EACH = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)


# Safe and valid -------------------------------------------------------------------------------------------------------------------


@EACH
def test_a_page_is_valid_names_its_parts_and_loads_nothing(result: Result):
    assert problems(page_of(result)) == []
    found = Page(page_of(result))
    assert found.tags("html")[0][1] == {"lang": "en"}
    assert len(found.tags("h1")) == len(found.tags("main")) == len(found.tags("title")) - len(found.tags("svg")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [attributes for _, attributes, _ in found.tags("meta")]
    (policy,) = [attributes["content"] for _, attributes, _ in found.tags("meta") if "http-equiv" in attributes]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


@EACH
def test_a_fragment_is_valid_too_also_beside_another_of_the_same_result(result: Result):
    content = f"{result._repr_html_()}{result._repr_html_()}"
    assert problems(content) == []
    assert len(Page(content).tags("svg")) == 2


@pytest.mark.parametrize(
    ("spoiled", "seen"),
    [
        ("<p><b></p>", "unbalanced p"),
        ("<script>1</script>", "element script"),
        ("<img alt='' src='x.png'>", "img src"),
        ("<a href='https://example.org'>x</a>", "link https://example.org"),
        ("<p id='lrf-doubts'></p>", "id lrf-doubts twice"),
        ("<h4>x</h4>", "h4 after h2"),
        ("<style>@import 'x.css';</style>", "style @import"),
        ("<p onclick='f()'></p>", "p onclick"),
        ("<table><tr><th>x</th></tr></table>", "th without scope"),
        ("<svg></svg>", "svg without a name"),
        ("<p style='fill:url(#nowhere)'></p>", "no id nowhere"),
    ],
)
def test_the_check_of_pages_sees_what_it_looks_for(spoiled: str, seen: str):
    assert seen in problems(page_of(make_limit()).replace("</main>", f"{spoiled}</main>"))


def hostile() -> list[Result]:
    """Results whose every text is meant to break out."""
    curve = make_curve(model=HOSTILE, optimizer=HOSTILE, recipe=HOSTILE)
    limit = replace(make_limit(), model=HOSTILE, optimizer=HOSTILE, formula=HOSTILE, mode=HOSTILE, by_parameter={HOSTILE: 1.0})
    alone = replace(make_curve(), group=1, group_name=HOSTILE)
    grouped = replace(curve, groups=(alone,), metric=np.linspace(0, 1, len(curve.lrs)), metric_name=HOSTILE)
    found = replace(make_suggestion(curve), limit=limit, no_limit=HOSTILE, factors={HOSTILE: 1.0})
    return [found, replace(found, limit=None), limit, grouped]


@pytest.mark.parametrize("number", range(4))
def test_names_that_are_meant_to_break_out_stay_text(number: int, tmp_path: Path):
    result = hostile()[number]
    path = result.save(tmp_path / "lr.html")
    assert problems(path.read_text()) == []
    assert lrfinder.load(path) == result
    assert "<img src=x onerror=alert(1)>&amp;\"'`$|*_" in Page(path.read_text()).words("td")
    assert "\x00" not in path.read_text()


# Saved and read back --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Result.kinds)
def test_every_result_comes_back_from_its_page_or_says_that_it_has_none(kind: str, tmp_path: Path):
    result = every_result()[kind]
    if kind in WITH_REPORT:
        path = result.save(tmp_path / "result.HTML")
        assert lrfinder.load(path) == result
        assert problems(path.read_text()) == []
        return
    assert result.report() is result._repr_html_() is result._repr_markdown_() is None
    with pytest.raises(BadArgument, match=rf"a {kind} has no report for .html; save it as .json\."):
        result.save(tmp_path / "result.html")


def test_a_page_is_the_same_each_time_and_small():
    assert make_suggestion().to_html() == page_of(make_suggestion())
    assert len(page_of(doubtful())) < 100_000


def test_an_editor_may_put_a_mark_and_blank_lines_before_a_page(tmp_path: Path):
    path = tmp_path / "lr.html"
    path.write_bytes(b"\xef\xbb\xbf\n\n" + told(doubtful()).encode())
    assert lrfinder.load(path) == doubtful()


SPOILED = {
    "no result": (f"<!DOCTYPE html>{END}", "a page that does not hold one result"),
    "two results": (f"<!doctype html>{START}{{}}{END}{START}{{}}{END}", "a page that does not hold one result"),
    "cut off": (f"<!DOCTYPE HTML>{START}{make_curve().to_json()}", "a page that does not hold one result"),
    "another JSON": (f"<!DOCTYPE html>{START}[]{END}", "it holds a list, not an object"),
    "no JSON": (f"<!DOCTYPE html>{START}alert(1){END}", "Expecting value"),
    "a page without its first line": (f"<html>{START}{make_curve().to_json()}{END}", "Expecting value"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_page_is_refused_in_one_sentence(name: str, tmp_path: Path):
    content, words = SPOILED[name]
    path = tmp_path / "lr.html"
    path.write_text(content)
    with pytest.raises(BadArgument) as caught:
        lrfinder.load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# What they say --------------------------------------------------------------------------------------------------------------------


def test_the_number_comes_first_and_then_its_range_in_words():
    found = doubtful(lr=0.0123, interval=(0.004, 0.03))
    said = Page(told(found))
    assert said.words("h1") == "Suggested learning rate 0.012"
    assert said.tags("title")[0][2] == "Suggested learning rate 0.012"
    assert said.words("p").startswith(
        "A good one is to be expected between 0.004 and 0.03. It is the peak of a 1cycle schedule over 1,000 "
    )
    assert "3 doubts are listed below." in said.words("p")


def test_every_doubt_stands_there_with_what_to_do():
    doubts = (*Doubt, *CurvatureDoubt)
    for found in (doubtful(), replace(doubtful(), doubts=tuple(Doubt), limit=replace(make_limit(), doubts=tuple(CurvatureDoubt)))):
        elsewhere = (CurvatureDoubt.NOT_CONVERGED, CurvatureDoubt.NOISE_UNSURE)  # one of its own, and a word beside the limit of noise
        about_limit = [doubt for doubt in found.limit.doubts if doubt not in elsewhere]
        items = [" ".join(text.split()) for _, _, text in Page(told(found)).tags("li")]
        assert items == [f"{doubt.value} What to do {doubt.what_to_do}" for doubt in (*found.doubts, *about_limit)]
        assert all(f"What to do:* {doubt.what_to_do[:9]}" in found._repr_markdown_() for doubt in found.doubts)
    assert all(doubt.what_to_do[0].isupper() and doubt.what_to_do.endswith(".") and "\n" not in doubt.what_to_do for doubt in doubts)
    assert "<li>" not in told(replace(make_suggestion(), doubts=()))
    assert "No doubts were raised." in told(replace(make_suggestion(), doubts=()))


def test_the_page_says_all_that_the_print_says():
    found = doubtful()
    words = Page(told(found)).words("main")
    for number in re.findall(r"\d[\d.e-]*\d", str(found)):
        assert number in words, number
    for word in ("found.one_cycle(optimizer)", "head.weight", "75.0%", "3 others", "SGD(momentum=0.9)", "Python 3.", "steepest", "seed"):
        assert word.lower() in words.lower(), word


@pytest.mark.parametrize("found", [make_suggestion(), lrfinder.suggest_lr(make_curve(), total_steps=99_000, schedule="linear")])
def test_the_factors_lead_to_the_number(found: lrfinder.Suggestion):
    assert found.midpoint * math.prod(found.factors.values()) == pytest.approx(found.lr)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", told(found).split("How the number came about</h2>")[1].split("</table>")[0])
    numbers = [re.findall(r'<td class="lrf-n">([^<]*)</td>', row)[-1] for row in rows[1:]]
    assert numbers[0] == f"{found.midpoint:.2g}"
    assert numbers[-1] == numbers[-2] == f"{found.lr:.2g}"


def test_the_picture_in_words_counts_the_trainings_that_it_shows():
    run = ProbeRun(lr=0.1, steps=9, after=1.0)
    probes = Probes(runs=(run, replace(run, lr=0.3, after=math.inf)), before=2.0, scored_on="data", scored=64, share=0.2)
    picture = replace(make_suggestion(), probes=probes).report().picture
    assert picture is not None
    assert picture.description.endswith("the loss that 1 short trainings reached (1 more blew up).")


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine", "linear", None])
def test_every_schedule_has_its_line_to_paste(schedule: Any):
    found = lrfinder.suggest_lr(make_curve(), make_limit(1e-3), total_steps=1000, schedule=schedule)
    (code,) = [html.unescape(text) for _, _, text in Page(told(found)).tags("pre")]
    compile(code, "page", "exec")
    assert "found." in code
    assert found.warmup is not None
    assert ("begins with a warm-up of" in told(found)) == (schedule != "onecycle")
    assert f"{found.warmup.start_lr:.2g}" in Page(told(found)).words("main")


@pytest.mark.parametrize("status", ["completed", "diverged", "nonfinite", "data_ended", "interrupted"])
def test_a_curve_says_how_it_ended_and_what_the_rules_make_of_it(status: Any):
    curve = make_curve(status=status)
    words = Page(told(curve)).words("main")
    assert words.startswith("Range test: the loss breaks at 1" if status in ("diverged", "nonfinite") else "Range test: no break up to 1")
    assert all(f"{name} {lr:.3g}" in words for name, lr in curve.suggestions().items())


def test_a_limit_says_what_binds_and_what_it_stands_for():
    limit = make_limit(0.3)
    words = Page(told(limit)).words("main")
    assert words.startswith("Largest stable learning rate 0.3 Above it the next steps at these weights diverge")
    assert "Above it the next step no longer lowers the loss." in told(replace(limit, along="update"))
    assert limit.advice[1:] in words


def test_a_limit_without_a_bound_names_none():
    limit = replace(make_limit(), bound=math.nan)
    seen = Page(told(limit)).words("main")
    assert "residual 1" in seen or "residual 0" in seen
    assert "at most" not in seen


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("value", [1.0, math.inf, 1e308])
def test_curves_of_hardly_any_points_have_a_page(count: int, value: float):
    assert problems(str(any_curve([value] * count, status="interrupted")._repr_html_())) == []


@pytest.mark.parametrize("lr", [1e-299, 1e-12, 1e12, 1e299])
def test_extreme_learning_rates_have_a_page(lr: float):
    found = make_suggestion(lr=lr, interval=(lr / 2, lr * 2), limit=make_limit(lr))
    assert problems(str(found._repr_html_())) == problems(str(make_limit(lr)._repr_html_())) == []
    assert f"{lr:.2g}" in Page(told(found)).words("h1")


def test_a_long_sweep_has_a_picture_of_ordinary_size():
    lrs = np.geomspace(1e-7, 1, 30_000)
    curve = make_curve(lrs=lrs, losses=2 + np.random.default_rng(0).normal(size=len(lrs)), num_iter=len(lrs))
    assert len(str(curve._repr_html_())) < 400_000


# Markdown -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [*RESULTS.values(), *hostile()])
def test_markdown_has_whole_tables_and_no_html(result: Result):
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark").enable("table").render(str(result._repr_markdown_()))
    page = Page(rendered)
    assert {tag for tag, _, _ in page.elements} <= {
        *("h3", "h4", "p", "strong", "em", "code", "pre", "ul", "li"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert page.unbalanced == []
    report = result.report()
    assert report is not None
    assert [text for _, _, text in page.tags("h4")] == [section.title for section in report.sections]
    assert page.tags("h3")[0][2] == report.title


# Around them ----------------------------------------------------------------------------------------------------------------------


def test_the_style_of_a_fragment_reaches_nothing_outside_of_it():
    style = re.sub(r"@media[^{]*\{((?:[^{}]*\{[^{}]*\})*)\}", r"\1", Page(str(make_limit()._repr_html_())).words("style"))
    selectors = [selector.strip() for rule in re.findall(r"([^{}]+)\{", style) for selector in rule.split(",")]
    assert len(selectors) > 30
    assert [
        selector for selector in selectors if not re.match(r"(\.lrf|(\[data-jp-theme-light=\"\w+\"\]|\.vscode-[\w-]+) \.lrf)\b", selector)
    ] == []


def test_threads_that_write_pages_at_once_leave_the_settings_of_matplotlib_as_they_were():
    before = matplotlib.rcParams.copy()
    pages: list[str] = []
    threads = [threading.Thread(target=lambda: pages.append(make_limit().to_html())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 3
    assert len(set(pages)) == 1
    assert dict.__eq__(matplotlib.rcParams, before)


def test_a_page_is_written_without_torch_and_pyplot_and_a_result_alone_loads_no_matplotlib(tmp_path: Path):
    doubtful().save(tmp_path / "lr.json")
    code = """
import sys, lrfinder
found = lrfinder.load("lr.json")
assert not {"matplotlib", "torch", "xml", "hessian.reports.to_html"} & set(sys.modules)
found._repr_markdown_()
assert "matplotlib" not in sys.modules
found.save("lr.html")
assert not {"torch", "matplotlib.pyplot"} & set(sys.modules)
"""
    done = python("-W", "error", "-c", code, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ipython_shows_as_text_what_print_shows():
    from IPython.lib.pretty import pretty

    for result in every_result().values():
        if type(result).__str__ is not object.__str__:
            assert pretty(result) == str(result)
