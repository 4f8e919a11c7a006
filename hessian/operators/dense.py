"""A matrix that is known: for tests, examples and small problems."""

from __future__ import annotations

from torch import Tensor

from hessian.operators.base import CurvatureOperator


class DenseOperator(CurvatureOperator):
    """The operator of a symmetric matrix, shape ``(n, n)``."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix), matrix[0])
        self.matrix = matrix

    def _product(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector
