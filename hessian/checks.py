"""Checks of plain arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from hessian.errors import BadArgument, BadType

LONG = 2**63  # from here on a whole number is no seed or size for torch, and fits no array


def positive_float(name: str, value: object) -> float:
    """``value`` as a float, if it is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadType(f"{name}={value!r} is not a number; pass a positive one.")
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise BadArgument(f"{name}={number:g} is not a positive finite number; pass one such as 1e-3.")
    return number


def positive_int(name: str, value: object, *, least: int = 1) -> int:
    """``value`` as an int, if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BadType(f"{name}={value!r} is not a whole number; pass one of at least {least}.")
    number = int(value)
    if number < least:
        raise BadArgument(f"{name}={short(number)} is too small; pass at least {least}.")
    if number >= LONG:
        raise BadArgument(f"{name}={short(number)} is too large; pass less than 2**63.")
    return number


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise BadArgument(f"{name}={value!r} is unknown; choose {' or '.join([', '.join(map(repr, known[:-1])), repr(known[-1])])}.")


def short(value: int) -> str:
    """For a message; Python writes out no more than some four thousand digits."""
    return str(value) if abs(value) < 10**20 else f"{'-' if value < 0 else ''}2**{value.bit_length() - 1} and beyond"


def whole_number(name: str, value: object) -> int:
    """``value`` as an int of at least zero: a seed."""
    return positive_int(name, value, least=0)
