"""A Krylov space that grows by one product a step."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from hessian.operators.base import CurvatureOperator, check_finite
from hessian.precision import full_precision
from hessian.results import Floats

BREAKDOWN = 1e-7  # off-diagonal over the largest Ritz value below which the Krylov space is exhausted, in float32 as well
BLOCK = 4  # basis vectors held in one tensor: fewer cost time for calls, more cost memory for rows that are not needed yet


class Krylov:
    """An orthonormal basis that grows by one product a step, and the tridiagonal matrix of ``sign * op`` in it."""

    def __init__(self, op: CurvatureOperator, start: Tensor, sign: float = 1.0, *, keep_all: bool = True) -> None:
        self.op = op
        self.sign = sign
        self.keep_all = keep_all
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self._blocks: list[Tensor] = []
        self._following = start

    @property
    def steps(self) -> int:
        """Products made."""
        return len(self.alphas)

    @property
    def held(self) -> list[Tensor]:
        """The vectors held, as rows of one tensor or several: all of them, or the last two."""
        used = (self.steps - 1) % BLOCK + 1
        return [*self._blocks[:-1], self._blocks[-1][:used]] if self.keep_all else self._blocks

    def extend(self) -> None:
        """One product. Full memory orthogonalises twice against everything ("twice is enough"), low memory against two vectors."""
        current = self._append(self._following / self.betas[-1] if self.steps else self._following)
        product = self.sign * (self.op @ current)  # a new tensor: the operator may have returned its argument
        alpha = self.op.space.dot(product, current)
        check_finite(self.op, alpha)
        self.alphas.append(alpha)
        product.sub_(current, alpha=alpha)
        with full_precision():
            for _ in range(2):
                for rows in self.held:
                    product.addmv_(rows.T, self.op.space.project(rows, product), alpha=-1)
        beta = self.op.space.norm(product)
        check_finite(self.op, beta)  # the square of a product that is itself finite may overflow
        self.betas.append(beta)
        self._following = product

    def _append(self, vector: Tensor) -> Tensor:
        """The vector as a row of the basis. Rows are added by blocks: one tensor for all would have to be copied to grow."""
        if not self.keep_all:
            last = self._blocks[0][-1:] if self._blocks else vector[None][:0]
            self._blocks = [torch.cat([last, vector[None]])]
            return self._blocks[0][-1]
        row = self.steps % BLOCK
        if row == 0:
            self._blocks.append(vector.new_empty((min(BLOCK, self.op.size), self.op.space.length)))
        return self._blocks[-1][row].copy_(vector)

    def ritz_pairs(self) -> tuple[Floats, Floats]:
        """Eigenvalues of the tridiagonal matrix in descending order, eigenvectors as columns."""
        pairs = eigh_tridiagonal(np.array(self.alphas), np.array(self.betas[:-1]))
        values, vectors = (np.asarray(part, dtype=np.float64) for part in pairs)
        return values[::-1].copy(), vectors[:, ::-1].copy()  # torch takes no negative strides

    def exhausted(self, values: Floats) -> bool:
        """Whether the space cannot grow: the Ritz values are exact. Low memory may take more steps than there are dimensions."""
        return (self.keep_all and self.steps == self.op.size) or self.betas[-1] <= BREAKDOWN * max(float(abs(values).max()), 1e-30)

    def combine(self, weights: Floats) -> Tensor:
        """Ritz vectors, shape ``(n, k)``, from their coordinates in the basis."""
        found = self.op.like.new_zeros(self.op.space.length, weights.shape[1])
        with full_precision():
            for index, rows in enumerate(self.held):
                part = weights[index * BLOCK : index * BLOCK + len(rows)]
                found.addmm_(rows.T, torch.as_tensor(part, dtype=found.dtype, device=found.device))
        return found
