"""An operator that says when it has made a product, for whoever shows how far a measurement has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from torch import Tensor

from hessian.operators.base import CurvatureOperator

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
    """The operator, watched if someone is to be told."""
    return operator if told is None else WatchedOperator(operator, told)


def watched_steps(batches: Iterable[T], told: Told | None) -> Iterator[T]:
    """The batches of training steps; ``told`` is called after each step."""
    for batch in batches:
        yield batch
        if told is not None:
            told("step")
