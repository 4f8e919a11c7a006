"""How a number of gradients is spent: what of, on what, and in which phases, for the bar, which says how long it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hessian.checks import positive_int
from hessian.errors import BadArgument
from lrfinder.constants import CONSTANTS

BUDGETS = {"quick": 150, "standard": 350, "thorough": 850}
LEAST = 60
COARSE, COARSE_ONLY = 4.0, 5.0  # points a decade of the coarse sweep, before a fine one and without
FINE, FINE_ALONE = 12.0, 20.0  # of the fine one, before short trainings and where it must do alone
FINEST = 110  # points of the fine sweep at most
ONE_SWEEP, TWO_SWEEPS = 75, 130  # gradients that all but the short trainings cost, with curvature
ENOUGH = 40  # gradients left for short trainings from which they are worth making
BOTH = 250  # gradients from which there is a fine sweep beside short trainings
FEW, MANY = 3.25, 6.0  # trainings of a small and of a large set, extensions included
LARGE = 500  # gradients left from which a large set is made
LONGER = 3  # times the length of the short trainings: of those that are made where nothing moved
TRIAL_SHARE = 0.06  # for the training at the answer itself


@dataclass(frozen=True)
class Budget:
    """What to make of it."""

    coarse: float  # points a decade of the coarse sweep
    fine: float  # of the fine sweep; 0 if there is none
    finest: int  # points of the fine sweep at most
    length: int  # steps of the short trainings; 0 if there are none
    longer: int  # of those that are made, beyond the budget, where the short ones moved hardly anything
    large: bool  # whether many of them are made
    trial: int  # steps of the training at the answer
    batches: int  # that curvature is taken on
    products: int  # Hessian-vector ones, at most

    def held_to(self, total_steps: int | None) -> Budget:
        """No short training longer than the planned one."""
        longest = total_steps or max(self.length, self.longer, self.trial)
        held = {name: min(getattr(self, name), longest) for name in ("length", "longer", "trial")}
        return replace(self, **held)


def split_budget(budget: str | int) -> Budget:
    """What is made of one of the ``BUDGETS``, or a number of gradients."""
    gradients = number_of_gradients(budget)
    both = gradients >= BOTH
    left = gradients - (TWO_SWEEPS if both else ONE_SWEEP)
    if left < ENOUGH:
        return without_trainings(gradients)
    large = left >= LARGE
    length = round(left / (MANY if large else FEW))
    return Budget(
        coarse=COARSE if both else COARSE_ONLY,
        fine=FINE if both else 0.0,
        finest=FINEST,
        length=length,
        longer=LONGER * length,
        large=large,
        trial=trial_steps(gradients),
        batches=2 if both else 1,
        products=10 if both else 7,
    )


def without_trainings(gradients: int) -> Budget:
    """Two sweeps that must do alone."""
    share = gradients / (ONE_SWEEP + ENOUGH)
    sweeps = COARSE * share, FINE_ALONE * share, round(FINEST * share)
    return Budget(*sweeps, length=0, longer=0, large=False, trial=trial_steps(gradients), batches=1, products=7)


def trial_steps(gradients: int) -> int:
    return max(12, min(40, round(TRIAL_SHARE * gradients)))


def number_of_gradients(budget: str | int) -> int:
    if not isinstance(budget, str):
        return positive_int("budget", budget, least=LEAST)
    if budget not in BUDGETS:
        raise BadArgument(f"budget={budget!r} is unknown; choose {', '.join(map(repr, BUDGETS))}, or a number of gradients.")
    return BUDGETS[budget]


FORWARD = 1 / 3  # of a gradient
PRODUCT = 2.3  # a Hessian-vector product over one batch, through a kept graph (docs/cost.md: 1.5 to 2.4)


@dataclass
class Spent:
    """Counts of passes over one batch each."""

    steps: int = 0
    forwards: int = 0  # without a backward pass
    products: int = 0  # Hessian-vector ones

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


SWEEP, TRAININGS, CURVATURE, CHECK = "sweep", "short trainings", "curvature", "check"
REACHED = 0.85  # of a coarse sweep is made before the loss breaks, in most trainings
SPAN = 3.2  # decades of a fine sweep until it breaks
USED = 0.6  # of the products allowed


def expected_gradients(spend: Budget, start_lr: float, end_lr: float, curvature: bool) -> dict[str, float]:
    """The phases in order, each with its cost; the sweep's with the losses before it."""
    coarse = REACHED * spend.coarse * math.log10(end_lr / start_lr)
    fine = min(SPAN * spend.fine, spend.finest)
    phases = {SWEEP: (coarse + fine) * (1 + FORWARD)}
    if spend.length:
        phases[TRAININGS] = float(spend.length * usual_trainings(spend))
    if curvature:
        phases[CURVATURE] = USED * spend.products * PRODUCT * spend.batches
    phases[CHECK] = 0.0 if spend.length else float(spend.trial)  # a short training at the answer or above will do
    return phases


def most_trainings(spend: Budget) -> int:
    """How many there will be, where the sweep has a basin and they tell something."""
    return len(CONSTANTS.fine_offsets if spend.large else CONSTANTS.offsets) + CONSTANTS.extensions


def usual_trainings(spend: Budget) -> int:
    return most_trainings(spend) - CONSTANTS.extensions + 1
