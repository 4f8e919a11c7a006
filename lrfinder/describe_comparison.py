"""Results side by side as text: a table of their numbers, what they have in common, and what not."""

from __future__ import annotations

import math
from collections.abc import Callable

from hessian.layout import WIDTH, columns, row, shortened, table, wrapped
from hessian.results import StableLR
from lrfinder.combine import corrected_break
from lrfinder.comparison import Compared, Comparison
from lrfinder.curve import LRCurve
from lrfinder.describe import plan
from lrfinder.results import Suggestion

LONGEST, GAP = 30, 2  # columns of a name, and between it and the numbers
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
    """What a sweep says."""
    stable, clean = corrected_break(curve), curve.clean
    return {
        "breaks_at": math.nan if curve.break_lr is None else curve.break_lr,
        "unstable_from": math.nan if stable is None else stable,
        "lowest_loss": float(curve.smooth[:clean].min()) if clean else math.nan,
        "steps": float(len(curve.lrs)),
    }


def describe_comparison(compared: Comparison) -> str:
    """The table first, then what is the same and what is not; fits 80 columns."""
    rows = [TITLES, *(cells(result) for _, result in compared.items())]
    names = dict(zip(compared.names, short(compared.names, WIDTH - max(map(columns, table(rows, "")))), strict=True))
    lines = table([[name, *numbers] for name, numbers in zip(["", *names.values()], rows, strict=True)], "")
    facts = {label: [fact(result) for _, result in compared.items()] for label, fact in FACTS.items()}
    same = [f"{label} {found[0]}" for label, found in facts.items() if len(set(found)) == 1 and found[0]]
    lines += row("the same" if len(names) > 1 else "valid for", ", ".join(same)) if same else []
    for label, found in facts.items():
        lines += row(label, grouped(list(names.values()), found)) if len(set(found)) > 1 else []
    return "\n".join([*lines, *legend(names)])


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
    """Names as they fit into the table; letters, which a legend explains, where they would not be told apart."""
    cut = [shortened(name, min(room - GAP, LONGEST)) for name in names]
    return cut if len(set(cut)) == len(cut) and all(cut) else [f"run {number}" for number in range(1, len(names) + 1)]


def legend(names: dict[str, str]) -> list[str]:
    """Names in full, where they were cut."""
    return [line for name, cut in names.items() if cut != name for line in wrapped(f"{cut} = {name}", "  ", "    ")]


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
