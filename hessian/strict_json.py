"""JSON text to plain values, refusing what ``save`` never writes: such a file is damaged, or meant to harm."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

MOST_NESTED = 10_000  # lists and objects: empty ones take thirty times their text in memory, numbers eight times


def parse(content: bytes) -> Any:
    """The value that UTF-8 text, with a byte order mark or without, stands for.

    Raises:
        ValueError: If it is no JSON, or names a key twice, or holds NaN, infinity or a number too large for a float.
        RecursionError: If it is nested too deeply.
    """
    nested = content.count(b"[") + content.count(b"{")
    if nested > MOST_NESTED:
        raise ValueError(f"it holds {nested:,} lists and objects, and at most {MOST_NESTED:,} are read")
    text = content.decode("utf-8-sig")
    return json.loads(text, object_pairs_hook=without_twins, parse_constant=refuse_constant, parse_float=finite, parse_int=whole)


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose keys are all different: of two values nobody can say which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twin = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twin!r:.40} stands there twice")
    return found


def refuse_constant(name: str) -> NoReturn:
    """NaN and infinity are text in our files, for JSON has no number for them."""
    raise ValueError(f"{name} is no JSON")


def finite(text: str) -> float:
    """A number that a float can hold; ``1e999`` would become infinity without a word."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def whole(text: str) -> int:
    """A whole number that a float can hold too; Python itself would spend minutes on a million digits."""
    finite(text)
    return int(text)
