"""Results to JSON and back, by the types of their fields, refusing what ``save`` never writes."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from hessian.checks import LONG

NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(value: Any) -> Any:
    """``value`` as JSON can hold it. NaN and infinity become strings: JSON has no number for them."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, np.ndarray):
        return [encode(entry) for entry in value.tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): encode(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(entry) for entry in value]
    return value


def encode_fields(result: Any) -> dict[str, Any]:
    return {field.name: encode(getattr(result, field.name)) for field in stored_fields(type(result))}


def decode_fields(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of ``cls`` from JSON values, or a ``ValueError``."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in stored_fields(cls)}
    unknown = set(values) - set(fields)
    if unknown:
        raise ValueError(f"it has an unknown field {min(unknown)!r:.40}")
    missing = [name for name, field in fields.items() if name not in values and field.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing")
    return {name: decode_field(name, hints[name], values[name]) for name in values}


def stored_fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """All but tensors, which are marked ``stored=False``."""
    return [field for field in dataclasses.fields(cls) if field.metadata.get("stored", True)]


def decode_field(name: str, hint: Any, value: Any) -> Any:
    """``decode`` with the field's name in the error."""
    try:
        return decode(hint, value)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"the field {name!r} does not hold what it should ({error})") from error


def decode(hint: Any, value: Any) -> Any:
    """One JSON value as the type ``hint`` says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return arguments[1].check(decode(arguments[0], value))
    if origin in (typing.Union, types.UnionType):
        return None if value is None else decode(next(option for option in arguments if option is not type(None)), value)
    if origin is Literal:
        return member(arguments, value)
    if origin in (np.ndarray, npt.NDArray):  # the second is a type of its own from NumPy 2.5 on, with Python 3.12 or newer
        return np.array([decode(float, entry) for entry in require(list, value)], dtype=np.float64)
    if origin is tuple:
        entries = require(list, value)
        hints = arguments[:1] * len(entries) if arguments[-1] is Ellipsis else arguments
        return tuple(decode(hint, entry) for hint, entry in zip(hints, entries, strict=True))
    if origin is dict:
        return {text(key): decode(arguments[1], entry) for key, entry in require(dict, value).items()}
    return decode_scalar(hint, value)


def decode_scalar(hint: Any, value: Any) -> Any:
    if hasattr(hint, "from_dict"):
        return hint.from_dict(require(dict, value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[member(list(hint.__members__), value)]
    if hint is float:
        return NONFINITE[member(list(NONFINITE), value)] if isinstance(value, str) else float(require((int, float), value))
    if hint is int and abs(require(int, value)) >= LONG:
        raise ValueError(f"{value!r:.40} is too large")
    return text(require(str, value)) if hint is str else require(hint, value)


def member(known: Sequence[str], value: Any) -> str:
    """``value``, if it is one of these."""
    if not isinstance(value, str) or value not in known:
        names = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        raise ValueError(f"{value!r:.40} is none of {names}")
    return value


def text(value: str) -> str:
    """JSON can name half of a surrogate pair, which no terminal takes."""
    value.encode()
    return value


def require(kind: Any, value: Any) -> Any:
    """``value``, if it is of that kind (a bool is not a number)."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r:.40} is of the wrong type")
    return value


MOST_NESTED = 10_000  # lists and objects: empty ones take thirty times their text in memory, numbers eight times


def parse(content: bytes) -> Any:
    """The value of UTF-8 text, with a byte order mark or without.

    Raises:
        ValueError: If it is no JSON, or names a key twice, or holds a number too large for a float.
        RecursionError: If it is nested too deeply.
    """
    nested = content.count(b"[") + content.count(b"{")
    if nested > MOST_NESTED:
        raise ValueError(f"it holds {nested:,} lists and objects, and at most {MOST_NESTED:,} are read")
    text = content.decode("utf-8-sig")
    return json.loads(text, object_pairs_hook=without_twins, parse_constant=refuse_constant, parse_float=finite, parse_int=whole)


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values for a key nobody can say which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twin = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twin!r:.40} stands there twice")
    return found


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def finite(text: str) -> float:
    """``1e999`` would become infinity without a word."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def whole(text: str) -> int:
    """One that a float can hold too; Python itself would spend minutes on a million digits."""
    finite(text)
    return int(text)


SMALLEST_LR, LARGEST_LR = 1e-300, 1e300  # so that an LR times a few factors is a float above zero
LARGEST_LOSS = 1e300  # sums of a million losses up to here are floats; beyond, a loss counts as blown up


@dataclass(frozen=True)
class Range:
    """A condition in words and as a function."""

    words: str
    holds: Callable[[Any], bool]

    def check(self, value: Any) -> Any:
        """``value``, or a ``ValueError``."""
        if not self.holds(value):
            raise ValueError(f"{value!r:.40} is not {self.words}")
        return value


Positive = Annotated[float, Range("a positive finite number", lambda value: 0 < value < math.inf)]
AboveZero = Annotated[float, Range("above zero", lambda value: value > 0)]
Count = Annotated[int, Range("at least 0", lambda value: value >= 0)]
Some = Annotated[int, Range("at least 1", lambda value: value >= 1)]
Share = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
Portion = Annotated[float, Range("above 0, at most 1", lambda value: 0 < value <= 1)]
Half = Annotated[float, Range("from 0 to 0.5", lambda value: 0 <= value <= 0.5)]
LossOrInf = Annotated[float, Range("a loss, or infinite", lambda value: value == math.inf or abs(value) <= LARGEST_LOSS)]
Filled = Range("filled", lambda values: len(values) > 0)
