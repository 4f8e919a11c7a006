"""Text for a terminal: at most 80 columns."""

from __future__ import annotations

import unicodedata

WIDTH = 80
LABEL = 12  # of a row


def clean(text: str) -> str:
    """Without what a terminal would obey rather than show; a model's name may come from a file of anyone."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def columns(text: str) -> int:
    """What a terminal gives the text: two for wide letters, none for accents that stand on another."""
    return sum(0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most 80 columns, which ``first`` and ``rest`` begin. Only a word that fills more than a line is broken.

    Example:
        >>> wrapped("as short as this", "  - ", "    ")
        ['  - as short as this']
    """
    lines, line, begin = list[str](), first, True
    for word in clean(text).split():
        if not begin and columns(line) + 1 + columns(word) > WIDTH:
            lines.append(line)
            line, begin = rest, True
        while columns(line) + columns(word) > WIDTH:
            head = fitting(word, WIDTH - columns(line))
            lines.append(line + head)
            line, word = rest, word[len(head) :]
        line, begin = f"{line}{'' if begin else ' '}{word}", False
    return [text.rstrip() for text in (*lines, line)]


def fitting(word: str, room: int) -> str:
    """As much of a word as fits, one letter at least."""
    length = 1
    while length < len(word) and columns(word[: length + 1]) <= room:
        length += 1
    return word[:length]


def row(label: str, text: str, width: int = LABEL) -> list[str]:
    """A label, and a text that is wrapped under its own column."""
    return wrapped(text, f"  {label:<{width - 1}} ", " " * (width + 2))


def paragraph(text: str) -> list[str]:
    return ["", *wrapped(text)]


def formula(text: str) -> list[str]:
    return wrapped(text, "    ", "      ")


def bullets(sentences: list[str]) -> list[str]:
    return [line for sentence in sentences for line in wrapped(sentence, "  - ", "    ")]


def headline(text: str) -> list[str]:
    """A line that keeps its gaps where it fits."""
    shown = clean(text).rstrip()
    return [shown] if columns(shown) <= WIDTH else wrapped(shown)


def shortened(text: str, room: int, *, end: bool = False) -> str:
    """Three dots stand where some is missing: behind it, or before its end, which tells parameters apart."""
    line = " ".join(clean(text).split())
    if columns(line) <= room:
        return line
    return f"...{fitting(line[::-1], room - 3)[::-1]}" if end else f"{fitting(line, room - 3)}..."


def table(rows: list[list[str]], indent: str = "  ", gap: str = "  ") -> list[str]:
    """Rows of short cells, the first with the titles; columns as wide as their widest cell, texts left, numbers right."""
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    right = [all(map(is_number, cells[1:])) for cells in zip(*rows, strict=True)]
    return [
        indent + gap.join(padded(cell, width, flush) for cell, width, flush in zip(cells, widths, right, strict=True)).rstrip()
        for cells in rows
    ]


def padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - columns(cell))
    return space + cell if right else cell + space


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, or stands for none."""
    try:
        float(cell.replace(",", "").rstrip("%") or "0")
    except ValueError:
        return cell in ("-", "")
    return True
