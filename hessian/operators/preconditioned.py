"""An operator as the optimizer sees it: scaled by its preconditioner and shifted by its weight decay."""

from __future__ import annotations

import torch
from torch import Tensor

from hessian.operators.base import CurvatureOperator


class PreconditionedOperator(CurvatureOperator):
    """``S (H + inner) S + outer`` with diagonal ``S``, ``inner`` and ``outer``.

    With ``S = P^-1/2`` it is similar to ``P^-1 (H + inner)`` and, unlike that, symmetric: the same eigenvalues, a real Lanczos.

    Args:
        operator: ``H``.
        scale: Diagonal of ``S``, shape ``(n,)``. Zero takes a coordinate out.
        inner: Diagonal added to ``H`` (weight decay that is part of the gradient), shape ``(n,)``, or None.
        outer: Diagonal added outside (weight decay that is not), shape ``(n,)``, or None.
    """

    def __init__(self, operator: CurvatureOperator, scale: Tensor, inner: Tensor | None = None, outer: Tensor | None = None) -> None:
        super().__init__(operator.size, operator.like, operator.space)
        self.operator = operator
        self.scale = scale
        self.inner = inner
        self.outer = outer

    def _product(self, vector: Tensor) -> Tensor:
        scaled = self.scale * vector  # the only new vector: what the operator returns may be its own
        result = self.operator @ scaled
        if self.inner is not None:
            result = torch.addcmul(result, self.inner, scaled, out=scaled)
        torch.mul(result, self.scale, out=scaled)
        return scaled if self.outer is None else scaled.addcmul_(self.outer, vector)

    def start_hint(self) -> Tensor | None:
        hint = self.operator.start_hint()
        return None if hint is None else self.scale * hint
