"""How a number of gradients is spent."""

from __future__ import annotations

from dataclasses import dataclass

from hessian.checks import positive_int
from hessian.errors import BadArgument

BUDGETS = {"quick": 150, "standard": 350, "thorough": 850}
LEAST = 60
SWEEP_SHARE = 0.65
PROBE_SHARE = 0.12  # what is left goes to curvature, whose cost is its own stopping rule's


@dataclass(frozen=True)
class Budget:
    """Steps of the sweep and of the confirming training."""

    sweep: int
    probe: int


def split_budget(budget: str | int) -> Budget:
    """``"quick"``, ``"standard"``, ``"thorough"``, or a number of gradients.

    Raises:
        BadArgument: If the name is unknown or the number too small for a sweep.
    """
    if isinstance(budget, str):
        if budget not in BUDGETS:
            raise BadArgument(f"budget={budget!r} is unknown; choose {', '.join(map(repr, BUDGETS))}, or a number of gradients.")
        gradients = BUDGETS[budget]
    else:
        gradients = positive_int("budget", budget, least=LEAST)
    return Budget(sweep=round(SWEEP_SHARE * gradients), probe=round(PROBE_SHARE * gradients))
