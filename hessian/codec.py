"""Results to plain JSON values and back, driven by the types of the dataclass fields."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal

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
    """Every field of a dataclass that is stored."""
    return {field.name: encode(getattr(result, field.name)) for field in stored_fields(type(result))}


def decode_fields(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of ``cls`` from JSON values.

    Raises:
        ValueError: If a field is missing, unknown, or of the wrong type.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in stored_fields(cls)}
    unknown = set(values) - set(fields)
    if unknown:
        raise ValueError(f"it has an unknown field {sorted(unknown)[0]!r:.40}")
    missing = [name for name, field in fields.items() if name not in values and field.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing")
    return {name: decode_field(name, hints[name], values[name]) for name in values}


def stored_fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """Fields that go to JSON; tensors are marked ``stored=False``."""
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
        options = [option for option in arguments if option is not type(None)]
        return None if value is None else decode(options[0], value)
    if origin is Literal:
        return member(arguments, value)
    if origin in (np.ndarray, npt.NDArray):  # the second is a type of its own from NumPy 2.5 on, with Python 3.12 or newer
        return np.array([decode(float, entry) for entry in require(list, value)], dtype=np.float64)
    if origin is tuple:
        return decode_tuple(arguments, require(list, value))
    if origin is dict:
        return {text(key): decode(arguments[1], entry) for key, entry in require(dict, value).items()}
    return decode_scalar(hint, value)


def decode_tuple(arguments: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    """A tuple of any length (``tuple[X, ...]``) or of a fixed one."""
    if arguments[-1] is Ellipsis:
        return tuple(decode(arguments[0], value) for value in values)
    return tuple(decode(hint, value) for hint, value in zip(arguments, values, strict=True))


def decode_scalar(hint: Any, value: Any) -> Any:
    """A number, text, flag, enum member or nested result."""
    if hasattr(hint, "from_dict"):
        return hint.from_dict(require(dict, value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[member(list(hint.__members__), value)]
    if hint is float:
        return NONFINITE[member(list(NONFINITE), value)] if isinstance(value, str) else float(require((int, float), value))
    if hint is int:
        return long(require(int, value))
    return text(require(str, value)) if hint is str else require(hint, value)


def member(known: Sequence[str], value: Any) -> str:
    """``value``, if it is one of these."""
    if not isinstance(value, str) or value not in known:
        names = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        raise ValueError(f"{value!r:.40} is none of {names}")
    return value


def long(value: int) -> int:
    """A whole number of an ordinary size."""
    if abs(value) >= LONG:
        raise ValueError(f"{value!r:.40} is too large")
    return value


def text(value: str) -> str:
    """Text that can be printed: JSON can name half of a surrogate pair, which no terminal takes."""
    value.encode()
    return value


def require(kind: Any, value: Any) -> Any:
    """``value``, if it is of that kind (a bool is not a number)."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r:.40} is of the wrong type")
    return value
