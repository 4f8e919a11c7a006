"""Small real trainings that ship with the package, for ``lrfinder demo`` and for trying ``find_lr`` without data of one's own.

Nothing heavy is imported up here: the command line reads the names below for its help text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hessian.checks import whole_number
from hessian.errors import BadArgument

DEMOS: dict[str, str] = {
    "digits-mlp": "handwritten digits, a fully connected net (scikit-learn's 8x8 images)",
    "digits-cnn": "handwritten digits, a conv net with BatchNorm (scikit-learn's 8x8 images)",
    "mnist1d": "MNIST-1D, a one-dimensional conv net (signals made by the mnist1d package)",
    "chars": "next character of Python's standard library, a causal transformer (no extra package)",
}
OPTIMIZERS: tuple[str, ...] = ("sgd", "adam", "adamw", "rmsprop")


def make(name: str = "digits-mlp", optimizer: str | None = None, seed: int = 0) -> dict[str, Any]:
    """A small real training, not yet begun, as keyword arguments of ``lrfinder.find_lr``.

    Args:
        name: One of ``DEMOS``.
        optimizer: One of ``OPTIMIZERS``; None takes the one this demo is usually trained with.
        seed: Decides the first weights and the order of the batches. The samples, and which of them validate, are always the same.

    Returns:
        ``model``, ``optimizer``, ``data``, ``val_data``, ``criterion`` or ``loss_fn``, ``total_steps`` and ``schedule``, all on the
        CPU. The global random generators are left as they were.

    Raises:
        BadArgument: If a name is unknown, or the package that holds the data is not installed.

    Example:
        >>> sorted(make("chars"))
        ['data', 'loss_fn', 'model', 'optimizer', 'schedule', 'total_steps', 'val_data']
    """
    check_name("name", name, list(DEMOS))
    if optimizer is not None:
        check_name("optimizer", optimizer, OPTIMIZERS)
    whole_number("seed", seed)
    from lrfinder.demo.recipes import build  # torch loads only when a training is made

    return build(name, optimizer, seed)


def check_name(argument: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise BadArgument(f"{argument}={value!r} is not known to the demos; choose from {', '.join(known)}.")
