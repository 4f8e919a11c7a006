"""What all results share: printed, plotted, saved, read back."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hessian.codec import decode_fields, encode_fields, parse
from hessian.errors import BadArgument
from hessian.files import extract, read_limited, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hessian.reports.parts import Report


Floats = npt.NDArray[np.float64]
IMAGES = (".png", ".svg", ".pdf")
SCHEMA = 1


class Result:
    """Base of all results: equality by content, JSON, files. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Result]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result.kinds[cls.kind] = cls
        if "__str__" in vars(cls):  # IPython asks the class itself first, and there finds what dataclasses make of repr
            cls._repr_pretty_ = Result._repr_pretty_  # type: ignore[method-assign]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with ``kind`` and ``schema``."""
        return {"kind": self.kind, "schema": SCHEMA, **encode_fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The result that ``to_dict`` described; on a subclass, only of that class.

        Raises:
            ValueError: If ``values`` does not describe one.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
        fields = dict(values)
        kind, schema = fields.pop("kind", None), fields.pop("schema", None)
        known = sorted(name for name, found in Result.kinds.items() if issubclass(found, cls))
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(f"its kind is {kind!r:.40}, not one of {known}")
        if schema != SCHEMA or isinstance(schema, bool):
            raise ValueError(f"its schema is {schema!r:.40}, and this version reads {SCHEMA}")
        found = Result.kinds[kind]
        return found(**decode_fields(found, fields))

    def to_json(self) -> str:
        """What a ``.json`` file holds; NaN and infinity are text in it."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def rows(self) -> list[tuple[Any, ...]]:
        """The table that a ``.csv`` file holds, header first.

        Raises:
            BadArgument: If the result has none.
        """
        raise BadArgument(f"a {self.kind} has no table for .csv; save it as .json.")

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Figure:
        """Draw the result, on ``ax`` if given, and write the figure to ``path`` if given.

        Raises:
            BadArgument: If the result has no picture, or ``path`` ends in none of ``.png``, ``.svg`` and ``.pdf``.
        """
        raise BadArgument(f"a {self.kind} has no picture; save it as .json.")

    def report(self) -> Report | None:
        """What a page about the result says; None if there is none."""
        return None

    def to_html(self) -> str:
        """What an ``.html`` file holds: a page that stands alone, without scripts or requests, with the JSON inside.

        Raises:
            BadArgument: If the result has no report.
        """
        from hessian.reports.to_html import page

        report = self.report()
        if report is None:
            raise BadArgument(f"a {self.kind} has no report for .html; save it as .json.")
        return page(report, json.dumps(self.to_dict(), allow_nan=False))

    def _repr_html_(self) -> str | None:
        """As notebooks show it; None, and they show the text, without a report."""
        from hessian.reports.to_html import fragment

        report = self.report()
        return None if report is None else fragment(report)

    def _repr_markdown_(self) -> str | None:
        """The same where no HTML is shown."""
        from hessian.reports.to_markdown import markdown

        report = self.report()
        return None if report is None else markdown(report)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Where IPython shows text, what ``print`` shows."""
        printer.text(str(self))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result; the suffix decides: ``.json`` or ``.html``, which ``load`` reads back, ``.csv``, ``.png``, ``.svg``, ``.pdf``.

        An existing file is replaced only once the new one is complete.

        Raises:
            BadArgument: If the suffix is none of these, or the result has no such form.
            OSError: If the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            return write_atomically(path, self.to_json().encode())
        if suffix == ".html":
            return write_atomically(path, self.to_html().encode())
        if suffix == ".csv":
            return write_atomically(path, csv_text(self.rows()).encode())
        if suffix in IMAGES:
            return save_figure(self.plot(), path)
        raise BadArgument(f"{os.fspath(path)!r} ends in none of .json, .html, .csv, {', '.join(IMAGES)}; choose one of these.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """Read what ``save`` wrote as ``.json`` or ``.html``; on a subclass, only a result of that class.

        The file may be anything: it is checked field by field, nothing in it is run, and at most 64 MiB are read.

        Raises:
            BadArgument: If the file is not such a result, or is larger.
            OSError: If it cannot be read.
        """
        try:
            return cls.from_dict(parse(extract(read_limited(path))))
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise BadArgument(f"{os.fspath(path)!r} is not a saved result: {str(error) or 'it does not fit into memory'}.") from error


def csv_text(rows: list[tuple[Any, ...]]) -> str:
    """Rows as CSV; ``repr`` keeps every digit of a float."""
    return "".join(",".join(cell if isinstance(cell, str) else repr(cell) for cell in row) + "\n" for row in rows)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGES:
        raise BadArgument(f"{os.fspath(path)!r} ends in none of {', '.join(IMAGES)}; choose one of these.")
    return write_atomically(path, rendered(figure, suffix[1:]))


def rendered(figure: Figure, form: str) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(), np.errstate(over="ignore"):  # ticks overflow beside 1e300; the picture is right all the same
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for a letter that the font lacks
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # a name that leaves no room for the axes runs over them
        figure.savefig(buffer, format=form, dpi=150)
    return buffer.getvalue()
