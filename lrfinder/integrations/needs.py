"""What adapters share."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hessian import SharpnessReading


def require(package: str, extra: str, least: str) -> None:
    """Refuse to go on without a package, or with one older than was tested."""
    what = f"lrfinder.integrations.{extra} needs {package}"
    try:
        found = version(package)
    except PackageNotFoundError:
        raise ImportError(f'{what}: pip install "lrfinder[{extra}]"') from None
    if numbers(found) < numbers(least):
        raise ImportError(f'{what} {least} or newer, but {found} is installed: pip install -U "lrfinder[{extra}]"')


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``(2, 6, 1)`` for ``"2.6.1rc2"``."""
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", text)[0])))  # type: ignore[index]


def scalars(reading: SharpnessReading) -> dict[str, float]:
    """The numbers of a reading, by the names under which loggers get them."""
    return {f"sharpness/{name}": getattr(reading, name) for name in ("sharpness", "lr", "limit_lr", "ratio")}


def keep_names(attributes: dict[str, Any], names: Collection[str]) -> Callable[[], None]:
    """Puts these attributes back; others are the object's own, and a step may change them."""
    kept = {name: attributes[name] for name in names if name in attributes}

    def restore() -> None:
        for name in names:
            attributes.pop(name, None)
        attributes.update(kept)

    return restore
