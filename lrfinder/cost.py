"""What a measurement has cost so far, in gradients: forward and backward pass over one batch."""

from __future__ import annotations

from dataclasses import dataclass

FORWARD = 1 / 3  # of a gradient
PRODUCT = 2.3  # a Hessian-vector product over one batch, through a kept graph (docs/cost.md: 1.5 to 2.4)


@dataclass
class Spent:
    """Counts of passes over one batch each.

    Attributes:
        steps: Training steps.
        forwards: Forward passes without a backward pass.
        products: Hessian-vector products.
    """

    steps: int = 0
    forwards: int = 0
    products: int = 0

    def looked(self, by_loss: bool, batches: int = 1) -> None:
        """The loss of so many batches was asked for: a forward pass each, or a whole step where that alone tells it."""
        if by_loss:
            self.forwards += batches
        else:
            self.steps += batches

    @property
    def gradients(self) -> float:
        """All of it in gradients."""
        return self.steps + FORWARD * self.forwards + PRODUCT * self.products
