"""Every constant of the suggestion rule, with its origin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RuleConstants:
    """Lengths in decades (log10 of the LR) where nothing else is said. "Fitted": on the fit half of the benchmark, docs/accuracy.md."""

    depth: float = 0.8  # share of the sweep's whole decrease that counts as "most" when the basin is read off
    smoothing: float = 1 / 3  # half-width of the triangle that smooths a sweep
    widest_half: float = 1.0  # at most so far right of the left edge lies the middle, where the sweep never broke

    lead: float = 3.0  # a fine sweep starts at least so far below the point where the coarse one ended,
    lead_left: float = 1.25  # and at least so far below the place where half of the decrease was reached
    lead_depth: float = 0.5  # that half
    beyond: float = 0.5  # and it ends so far above the place where the coarse one broke

    # Where the short trainings lie, about the middle of the basin: below, as the best LR of a training lies below that of a sweep.
    offsets: tuple[float, ...] = (-1.0, -0.5)
    fine_offsets: tuple[float, ...] = (-1.25, -1.0, -0.75, -0.5, -0.25)  # for a large budget
    lower_offsets: tuple[float, ...] = (-2.25, -1.75)  # its two more without a basin: a break does not say how far below it all is lost
    longer_offsets: tuple[float, ...] = (-1.0, -0.5, 0.0)  # of longer ones where the others hardly moved: far too low is what they mend
    extensions: int = 2  # further trainings at an end of the set, while the best one lies there
    blow_up: float = 3.0  # one ends when its running median exceeds this times its start: the first loss, or the score before if higher
    softness: float = 0.15  # share of the decrease a training may miss and still count for 1/e in the soft minimum

    from_sweep: float = -0.45  # from the middle of the basin to the best constant LR of ``reference_steps`` steps; fitted
    # From the soft minimum of short trainings to the best constant LR of as many steps: the loss rises faster above the best LR than
    # below, which draws the soft minimum down. For trainings of ``usual_training`` steps, and so much more for every tenfold length.
    from_trainings: float = 0.15  # fitted
    from_longer: float = 0.35  # fitted
    usual_training: int = 56  # that of the standard budget
    without_basin: float = -0.75  # the middle of short trainings lies so far from the break where no fall can be told from noise

    decaying: float = 0.30  # extra for the peak of a schedule that decays to zero; fitted
    steps: float = 0.30  # the best LR falls with the number of steps to this power on fresh data,
    epochs: float = 0.75  # and with the number of effective passes to this power where data are seen again and again
    passes: float = 8.0  # from which that sets in
    reference_steps: int = 200  # where the ``steps`` term is zero if there are no short trainings; else it is zero at their length
    largest_steps: int = 100_000  # beyond it the ``steps`` term is held; no longer training was in the fit
    batch_cap: int = 64  # samples of a batch that count towards passes: larger batches were not seen to over-fit faster
    largest_passes: float = 1000.0  # beyond it the ``epochs`` term is held


CONSTANTS = RuleConstants()
