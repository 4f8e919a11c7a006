"""A report as HTML: a whole page, or a fragment for a notebook.

Nothing is loaded, every text is escaped, so that the name of a model can be anything, and the page forbids scripts and requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from uuid import uuid4

from hessian.files import embed
from hessian.reports.colours import schemes
from hessian.reports.parts import Block, Code, Doubts, Report, Section, Table, Words, printable

QUOTED = re.compile("`([^`]+)`")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: Report, data: str) -> str:
    """A page of its own, with the result's JSON inside."""
    from hessian.reports.svg import NARROW, WIDE, inline

    pictures = [inline(report.picture, shape, "lrf") for shape in (WIDE, NARROW)] if report.picture else []
    sections = "\n".join(section_html(section, 2, "lrf") for section in report.sections)
    style = schemes(":root") + css("style") + css("page")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="lrfinder">
<title>{text(report.title)}</title>
<style>
{style}</style>
</head>
<body>
<main class="lrf">
<header>
{head_html(report, 1)}
</header>
{figure_html(pictures)}
{sections}
<footer>This page loads nothing and runs no script; <code>lrfinder.load</code> reads the result back from it.</footer>
</main>
{embed(data)}
</body>
</html>
"""


def fragment(report: Report) -> str:
    """The same for a notebook: one picture, and what is not needed at once folds away. Its style touches nothing outside."""
    from hessian.reports.svg import WIDE, inline

    prefix = f"lrf-{uuid4().hex[:8]}"  # two outputs of one notebook must not share ids
    pictures = [inline(report.picture, WIDE, prefix)] if report.picture else []
    first = "\n".join(section_html(section, 4, prefix) for section in report.sections if section.first)
    rest = [section for section in report.sections if not section.first]
    folded = "\n".join(section_html(section, 4, prefix) for section in rest)
    names = ", ".join(section.title.lower() if number else section.title for number, section in enumerate(rest))
    return f"""<div class="lrf">
<style>
{schemes()}{css("style")}</style>
{head_html(report, 3)}
{figure_html(pictures)}
{first}
<details>
<summary>{text(names)}</summary>
{folded}
</details>
</div>"""


def css(name: str) -> str:
    """A style sheet of this package."""
    return files("hessian.reports").joinpath(f"{name}.css").read_text(encoding="utf-8")


def text(words: str) -> str:
    return escape(printable(words))


def rich(words: str) -> str:
    """The same, with what stands between backticks as code."""
    return QUOTED.sub(r"<code>\1</code>", text(words))


def head_html(report: Report, level: int) -> str:
    number = f'<strong class="lrf-number">{text(report.number)}</strong>' if report.number else ""
    label = f'<span class="lrf-label">{text(report.label)}</span>'
    return f'<h{level} class="lrf-head">{label} {number}</h{level}>\n<p class="lrf-lead">{rich(" ".join(report.lead))}</p>'


def figure_html(pictures: list[str]) -> str:
    """In one or two shapes, of which the reader's screen shows one."""
    return "<figure>\n" + "\n".join(pictures) + "\n</figure>" if pictures else ""


def section_html(section: Section, level: int, prefix: str) -> str:
    name = f"{prefix}-{''.join(letter if letter.isalnum() else '-' for letter in section.title.lower())}"
    blocks = "\n".join(block_html(block) for block in section.blocks)
    return f"""<section aria-labelledby="{name}">
<h{level} class="lrf-title" id="{name}">{text(section.title)}</h{level}>
{blocks}
</section>"""


def block_html(block: Block) -> str:
    if isinstance(block, Words):
        return f"<p>{rich(block.text)}</p>"
    if isinstance(block, Code):
        return f'<pre tabindex="0"><code>{text(block.text)}</code></pre>'
    return doubts_html(block) if isinstance(block, Doubts) else table_html(block)


def doubts_html(block: Doubts) -> str:
    items = [
        f'<li>\n<p>{text(doubt.value)}</p>\n<p class="lrf-do"><b>What to do</b> {text(doubt.what_to_do)}</p>\n</li>'
        for doubt in block.members
    ]
    return "<ol>\n" + "\n".join(items) + "\n</ol>"


def table_html(table: Table) -> str:
    """On a narrow screen a wide one scrolls by itself."""
    head = [cell_html("th", name, number in table.numbers, "col") for number, name in enumerate(table.head)]
    if table.shares:
        head.append("<td></td>")
    shape = "lrf-wide" if len(table.head) > 2 else "lrf-plain" if table.numbers else "lrf-pairs"
    return (
        f'<div class="lrf-scroll" tabindex="0" role="region" aria-label="{text(table.caption)}">\n<table class="{shape}">\n'
        f"<caption>{text(table.caption)}</caption>\n<thead><tr>{''.join(head)}</tr></thead>\n<tbody>\n"
        + "\n".join(rows_html(table))
        + "\n</tbody>\n</table>\n</div>"
    )


def rows_html(table: Table) -> Iterator[str]:
    for place, row in enumerate(table.rows):
        cells = [cell_html("td" if number else "th", cell, number in table.numbers, "row") for number, cell in enumerate(row)]
        if table.shares:
            cells.append(f'<td class="lrf-bar"><span style="width:{100 * table.shares[place]:.1f}%"></span></td>')
        kind = ' class="lrf-sum"' if table.sum and place == len(table.rows) - 1 else ""
        yield f"<tr{kind}>{''.join(cells)}</tr>"


def cell_html(tag: str, words: str, number: bool, scope: str) -> str:
    kind = (' class="lrf-n"' if number else "") + (f' scope="{scope}"' if tag == "th" else "")
    lines = "<br>".join(text(line) for line in words.split("\n"))
    return f"<{tag}{kind}>{lines}</{tag}>"
