"""What adapters share: one sentence where an extra is missing or too old, and the numbers of a reading."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from hessian import SharpnessReading


def require(package: str, extra: str, least: str) -> None:
    """Refuse to go on without a package.

    Args:
        package: Its name as pip knows it.
        extra: The extra of ours that installs it, and the adapter that needs it.
        least: The oldest version that was tested.

    Raises:
        ImportError: If it is missing or older.
    """
    what = f"lrfinder.integrations.{extra} needs {package}"
    try:
        found = version(package)
    except PackageNotFoundError:
        raise ImportError(f'{what}: pip install "lrfinder[{extra}]"') from None
    if numbers(found) < numbers(least):
        raise ImportError(f'{what} {least} or newer, but {found} is installed: pip install -U "lrfinder[{extra}]"')


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``(2, 6, 1)`` for ``"2.6.1rc2"``."""
    return tuple(int(number) for number in re.match(r"[\d.]*", text).group().strip(".").split(".") if number)  # type: ignore[union-attr]


def scalars(reading: SharpnessReading) -> dict[str, float]:
    """The numbers of a reading, by the names under which loggers get them."""
    return {
        "sharpness/sharpness": reading.sharpness,
        "sharpness/lr": reading.lr,
        "sharpness/limit_lr": reading.limit_lr,
        "sharpness/ratio": reading.ratio,
    }
