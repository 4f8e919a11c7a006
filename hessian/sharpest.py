"""Which parameters the sharpest direction lies in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hessian.vectors import coordinates


def sharpness_by_parameter(names: Sequence[str], parameters: Sequence[Tensor], direction: Tensor) -> dict[str, float]:
    """How much of a direction lies in every parameter, largest first: shares of its squared length, so they add up to one.

    Args:
        names: One for each parameter; ``op.names`` of an operator.
        parameters: In the order of the coordinates; ``op.parameters``.
        direction: Shape ``(n,)``, such as ``lanczos(op).vectors[:, 0]``.
    """
    parts = torch.split(direction, [coordinates(parameter) for parameter in parameters])
    squares = [float(part.square().sum(dtype=torch.float64)) for part in parts]
    return shares(names, squares)


def shares(names: Sequence[str], squares: Sequence[float]) -> dict[str, float]:
    """Of the squared length in every parameter its share, largest first."""
    total = sum(squares) or 1.0
    found = {name: square / total for name, square in zip(names, squares, strict=True)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
