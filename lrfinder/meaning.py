"""What the learning rate of some optimizers means: of one that tunes itself, or needs no schedule, it has another scale than usual."""

from __future__ import annotations

# Sources: the README of prodigyopt, Mishchenko and Defazio 2024, arXiv:2306.06101, Defazio and Mishchenko 2023, arXiv:2301.07733; the
# README of schedulefree (10 to 50 times the usual for SGD, 1 to 10 times for AdamW), Defazio et al. 2024, arXiv:2405.15682.
ESTIMATING = (
    "multiplies the step size that the optimizer estimates by itself: 1 is the default, and what its authors advise; that factor, not a "
    "step size, was measured"
)
MEANINGS = {  # by the part of the class name that is the same in every package that has them
    "Prodigy": ESTIMATING,
    "DAdapt": ESTIMATING,
    "ScheduleFree": (
        "stays constant after the warm-up, as averaging replaces the schedule: pass schedule='constant', attach no scheduler, and expect "
        "more than the usual peak"
    ),
}


def meaning_of(optimizer: str) -> str | None:
    """What the LR means, for an optimizer in the words of ``describe_optimizer``; None if it is the usual.

    Example:
        >>> meaning_of("SGDScheduleFree(momentum=0.9)").split(",")[0]
        'stays constant after the warm-up'
        >>> meaning_of("AdamW(weight_decay=0.01)") is None
        True
    """
    found = dict.fromkeys(text for part, text in MEANINGS.items() if part in optimizer)
    return "; ".join(found) or None
