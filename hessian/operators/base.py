"""What a solver needs of a symmetric matrix that is never formed, and the precision in which curvature is measured.

Of operators: one of a matrix that is known, and one that says when it has made a product.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from hessian.errors import CurvatureError
from hessian.vectors import Space


class CurvatureOperator(ABC):
    """A symmetric ``n x n`` matrix given by its product with a vector.

    Attributes:
        size: ``n``.
        like: A tensor with the dtype and device that vectors have.
        space: Of its vectors; of a sharded model each process has a part of them, of ``space.length`` numbers.
        products: How many products were made.
    """

    def __init__(self, size: int, like: Tensor, space: Space | None = None) -> None:
        self.size = size
        self.space = space or Space(size)
        self.like = like
        self.products = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)``."""
        return (self.size, self.size)

    @abstractmethod
    def _product(self, vector: Tensor) -> Tensor:
        """The matrix times one flat vector of length ``size``."""

    def start_hint(self) -> Tensor | None:
        """A direction known to lean towards the sharp eigenvectors (the gradient does), or None."""
        return None

    def __matmul__(self, other: Tensor) -> Tensor:
        """``op @ v`` for ``v`` of shape ``(n,)``, or ``op @ V`` for ``V`` of shape ``(n, k)``."""
        if other.ndim not in (1, 2) or other.shape[0] != self.space.length:
            raise ValueError(f"cannot multiply an operator of shape {self.shape} with a tensor of shape {tuple(other.shape)}.")
        if other.ndim == 2:
            columns = [self @ column for column in other.unbind(1)]
            return torch.stack(columns, dim=1) if columns else other.to(self.like)
        self.products += 1
        return self._product(other.to(self.like)).detach()

    def to_scipy(self) -> LinearOperator:
        """The same operator for ``scipy.sparse.linalg`` (``eigsh`` and the rest), in float64 on the CPU."""

        def product(vector: np.ndarray) -> np.ndarray:
            result = self @ torch.as_tensor(np.asarray(vector).reshape(-1))
            return result.double().cpu().numpy()

        return LinearOperator(shape=self.shape, matvec=product, rmatvec=product, dtype=np.float64)


def check_finite(op: CurvatureOperator, value: float) -> None:
    """Refuse a product whose length, or share of something, is not finite."""
    if not math.isfinite(value):
        raise CurvatureError(
            f"Hessian-vector product {op.products} is not finite; look for infinite gradients (sqrt or norm at 0), or measure in float32."
        )


class DenseOperator(CurvatureOperator):
    """The operator of a symmetric matrix, shape ``(n, n)``."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix), matrix[0])
        self.matrix = matrix

    def _product(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


T = TypeVar("T")
Told = Callable[[Literal["step", "product"]], None]


class WatchedOperator(CurvatureOperator):
    """The same operator; ``told`` is called after every product."""

    def __init__(self, operator: CurvatureOperator, told: Told) -> None:
        super().__init__(operator.size, operator.like, operator.space)
        self._operator, self._told = operator, told

    def start_hint(self) -> Tensor | None:
        return self._operator.start_hint()

    def _product(self, vector: Tensor) -> Tensor:
        product = self._operator @ vector
        self._told("product")
        return product


def watched(operator: CurvatureOperator, told: Told | None) -> CurvatureOperator:
    return operator if told is None else WatchedOperator(operator, told)


def watched_steps(batches: Iterable[T], told: Told | None) -> Iterator[T]:
    """The batches of training steps; ``told`` is called after each step."""
    for batch in batches:
        yield batch
        if told is not None:
            told("step")


def autocast_devices() -> list[str]:
    """For which autocast is on."""
    return [kind for kind in ("cpu", "cuda", "xpu", "mps") if torch.is_autocast_enabled(kind)]


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn the caller's autocast off: for forward passes, backward passes (which obey the autocast they run under) and the solvers' own
    matrix products."""
    with ExitStack() as stack:
        for kind in autocast_devices():
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
