"""Every constant of the suggestion rule, with its origin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RuleConstants:
    """Lengths in decades (log10 of the LR) where nothing else is said. "Fitted": on the fit half of the benchmark, docs/accuracy.md.

    Attributes:
        depth: Share of the sweep's whole decrease that counts as "most" when the basin is read off.
        smoothing: Half-width of the triangle that smooths a sweep.
        widest_half: At most so far right of the left edge lies the middle, where the sweep never broke.
        lead: A fine sweep starts at least so far below the point where the coarse one ended,
        lead_left: and at least so far below the place where half of the decrease was reached.
        lead_depth: That half.
        beyond: And it ends so far above the place where the coarse one broke.
        offsets: Where the short trainings lie, about the middle of the basin,
        fine_offsets: and where they lie for a large budget. Below the middle: the best LR of a training lies below that of a sweep.
        lower_offsets: Two more of a large budget if there is no basin: a break alone does not say how far below it a model is destroyed.
        longer_offsets: And those of longer ones, which are made where the others moved hardly anything: far too low is what they mend.
        extensions: Further trainings at an end of the set, while the best one lies there.
        blow_up: A training ends when its running median exceeds this times its start: the first loss, or the score before if higher.
        softness: Share of the decrease a training may miss and still count for 1/e in the soft minimum.
        from_sweep: From the middle of the basin to the best constant LR of ``reference_steps`` steps. Fitted.
        from_trainings: From the soft minimum of short trainings to the best constant LR of as many steps: the loss rises faster above the
            best LR than below, which draws the soft minimum down. For trainings of ``usual_training`` steps,
        from_longer: and so much more for every tenfold length. Fitted.
        usual_training: That of the standard budget.
        without_basin: Where no fall of the sweep can be told from noise: the middle of short trainings lies so far from the break.
        decaying: Extra for the peak of a schedule that decays to zero. Fitted.
        steps: The best LR falls with the number of steps to this power on fresh data.
        epochs: And with the number of effective passes to this power where data are seen again and again.
        passes: Effective passes from which that sets in.
        reference_steps: Where the ``steps`` term is zero if there are no short trainings; else it is zero at their length.
        largest_steps: Beyond it the ``steps`` term is held; no longer training was in the fit.
        batch_cap: Samples of a batch that count towards passes: larger batches were not seen to over-fit faster.
        largest_passes: Beyond it the ``epochs`` term is held.
    """

    depth: float = 0.8
    smoothing: float = 1 / 3
    widest_half: float = 1.0
    lead: float = 3.0
    lead_left: float = 1.25
    lead_depth: float = 0.5
    beyond: float = 0.5
    offsets: tuple[float, ...] = (-1.0, -0.5)
    fine_offsets: tuple[float, ...] = (-1.25, -1.0, -0.75, -0.5, -0.25)
    lower_offsets: tuple[float, ...] = (-2.25, -1.75)
    longer_offsets: tuple[float, ...] = (-1.0, -0.5, 0.0)
    extensions: int = 2
    blow_up: float = 3.0
    softness: float = 0.15
    from_sweep: float = -0.45
    from_trainings: float = 0.15
    from_longer: float = 0.35
    usual_training: int = 56
    without_basin: float = -0.75
    decaying: float = 0.30
    steps: float = 0.30
    epochs: float = 0.75
    passes: float = 8.0
    reference_steps: int = 200
    largest_steps: int = 100_000
    batch_cap: int = 64
    largest_passes: float = 1000.0


CONSTANTS = RuleConstants()
