"""Several results side by side: what differs between them, as a table and on one picture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from hessian.codec import Filled
from hessian.errors import BadArgument, BadType
from hessian.layout import WIDTH, columns, row, shortened, table, wrapped
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.combine import corrected_break
from lrfinder.curve import LRCurve
from lrfinder.describe import plan
from lrfinder.results import Suggestion, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Compared = Suggestion | LRCurve | StableLR


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Result):
    """Results side by side.

    Attributes:
        names: What each is called, all different.
        results: A ``Suggestion``, ``LRCurve`` or ``StableLR`` each.
    """

    kind: ClassVar[str] = "comparison"

    names: Annotated[tuple[str, ...], Filled]
    results: Annotated[tuple[Result, ...], Filled]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.results) or len(set(self.names)) < len(self.names):
            raise ValueError(f"names are not {len(self.results)} different ones, one for each result")
        for result in self.results:
            if not isinstance(result, Compared):
                raise ValueError(f"a {result.kind} has no place in a comparison")

    def items(self) -> Iterator[tuple[str, Compared]]:
        """Name and result of each."""
        for name, result in zip(self.names, self.results, strict=True):
            assert isinstance(result, Compared)
            yield name, result

    def rows(self) -> list[tuple[Any, ...]]:
        """One line a result: its numbers, NaN where it has none."""
        lines = [('"' + name.replace('"', '""') + '"', *numbers_of(result).values()) for name, result in self.items()]
        return [("name", *NUMBERS), *lines]

    def __str__(self) -> str:
        """The table first, then what is the same and what is not; fits 80 columns."""
        rows = [TITLES, *(cells(result) for _, result in self.items())]
        names = dict(zip(self.names, short(self.names, WIDTH - max(map(columns, table(rows, "")))), strict=True))
        lines = table([[name, *numbers] for name, numbers in zip(["", *names.values()], rows, strict=True)], "")
        facts = {label: [fact(result) for _, result in self.items()] for label, fact in FACTS.items()}
        same = [f"{label} {found[0]}" for label, found in facts.items() if len(set(found)) == 1 and found[0]]
        lines += row("the same" if len(names) > 1 else "valid for", ", ".join(same)) if same else []
        for label, found in facts.items():
            lines += row(label, grouped(list(names.values()), found)) if len(set(found)) > 1 else []
        for name, cut in names.items():
            lines += wrapped(f"{cut} = {name}", "  ", "    ") if cut != name else []
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """Every result in its own colour and line style; see ``lrfinder.compare``."""
        from lrfinder.plotting_comparison import plot_comparison

        return plot_comparison(self, path, ax)


def compare(*results: Compared | str | os.PathLike[str], names: Sequence[str] | None = None) -> Comparison:
    """Several results side by side: ``print`` it for a table, ``plot`` it for one picture, ``save`` it in any form.

    ::

        print(lrfinder.compare("sgd.json", "adam.json"))
        lrfinder.compare(before, after, names=["before", "after"]).plot("both.png")

    Args:
        results: ``Suggestion``, ``LRCurve`` and ``StableLR`` in any mixture, or the files they were saved in.
        names: What they are called; by default their files' names, or their optimizers.

    Raises:
        BadArgument: If there is nothing to compare, a file holds no such result, or the names are not one for each and all different.
        BadType: If something is no such result.
        OSError: If a file cannot be read.
    """
    if not results:
        raise BadArgument("compare got no result; pass a Suggestion, an LRCurve or a StableLR, or the files they were saved in.")
    read = [load(result) if isinstance(result, (str, os.PathLike)) else result for result in results]
    for result, source in zip(read, results, strict=True):
        if not isinstance(result, Compared):
            where = f" from {os.fspath(source)!r}" if isinstance(source, (str, os.PathLike)) else ""
            raise BadType(f"compare cannot take the {type(result).__name__}{where}; pass a Suggestion, an LRCurve or a StableLR.")
    try:
        return Comparison(names=tuple(usual_names(results, read) if names is None else names), results=tuple(read))
    except ValueError as error:
        raise BadArgument(f"{error}; pass as many names as results, all different.") from None


def usual_names(sources: Sequence[Any], results: Sequence[Compared]) -> list[str]:
    """The files' names without suffix, with the folder where that tells more; else the optimizers; numbered if need be."""
    paths = [Path(source) if isinstance(source, (str, os.PathLike)) else None for source in sources]
    optimizers = [FACTS["optimizer"](result) or result.kind for result in results]
    found = [optimizer if path is None else path.stem for path, optimizer in zip(paths, optimizers, strict=True)]
    if len(set(found)) < len(found):
        found = [name if path is None else str(path.with_suffix("")) for path, name in zip(paths, found, strict=True)]
    return found if len(set(found)) == len(found) else [f"{number} {name}" for number, name in enumerate(found, 1)]


LONGEST, GAP = 30, 2  # columns of a name, and behind it
TITLES = ["lr", "good range", "breaks at", "limit", "lowest loss"]
NUMBERS = ("lr", "low", "high", "breaks_at", "unstable_from", "limit_lr", "lowest_loss", "steps")


def numbers_of(result: Compared) -> dict[str, float]:
    """What a result has of ``NUMBERS``; NaN for the others."""
    found = dict.fromkeys(NUMBERS, math.nan)
    if isinstance(result, Suggestion):
        low, high = result.interval
        found |= {"lr": result.lr, "low": low, "high": high, **numbers_of_curve(result.curve)}
        return found | ({} if result.limit is None else {"limit_lr": result.limit.lr})
    if isinstance(result, StableLR):
        return found | {"limit_lr": result.lr}
    return found | numbers_of_curve(result)


def numbers_of_curve(curve: LRCurve) -> dict[str, float]:
    stable, clean = corrected_break(curve), curve.clean
    return {
        "breaks_at": math.nan if curve.break_lr is None else curve.break_lr,
        "unstable_from": math.nan if stable is None else stable,
        "lowest_loss": float(curve.smooth[:clean].min()) if clean else math.nan,
        "steps": float(len(curve.lrs)),
    }


def cells(result: Compared) -> list[str]:
    """One line of the table, without its name."""
    found = {key: "-" if math.isnan(value) else f"{value:.2g}" for key, value in numbers_of(result).items()}
    between = "-" if found["low"] == "-" else f"{found['low']} to {found['high']}"
    return [found["lr"], between, found["breaks_at"], found["limit_lr"], found["lowest_loss"]]


def grouped(names: list[str], found: list[str]) -> str:
    """Who has what of something in which they differ."""
    groups = {text: [name for name, own in zip(names, found, strict=True) if own == text] for text in found if text}
    return "; ".join(f"{', '.join(group)}: {text}" for text, group in groups.items())


def short(names: tuple[str, ...], room: int) -> list[str]:
    """Names as they fit into the table; numbers, which a legend explains, where they would not be told apart."""
    cut = [shortened(name, min(room - GAP, LONGEST)) for name in names]
    return cut if len(set(cut)) == len(cut) and all(cut) else [f"run {number}" for number in range(1, len(names) + 1)]


def setting(name: str) -> Callable[[Compared], str]:
    """A field of the sweep or of the limit, as text."""

    def of(result: Compared) -> str:
        value = getattr(result.curve if isinstance(result, Suggestion) else result, name)
        return "?" if value is None else str(value)

    return of


FACTS: dict[str, Callable[[Compared], str]] = {
    "model": setting("model"),
    "optimizer": setting("optimizer"),
    "batch": setting("batch_size"),
    "seed": setting("seed"),
    "planned": lambda result: plan(result) if isinstance(result, Suggestion) else "",
}
