"""A report as Markdown, for places that show no HTML. It has no picture."""

from __future__ import annotations

from collections.abc import Iterator

from hessian.reports.parts import Block, Code, Doubts, Report, Table, Words, printable

SPECIAL = {ord(letter): f"\\{letter}" for letter in "\\`*_{}[]<>|$~#"}


def markdown(report: Report) -> str:
    number = f" **{text(report.number)}**" if report.number else ""
    parts = [f"### {text(report.label)}{number}", rich(" ".join(report.lead))]
    for section in report.sections:
        parts += [f"#### {text(section.title)}", *(block_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def text(words: str) -> str:
    """Text in which nothing is Markdown."""
    return printable(words).translate(SPECIAL)


def rich(words: str) -> str:
    """The same, with what stands between backticks as code."""
    return "`".join(printable(part) if place % 2 else text(part) for place, part in enumerate(words.split("`")))


def block_markdown(block: Block) -> str:
    if isinstance(block, Words):
        return rich(block.text)
    if isinstance(block, Code):
        return f"```python\n{printable(block.text)}\n```"
    return "\n".join(doubts_markdown(block) if isinstance(block, Doubts) else table_markdown(block))


def doubts_markdown(block: Doubts) -> Iterator[str]:
    for doubt in block.members:
        yield f"- {text(doubt.value)}"
        yield f"  *What to do:* {text(doubt.what_to_do)}"


def table_markdown(table: Table) -> Iterator[str]:
    yield line(table.head)
    yield line(["---:" if number in table.numbers else "---" for number in range(len(table.head))])
    for row in table.rows:
        yield line(["; ".join(text(part) for part in cell.split("\n")) for cell in row])


def line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
