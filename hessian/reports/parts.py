"""The parts of a report, as plain text; how they look is up to ``to_html`` and ``to_markdown``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hessian.doubts import Sentence


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows, for those who cannot see it; a ``flat`` one can be low, as all it shows lies on one axis."""

    title: str
    description: str
    draw: Callable[[Axes], object]
    flat: bool = False


@dataclass(frozen=True)
class Words:
    """A paragraph; what stands between backticks is code."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines to paste."""

    text: str


@dataclass(frozen=True)
class Doubts:
    """Reasons to trust the result less, each with what to do."""

    members: tuple[Sentence, ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell names its row.

    Attributes:
        caption: What it lists, for those who hear it.
        rows: A line break in a cell is one on the page.
        numbers: Columns that hold numbers, and are aligned as such.
        shares: For each row the length of a bar, from 0 to 1; empty for none.
        sum: Whether the last row is what the others lead to.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    sum: bool = False


Block: TypeAlias = Words | Code | Doubts | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; ``first`` ones are open in a notebook, the others fold away."""

    title: str
    blocks: tuple[Block, ...]
    first: bool = False


@dataclass(frozen=True)
class Report:
    """All of it, the most important first.

    Attributes:
        label: What ``number`` is.
        number: The answer.
        lead: What it means, in sentences; what stands between backticks is a number.
        sections: What it rests on.
    """

    label: str
    number: str
    lead: tuple[str, ...]
    picture: Picture | None
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        """The answer in a few words."""
        return f"{self.label} {self.number}".strip()


def printable(text: str) -> str:
    """Letters that cannot be shown are a box. Line breaks stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def doubts_section(members: Sequence[Sentence]) -> Section:
    return Section("Doubts", (Doubts(tuple(members)) if members else Words("None."),), first=True)


def shares_section(title: str, shares: dict[str, float], most: int = 8) -> Section:
    """The largest shares of a whole, each with its bar; the others are one row."""
    rows = list(shares.items())[:most]
    if len(shares) > most:
        rows.append((f"{len(shares) - most} others", max(0.0, 1 - sum(share for _, share in rows))))
    cells = tuple((name, f"{share:.1%}") for name, share in rows)
    bars = tuple(min(max(share, 0.0), 1.0) for _, share in rows)
    table = Table(f"{title}: share of the sharpest direction", ("Parameter", "Share"), cells, numbers=(1,), shares=bars)
    return Section(title, (table,))


def settings_section(rows: Iterable[tuple[str, str]]) -> Section:
    """What it was measured and written with."""
    kept = tuple((name, text) for name, text in (*rows, ("Written with", versions())) if text)
    return Section("Settings and versions", (Table("Settings and versions", ("Setting", "Value"), kept),))


def versions() -> str:
    """Of what is installed here; nothing is loaded for it."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("lrfinder", "torch", "numpy", "matplotlib"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*found, f"Python {platform.python_version()}"])
