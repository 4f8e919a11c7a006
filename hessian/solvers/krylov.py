"""A Krylov space that grows by one product a step."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from hessian.operators.base import CurvatureOperator, check_finite, full_precision
from hessian.result_base import Floats

BREAKDOWN = 1e-7  # off-diagonal over the largest Ritz value below which the Krylov space is exhausted, in float32 as well
BLOCK = 4  # basis vectors held in one tensor: fewer cost time for calls, more cost memory for rows that are not needed yet
LAST = 2  # vectors that low memory keeps

Memory = Literal["full", "offload", "low"]
Kept = Literal["full", "offload"]  # where eigenvectors or weights are wanted
MEMORIES: tuple[Memory, ...] = ("full", "offload", "low")
KEPT: tuple[Kept, ...] = ("full", "offload")


class Krylov:
    """An orthonormal basis that grows by one product a step, and the tridiagonal matrix of ``sign * op`` in it.

    Args:
        start: The first vector, of unit length. It is written to.
        sign: One, or minus one for the other end of the spectrum.
        memory: ``"full"`` keeps every vector beside the parameters, ``"offload"`` in the host's memory, ``"low"`` the last two.
    """

    def __init__(self, op: CurvatureOperator, start: Tensor, sign: float = 1.0, memory: Memory = "full") -> None:
        self.op = op
        self.sign = sign
        self.keep_all = memory != "low"
        self._home = torch.device("cpu") if memory == "offload" else op.like.device
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
        """All vectors, or the last two, as rows of one tensor or several."""
        if not self.keep_all:
            return [self._blocks[0][: self.steps]]
        used = (self.steps - 1) % BLOCK + 1
        return [*self._blocks[:-1], self._blocks[-1][:used]]

    def extend(self) -> None:
        """One product. Full memory orthogonalises twice against everything ("twice is enough"), low memory against two vectors."""
        if self.steps:
            self._following.div_(self.betas[-1])
        current = self._append(self._following).to(self.op.like.device)
        # Into the vector that has just been copied: what the operator returned may be its own.
        product = torch.mul((self.op @ current).detach(), self.sign, out=self._following)
        alpha = self.op.space.dot(product, current)
        check_finite(self.op, alpha)
        self.alphas.append(alpha)
        product.sub_(current, alpha=alpha)
        with full_precision():
            for _ in range(2):
                self.op.space.take_off(self.held, product)
        beta = self.op.space.norm(product)
        check_finite(self.op, beta)  # the square of a product that is itself finite may overflow
        self.betas.append(beta)

    def _append(self, vector: Tensor) -> Tensor:
        """The vector as a row of the basis. Rows are added by blocks: one tensor for all would have to be copied to grow."""
        row = self.steps % (BLOCK if self.keep_all else LAST)
        if row == 0 and (self.keep_all or not self._blocks):
            shape = min(BLOCK, self.op.size) if self.keep_all else LAST, self.op.space.length
            pinned = self._home != self.op.like.device  # copies then need no detour
            self._blocks.append(torch.empty(shape, dtype=self.op.like.dtype, device=self._home, pin_memory=pinned))
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
                found.addmm_(rows.to(found.device).T, torch.as_tensor(part, dtype=found.dtype, device=found.device))
        return found
