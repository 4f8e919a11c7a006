"""How a number of gradients is spent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hessian.checks import positive_int
from hessian.errors import BadArgument

BUDGETS = {"quick": 150, "standard": 350, "thorough": 850}
LEAST = 60
COARSE = 4.0  # points a decade of the coarse sweep
FINE, FINE_ALONE = 12.0, 20.0  # of the fine one, before short trainings and where it must do alone
FINEST = 110  # points of the fine sweep at most
SWEEPS = 130  # what both cost beside short trainings, with curvature
ENOUGH = 80  # gradients left for short trainings from which they are worth making
FEW, MANY = 3.9, 6.0  # trainings of a small and of a large set, extensions included
LARGE = 500  # gradients left from which a large set is made
TRIAL_SHARE = 0.06  # for the training at the answer itself


@dataclass(frozen=True)
class Budget:
    """What to make of it.

    Attributes:
        coarse: Points a decade of the coarse sweep.
        fine: Points a decade of the fine sweep.
        finest: Points of the fine sweep at most.
        length: Steps of the short trainings; 0 if there are none.
        large: Whether many of them are made.
        trial: Steps of the training at the answer.
        batches: Batches that curvature is taken on.
        products: Hessian-vector products at most.
    """

    coarse: float
    fine: float
    finest: int
    length: int
    large: bool
    trial: int
    batches: int
    products: int

    def held_to(self, total_steps: int | None) -> Budget:
        """No short training longer than the planned one."""
        longest = total_steps or max(self.length, self.trial)
        return replace(self, length=min(self.length, longest), trial=min(self.trial, longest))


def split_budget(budget: str | int) -> Budget:
    """``"quick"``, ``"standard"``, ``"thorough"``, or a number of gradients.

    Raises:
        BadArgument: If the name is unknown or the number too small for a sweep.
    """
    gradients = number_of_gradients(budget)
    left = gradients - SWEEPS
    share = min(gradients / BUDGETS["quick"], 1.0)
    large = left >= LARGE
    return Budget(
        coarse=COARSE * share,
        fine=FINE if left >= ENOUGH else FINE_ALONE * share,
        finest=round(FINEST * share),
        length=round(left / (MANY if large else FEW)) if left >= ENOUGH else 0,
        large=large,
        trial=max(8, min(40, round(TRIAL_SHARE * gradients))),
        batches=1 if left < ENOUGH else 2,
        products=10 if left >= ENOUGH else 7,
    )


def number_of_gradients(budget: str | int) -> int:
    """The number behind a name."""
    if not isinstance(budget, str):
        return positive_int("budget", budget, least=LEAST)
    if budget not in BUDGETS:
        raise BadArgument(f"budget={budget!r} is unknown; choose {', '.join(map(repr, BUDGETS))}, or a number of gradients.")
    return BUDGETS[budget]
