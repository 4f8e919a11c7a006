"""Several results side by side: what differs between them, as a table and on one picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from hessian.errors import BadArgument, BadType
from hessian.ranges import Filled
from hessian.result_base import Result
from hessian.results import StableLR
from lrfinder.curve import LRCurve
from lrfinder.results import Suggestion, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Compared = Suggestion | LRCurve | StableLR
KINDS = (Suggestion, LRCurve, StableLR)


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
            if not isinstance(result, KINDS):
                raise ValueError(f"a {result.kind} has no place in a comparison")

    def items(self) -> Iterator[tuple[str, Compared]]:
        """Name and result of each."""
        for name, result in zip(self.names, self.results, strict=True):
            assert isinstance(result, KINDS)
            yield name, result

    def rows(self) -> list[tuple[Any, ...]]:
        """One line a result: its numbers, NaN where it has none."""
        from lrfinder.describe_comparison import NUMBERS, numbers_of

        quoted = ['"' + name.replace('"', '""') + '"' for name in self.names]
        return [("name", *NUMBERS), *((name, *numbers_of(result).values()) for name, (_, result) in zip(quoted, self.items(), strict=True))]

    def __str__(self) -> str:
        from lrfinder.describe_comparison import describe_comparison

        return describe_comparison(self)

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
        if not isinstance(result, KINDS):
            where = f" from {os.fspath(source)!r}" if isinstance(source, (str, os.PathLike)) else ""
            raise BadType(f"compare cannot take the {type(result).__name__}{where}; pass a Suggestion, an LRCurve or a StableLR.")
    try:
        return Comparison(names=tuple(usual_names(results, read) if names is None else names), results=tuple(read))
    except ValueError as error:
        raise BadArgument(f"{error}; pass as many names as results, all different.") from None


def usual_names(sources: Sequence[Any], results: Sequence[Compared]) -> list[str]:
    """The files' names without folder and suffix, with the folder where that tells more; else the optimizers, numbered if need be."""
    paths = [Path(source) if isinstance(source, (str, os.PathLike)) else None for source in sources]
    found = [optimizer_of(result) if path is None else path.stem for path, result in zip(paths, results, strict=True)]
    if len(set(found)) < len(found):
        found = [name if path is None else str(path.with_suffix("")) for path, name in zip(paths, found, strict=True)]
    return found if len(set(found)) == len(found) else [f"{number} {name}" for number, name in enumerate(found, 1)]


def optimizer_of(result: Compared) -> str:
    """Its optimizer in words."""
    return (result.curve if isinstance(result, Suggestion) else result).optimizer or result.kind
